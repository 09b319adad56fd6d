"""Word lists shared by the generators: everyday Chinese with English beside it."""

from __future__ import annotations

from typing import NamedTuple


class Noun(NamedTuple):
    """A countable thing: Chinese, measure word, English singular and plural."""

    zh: str
    measure: str
    en: str
    plural: str


class Action(NamedTuple):
    """A verb phrase: Chinese and the English base, third person, past and -ing forms."""

    zh: str
    base: str
    third: str
    past: str
    ing: str


def _plural(word: str) -> str:
    irregular = {
        "child": "children",
        "fish": "fish",
        "sheep": "sheep",
        "knife": "knives",
        "leaf": "leaves",
        "mouse": "mice",
        "goose": "geese",
        "loaf of bread": "loaves of bread",
        "tomato": "tomatoes",
        "potato": "potatoes",
        "mango": "mangoes",
        "shelf": "shelves",
        "scarf": "scarves",
    }
    if word in irregular:
        return irregular[word]
    for middle in (" of ",):
        if middle in word:
            head, tail = word.split(middle, 1)
            return f"{_plural(head)}{middle}{tail}"
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _nouns(text: str) -> list[Noun]:
    rows = [row.strip().split("/") for row in text.split(";") if row.strip()]
    return [Noun(zh, measure, en, _plural(en)) for zh, measure, en in rows]


THINGS = _nouns("""
苹果/个/apple; 梨/个/pear; 橘子/个/orange; 桃子/个/peach; 香蕉/根/banana; 西瓜/个/watermelon; 芒果/个/mango; 草莓/颗/strawberry;
柠檬/个/lemon; 鸡蛋/个/egg; 面包/个/loaf of bread; 蛋糕/块/cake; 饼干/块/cookie; 糖果/颗/candy; 巧克力/块/chocolate; 包子/个/bun;
饺子/个/dumpling; 西红柿/个/tomato; 土豆/个/potato; 黄瓜/根/cucumber; 胡萝卜/根/carrot; 白菜/棵/cabbage; 书/本/book; 故事书/本/storybook;
笔记本/本/notebook; 词典/本/dictionary; 杂志/本/magazine; 铅笔/支/pencil; 钢笔/支/pen; 彩笔/支/crayon; 橡皮/块/eraser; 尺子/把/ruler;
书包/个/schoolbag; 本子/个/exercise book; 邮票/张/stamp; 卡片/张/card; 贴纸/张/sticker; 照片/张/photo; 画/幅/picture; 票/张/ticket;
球/个/ball; 足球/个/football; 篮球/个/basketball; 气球/个/balloon; 风筝/只/kite; 玩具/个/toy; 玩具车/辆/toy car; 积木/块/block;
布娃娃/个/doll; 花/朵/flower; 玫瑰/朵/rose; 树/棵/tree; 苹果树/棵/apple tree; 叶子/片/leaf; 石头/块/stone; 贝壳/个/shell;
鸡/只/chicken; 鸭子/只/duck; 鹅/只/goose; 兔子/只/rabbit; 猫/只/cat; 狗/只/dog; 羊/只/sheep; 牛/头/cow; 猪/头/pig; 马/匹/horse;
鱼/条/fish; 金鱼/条/goldfish; 鸟/只/bird; 猴子/只/monkey; 熊猫/只/panda; 老虎/只/tiger; 蝴蝶/只/butterfly; 蜜蜂/只/bee;
桌子/张/table; 椅子/把/chair; 书桌/张/desk; 床/张/bed; 灯/盏/lamp; 钟/个/clock; 手表/块/watch; 杯子/个/cup; 碗/个/bowl; 盘子/个/plate;
瓶子/个/bottle; 盒子/个/box; 篮子/个/basket; 袋子/个/bag; 箱子/个/case; 雨伞/把/umbrella; 帽子/顶/hat; 衣服/件/coat; 衬衫/件/shirt;
裙子/条/skirt; 鞋子/双/pair of shoes; 袜子/双/pair of socks; 手套/双/pair of gloves; 围巾/条/scarf; 毛巾/条/towel; 手机/部/phone;
电脑/台/computer; 电视/台/television; 相机/台/camera; 汽车/辆/car; 自行车/辆/bicycle; 公共汽车/辆/bus; 卡车/辆/truck; 船/条/boat;
飞机/架/plane; 钥匙/把/key; 信/封/letter; 报纸/份/newspaper; 礼物/份/gift; 硬币/枚/coin; 球拍/个/racket; 零件/个/part; 灯笼/个/lantern""")

PEOPLE_NOUNS = _nouns("""学生/名/student; 老师/位/teacher; 医生/位/doctor; 工人/名/worker; 孩子/个/child; 男孩/个/boy; 女孩/个/girl;
朋友/个/friend; 司机/位/driver; 客人/位/guest; 农民/位/farmer; 护士/位/nurse; 游客/名/visitor; 同学/个/classmate""")

