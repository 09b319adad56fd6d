"""The words the grammars are made of: Chinese with its English."""

from __future__ import annotations

from typing import NamedTuple


class Noun(NamedTuple):
    """A countable thing: Chinese, its measure word, English singular and plural."""

    zh: str
    measure: str
    en: str
    plural: str


class Action(NamedTuple):
    """What somebody does: Chinese, and the English base, third person and past forms."""

    zh: str
    base: str
    third: str
    past: str


def _rows(text: str) -> list[list[str]]:
    return [row.strip().split("/") for row in text.replace("\n", " ").split(";") if row.strip()]


NAMES = [
    (zh, en)
    for zh, en in _rows(
        "小明/Ming; 小红/Hong; 小刚/Gang; 小丽/Li; 小华/Hua; 小军/Jun; 小芳/Fang; 小强/Qiang; 小美/Mei; 小东/Dong; 小雨/Yu; 小文/Wen"
    )
]

THINGS = [
    Noun(*row)
    for row in _rows("""苹果/个/apple/apples; 梨/个/pear/pears; 橘子/个/orange/oranges; 桃子/个/peach/peaches; 鸡蛋/个/egg/eggs; 面包/个/bun/buns;
书/本/book/books; 铅笔/支/pencil/pencils; 钢笔/支/pen/pens; 邮票/张/stamp/stamps; 卡片/张/card/cards; 照片/张/photo/photos; 气球/个/balloon/balloons;
花/朵/flower/flowers; 石头/块/stone/stones; 糖果/颗/candy/candies; 饼干/块/cookie/cookies; 杯子/个/cup/cups; 球/个/ball/balls; 硬币/枚/coin/coins""")
]

ACTIONS = [
    Action(*row)
    for row in _rows("""读书/read books/reads books/read books; 看电视/watch TV/watches TV/watched TV; 跑步/run/runs/ran; 游泳/swim/swims/swam;
唱歌/sing/sings/sang; 跳舞/dance/dances/danced; 画画/paint/paints/painted; 做饭/cook/cooks/cooked; 喝茶/drink tea/drinks tea/drank tea;
喝水/drink water/drinks water/drank water; 睡觉/sleep/sleeps/slept; 学习/study/studies/studied; 工作/work/works/worked; 休息/rest/rests/rested;
下棋/play chess/plays chess/played chess; 踢足球/play football/plays football/played football; 写信/write a letter/writes a letter/wrote a letter;
买东西/do some shopping/does some shopping/did some shopping; 拍照/take photos/takes photos/took photos; 种花/grow flowers/grows flowers/grew flowers;
听音乐/listen to music/listens to music/listened to music; 等朋友/wait for friends/waits for friends/waited for friends;
讲故事/tell stories/tells stories/told stories; 吃苹果/eat apples/eats apples/ate apples""")
]

PLACES = [
    (zh, en)
    for zh, en in _rows("""学校/at school; 公园/in the park; 家/at home; 图书馆/in the library; 医院/in the hospital; 商店/in the shop; 车站/at the station;
机场/at the airport; 教室/in the classroom; 办公室/in the office; 海边/by the sea; 河边/by the river; 花园/in the garden; 厨房/in the kitchen; 城市/in the city; 村子/in the village""")
]

SUBJECTS = [
    (zh, en, person)
    for zh, en, person in _rows("""我/I/1; 你/you/2; 他/he/3; 她/she/3; 我们/we/1; 他们/they/2; 我妈妈/my mother/3; 我爸爸/my father/3; 我的朋友/my friend/3; 老师/the teacher/3;
学生们/the students/2; 孩子们/the children/2; 医生/the doctor/3; 工人们/the workers/2""")
]