JOBS = _nouns("""学生/名/student; 老师/名/teacher; 医生/名/doctor; 工人/名/worker; 农民/名/farmer; 护士/名/nurse; 司机/名/driver; 工程师/名/engineer;
律师/名/lawyer; 作家/名/writer; 歌手/名/singer; 画家/名/painter; 厨师/名/cook; 警察/名/police officer; 记者/名/reporter; 科学家/名/scientist;
演员/名/actor; 商人/名/businessman; 经理/名/manager; 士兵/名/soldier""")

PLACES = dict(
    p.split("/")
    for p in """学校/the school;公园/the park;家/home;图书馆/the library;医院/the hospital;商店/the shop;超市/the supermarket;
银行/the bank;车站/the station;机场/the airport;饭店/the restaurant;教室/the classroom;办公室/the office;电影院/the cinema;博物馆/the museum;
动物园/the zoo;海边/the seaside;山上/the mountain;河边/the river;市场/the market;工厂/the factory;农村/the countryside;城市/the city;
邮局/the post office;体育馆/the gym;操场/the playground;花园/the garden;村子/the village;书店/the bookshop;公司/the company;北京/Beijing;
上海/Shanghai;广州/Guangzhou;中国/China;美国/America;英国/England;法国/France;日本/Japan;大学/the university;厨房/the kitchen""".replace(
        "\n", ""
    ).split(";")
)

_ACTIONS = """读书/read books; 看电视/watch TV; 写作业/do homework; 打篮球/play basketball; 踢足球/play football; 跑步/run; 游泳/swim;
唱歌/sing; 跳舞/dance; 画画/paint; 做饭/cook; 吃饭/eat; 吃早饭/have breakfast; 吃午饭/have lunch; 吃晚饭/have dinner; 喝茶/drink tea; 喝咖啡/drink coffee;
喝水/drink water; 喝牛奶/drink milk; 睡觉/sleep; 起床/get up; 学习/study; 学习英语/study English; 学习中文/study Chinese; 学习数学/study mathematics;
工作/work; 休息/rest; 散步/take a walk; 听音乐/listen to music; 弹钢琴/play the piano; 下棋/play chess; 看电影/watch a movie; 看报纸/read a newspaper;
写信/write a letter; 打电话/make a phone call; 买东西/do some shopping; 买水果/buy fruit; 买菜/buy vegetables; 洗衣服/wash clothes; 洗碗/wash the dishes;
打扫房间/clean the room; 帮助别人/help others; 照顾孩子/look after the children; 照顾老人/look after the old people; 等公共汽车/wait for the bus;
骑自行车/ride a bicycle; 开车/drive a car; 坐火车/take the train; 坐飞机/take a plane; 拍照/take photos; 种树/plant trees; 种花/grow flowers;
爬山/climb mountains; 钓鱼/go fishing; 旅行/travel; 开会/have a meeting; 上课/have classes; 写日记/keep a diary; 讲故事/tell stories; 玩游戏/play games;
放风筝/fly a kite; 养狗/keep a dog; 养猫/keep a cat; 修电脑/repair the computer; 做实验/do experiments; 见朋友/meet friends; 说英语/speak English;
说中文/speak Chinese; 吃苹果/eat apples; 吃面条/eat noodles; 吃饺子/eat dumplings; 包饺子/make dumplings; 上网/use the Internet; 写文章/write articles;
锻炼身体/take exercise; 打网球/play tennis; 打乒乓球/play table tennis; 回家/go home; 上学/go to school; 上班/go to work; 看医生/see a doctor"""
_IRREGULAR = {
    "read": "read",
    "do": "did",
    "run": "ran",
    "swim": "swam",
    "sing": "sang",
    "eat": "ate",
    "have": "had",
    "drink": "drank",
    "sleep": "slept",
    "get": "got",
    "take": "took",
    "write": "wrote",
    "make": "made",
    "buy": "bought",
    "ride": "rode",
    "drive": "drove",
    "grow": "grew",
    "go": "went",
    "keep": "kept",
    "tell": "told",
    "fly": "flew",
    "meet": "met",
    "speak": "spoke",
    "see": "saw",
}
_DOUBLED = {"run": "running", "swim": "swimming", "get": "getting"}


def third_person(verb: str) -> str:
    """Return the third person singular of a base verb."""
    if verb == "have":
        return "has"
    if verb.endswith(("s", "sh", "ch", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def past_tense(verb: str) -> str:
    """Return the past tense of a base verb."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb.endswith("e"):
        return verb + "d"
    return verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "ed"


def ing_form(verb: str) -> str:
    """Return the -ing form of a base verb."""
    if verb in _DOUBLED:
        return _DOUBLED[verb]
    return verb[:-1] + "ing" if verb.endswith("e") and not verb.endswith("ee") else verb + "ing"


def _action(row: str) -> Action:
    zh, base = row.strip().split("/")
    verb, _, rest = base.partition(" ")
    tail = " " + rest if rest else ""
    return Action(
        zh, base, third_person(verb) + tail, past_tense(verb) + tail, ing_form(verb) + tail
    )


ACTIONS = [_action(row) for row in _ACTIONS.split(";")]

ADJECTIVES = [
    tuple(row.split("/"))
    for row in """大/big/bigger;小/small/smaller;漂亮/beautiful/more beautiful;贵/expensive/more expensive;便宜/cheap/cheaper;
新/new/newer;旧/old/older;好/good/better;有趣/interesting/more interesting;重要/important/more important;干净/clean/cleaner;长/long/longer;
短/short/shorter;重/heavy/heavier;轻/light/lighter;可爱/cute/cuter;有用/useful/more useful;特别/special/more special;结实/strong/stronger;
普通/common/more common""".replace("\n", "").split(";")
]
MOODS = [
    tuple(row.split("/"))
    for row in """高/tall/taller;高兴/happy/happier;累/tired/more tired;忙/busy/busier;年轻/young/younger;聪明/clever/cleverer;友好/friendly/friendlier;
努力/hard-working/more hard-working;认真/careful/more careful;勇敢/brave/braver;安静/quiet/quieter;健康/healthy/healthier;善良/kind/kinder;强壮/strong/stronger""".replace(
        "\n", ""
    ).split(";")
]

SMALL_NAMES = "小明 小红 小华 小刚 小丽 小强 小芳 小军 小李 小王 小张 小林 小美 小东 小雨 小兰 小英 小亮 小玲 小杰 小龙 小梅 小云 小雪 小文 小光 小宇 小涛 小新 小乐 乐乐 明明 红红 丽丽 冬冬 东东 亮亮 芳芳 玲玲 兰兰 欢欢 豆豆 丁丁 圆圆 佳佳 笑笑 淘气 李明 王芳 张伟 刘洋 李华 王强 陈静 赵亮 周杰 吴昊".split()
FAMILY = "妈妈 爸爸 爷爷 奶奶 哥哥 姐姐 弟弟 妹妹 老师 同学 叔叔 阿姨 朋友 舅舅 姑姑".split()
ENGLISH_NAMES = dict(
    zip(
        "Tom Mary John Lucy Jack Anna Peter Lily Mike Jane Bob Alice Sam Emma David Kate Ben Amy Paul Sarah James Lisa Mark Linda Tim Helen George Susan Henry Julia Max Sophia Leo Grace Kevin Rose Jerry Ella Andy Nina Betty Carlos Maria Weng Natalia Janet Josh Carla Wendi Kylar Toula Eliza Billy Jim Tina Steve Laura Robert Jenny Frank".split(),
        "汤姆 玛丽 约翰 露西 杰克 安娜 彼得 莉莉 迈克 简 鲍勃 爱丽丝 山姆 艾玛 大卫 凯特 本 艾米 保罗 萨拉 詹姆斯 丽莎 马克 琳达 蒂姆 海伦 乔治 苏珊 亨利 朱莉娅 马克斯 索菲娅 利奥 格蕾丝 凯文 罗斯 杰瑞 埃拉 安迪 尼娜 贝蒂 卡洛斯 玛丽亚 翁 娜塔莉 珍妮特 乔希 卡拉 温迪 凯拉 图拉 伊丽莎 比利 吉姆 蒂娜 史蒂夫 劳拉 罗伯特 珍妮 弗兰克".split(),
        strict=False,
    )
)
PINYIN = dict(
    zip(
        "李明 王芳 张伟 刘洋 李华 王强 陈静 赵亮 小明 小红 小华 小刚 小丽 小李 小王".split(),
        [
            "Li Ming",
            "Wang Fang",
            "Zhang Wei",
            "Liu Yang",
            "Li Hua",
            "Wang Qiang",
            "Chen Jing",
            "Zhao Liang",
            "Xiao Ming",
            "Xiao Hong",
            "Xiao Hua",
            "Xiao Gang",
            "Xiao Li",
            "Xiao Li",
            "Xiao Wang",
        ],
        strict=False,
    )
)

SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀英霞平刚桂华建国志文玉兰红梅海燕春雪飞鹏辉宇浩然子轩欣怡雨婷佳慧晓东波斌凯琳颖丹萍健峰博思远嘉诚俊泽一凡天佑晨曦梓涵诗琪梦瑶林峰立新永康德胜家豪振华美玲淑贞云龙光荣世昌振中学良"
CITIES = "北京 上海 广州 深圳 天津 重庆 成都 武汉 南京 杭州 西安 苏州 长沙 青岛 大连 厦门 宁波 郑州 济南 沈阳 哈尔滨 长春 昆明 贵阳 南宁 福州 合肥 南昌 太原 石家庄 兰州 西宁 银川 拉萨 海口 三亚 香港 澳门 台北 洛阳 桂林 无锡 珠海 东莞 佛山 温州 烟台 扬州 敦煌 丽江".split()
COUNTRIES = "中国 美国 英国 法国 德国 日本 韩国 俄罗斯 印度 巴西 意大利 西班牙 加拿大 澳大利亚 埃及 泰国 越南 新加坡 马来西亚 荷兰 瑞士 瑞典".split()
WORLD_CITIES = "纽约 伦敦 巴黎 东京 柏林 莫斯科 首尔 罗马 悉尼 华盛顿 曼谷 开罗 马德里 维也纳 日内瓦 洛杉矶 旧金山 波士顿".split()