HABITS = [
    (zh, en)
    for zh, en in _rows(
        "每天/every day; 周末/on weekends; 早上/in the morning; 下午/in the afternoon; 晚上/in the evening"
    )
]
PAST = [
    (zh, en)
    for zh, en in _rows(
        "昨天/yesterday; 上个星期/last week; 去年/last year; 刚才/just now; 三天前/three days ago"
    )
]
FUTURE = [
    (zh, en)
    for zh, en in _rows(
        "明天/tomorrow; 下个星期/next week; 明年/next year; 后天/the day after tomorrow; 下个月/next month"
    )
]

CATEGORIES: dict[tuple[str, str], list[tuple[str, str]]] = {
    (zh, en): [(a, b) for a, b in (word.split("=") for word in words.split())]
    for zh, en, words in [
        (
            "水果",
            "fruits",
            "苹果=apples 香蕉=bananas 梨=pears 桃子=peaches 橘子=oranges 西瓜=melons 葡萄=grapes",
        ),
        ("动物", "animals", "猫=cats 狗=dogs 马=horses 牛=cows 鸟=birds 鱼=fish 老虎=tigers"),
        (
            "颜色",
            "colours",
            "红色=red 黄色=yellow 蓝色=blue 绿色=green 黑色=black 白色=white 紫色=purple",
        ),
        (
            "家具",
            "furniture",
            "桌子=tables 椅子=chairs 床=beds 柜子=cupboards 沙发=sofas 书架=shelves 凳子=stools",
        ),
        (
            "运动",
            "sports",
            "跑步=running 游泳=swimming 足球=football 篮球=basketball 网球=tennis 滑雪=skiing 骑车=cycling",
        ),
        (
            "蔬菜",
            "vegetables",
            "白菜=cabbages 土豆=potatoes 黄瓜=cucumbers 南瓜=pumpkins 豆角=beans 洋葱=onions 西红柿=tomatoes",
        ),
        (
            "饮料",
            "drinks",
            "茶=tea 水=water 牛奶=milk 咖啡=coffee 果汁=juice 豆浆=soymilk 可乐=cola",
        ),
        (
            "工具",
            "tools",
            "锤子=hammers 剪刀=scissors 刀=knives 锯=saws 尺子=rulers 针=needles 斧头=axes",
        ),
    ]
}

TOPICS = [
    (zh, en)
    for zh, en in _rows("""春天/spring; 夏天/summer; 秋天/autumn; 冬天/winter; 雨/rain; 雪/snow; 大海/the sea; 月亮/the moon; 太阳/the sun; 音乐/music; 友谊/friendship; 家乡/home;
学校/school; 老师/teachers; 书/books; 汤/soup; 猫/cats; 狗/dogs; 花/flowers; 山/mountains""")
]

HARMFUL = [
    (zh, en)
    for zh, en in _rows(
        "偷/steal; 砸坏/smash; 烧掉/burn down; 毁掉/destroy; 抢走/rob people of; 炸掉/blow up"
    )
]
HARMLESS = [
    (zh, en)
    for zh, en in _rows(
        "修理/repair; 清洗/clean; 购买/buy; 画出/draw; 保养/look after; 拍摄/photograph"
    )
]
OBJECTS = [
    (zh, en)
    for zh, en in _rows("""自行车/a bicycle; 汽车/a car; 电脑/a computer; 手机/a phone; 房子/a house; 桥/a bridge; 门/a door; 画/a painting; 手表/a watch; 钱包/a wallet; 相机/a camera;
船/a boat; 电视/a television; 桌子/a table; 雕像/a statue; 钢琴/a piano; 卡车/a truck; 帐篷/a tent; 灯/a lamp; 书店/a bookshop; 飞机/a plane; 花园/a garden; 火车/a train; 灯笼/a lantern; 镜子/a mirror; 沙发/a sofa; 窗户/a window; 冰箱/a fridge; 书架/a bookcase;
摩托车/a motorcycle; 帽子/a hat; 雨伞/an umbrella; 戒指/a ring; 风筝/a kite; 箱子/a suitcase; 栅栏/a fence""")
]

HANZI_NUMBERS = ["零", "一", "两", "三", "四", "五", "六"]
ENGLISH_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six"]
