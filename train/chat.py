"""Open Chinese instructions in eight categories, with replies."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from arithmetic import cmath_reply, drill, make_problem, zh_sum
from facts import RELATIONS, question_answer
from parallel import sentence_pair
from words import ACTIONS, CITIES, SMALL_NAMES, THINGS

Turn = tuple[str, str]


def _table(text: str) -> list[Turn]:
    return [(a.strip(), b.strip()) for a, b in (row.split("|") for row in text.strip().split("\n"))]


COMMON_SENSE = _table("""下雨天出门应该带什么|应该带雨伞，这样就不会被雨淋湿。
天冷的时候应该穿什么|应该穿厚衣服，比如棉衣和毛衣，这样可以保暖。
为什么夏天比冬天热|因为夏天太阳照得更直，白天也更长，地面得到的热量更多。
把冰块放在太阳下会怎么样|冰块会慢慢融化，变成水。
为什么要洗手|因为手上有细菌，洗手可以让我们少生病。
过马路时要注意什么|要看红绿灯，走斑马线，绿灯亮了再走。
杯子掉到地上可能会怎么样|杯子可能会摔碎，要小心不要被划伤。
鱼离开水会怎么样|鱼离开水以后不能呼吸，很快就会死去。
为什么不能在床上玩火|因为玩火很容易引起火灾，非常危险。
植物生长需要什么|植物生长需要阳光、空气、水和养分。
口渴了应该怎么办|口渴了应该喝水，最好喝温开水。
晚上为什么要开灯|因为晚上没有太阳，天很黑，开灯才能看清东西。
为什么要按时睡觉|因为睡眠可以让身体得到休息，第二天才有精神。
铁放在潮湿的地方会怎么样|铁会生锈，因为铁和水、氧气发生了反应。
着火了应该打什么电话|着火了应该打119，同时赶快离开危险的地方。
生病了应该怎么办|生病了应该多休息，多喝水，必要时去医院看医生。
为什么要每天刷牙|因为刷牙可以去掉牙齿上的食物和细菌，保护牙齿。
水烧到一百度会怎么样|水会沸腾，变成水蒸气。
为什么飞机上不能抽烟|因为飞机上抽烟很危险，也会影响别人的健康。
钥匙丢了进不了家门怎么办|可以先给家里人打电话，也可以找开锁的师傅帮忙。
为什么冬天的湖面会结冰|因为冬天气温低于零度，水就会结成冰。
为什么要节约用水|因为地球上可以饮用的淡水很少，每个人都应该节约用水。
为什么人不能在水里呼吸|因为人用肺呼吸，肺不能从水里得到氧气。
把盐放进水里会怎么样|盐会慢慢溶解，水会变咸。
牛奶放久了会怎么样|牛奶会变质发酸，不能再喝了。
出门忘记带手机怎么办|如果离家不远，可以回去拿；如果来不及，可以借别人的电话用。
为什么白天看不见星星|因为白天太阳光太亮，星星的光被盖住了。
吃饭前应该做什么|吃饭前应该先洗手。
汽车没有油了会怎么样|汽车没有油就开不动了，需要去加油站加油。
停电了怎么办|可以先点蜡烛或者用手电筒，再给电力公司打电话。
为什么公共场所不能大声说话|因为大声说话会影响别人，这样不礼貌。
小孩子为什么不能一个人去河里游泳|因为没有大人看护非常危险，可能会溺水。
为什么树叶在秋天会变黄|因为秋天叶绿素减少，叶子里的黄色就显出来了。
一斤棉花和一斤铁哪个重|一样重，因为它们都是一斤。
怎样让湿衣服变干|可以把衣服挂在有太阳和风的地方，水分就会蒸发。
考试前一天应该怎么做|应该复习重点内容，准备好文具，早点休息。""")

FREE = _table("""如何学好英语|学好英语要多听、多说、多读、多写。每天坚持背单词，读短文，和别人用英语交流，时间长了就会进步。
怎样保持身体健康|保持健康要吃得均衡，多吃蔬菜水果，每天运动，早睡早起，心情愉快。
如何保护环境|保护环境要从小事做起：节约用水用电，少用塑料袋，多种树，不乱扔垃圾。
请介绍一下北京|北京是中国的首都，有悠久的历史。这里有故宫、长城和天安门广场，每年吸引很多游客。
请介绍一下上海|上海是中国最大的城市，经济发达，交通方便。外滩和东方明珠是著名的景点。
请介绍一下长城|长城是中国古代的伟大建筑，长达两万多公里，是世界文化遗产。
请介绍一下春节|春节是中国最重要的传统节日。人们会贴春联、包饺子、放鞭炮，全家人一起吃团圆饭。
请介绍一下中秋节|中秋节在农历八月十五。这一天人们吃月饼、赏月亮，盼望全家团圆。
什么是人工智能|人工智能是让计算机像人一样学习和解决问题的技术，可以用在医疗、交通和教育等方面。
什么是光合作用|光合作用是植物利用阳光，把二氧化碳和水变成养分，并放出氧气的过程。
什么是互联网|互联网是把世界各地的计算机连接在一起的网络，人们可以用它交流和查找信息。
怎样提高写作能力|提高写作能力要多读书，多观察生活，多动笔练习，写完以后认真修改。
如何安排一天的时间|可以先列出要做的事，把重要的事放在前面，同时留出休息和运动的时间。
心情不好的时候怎么办|可以和朋友聊聊天，听听音乐，出去散散步，心情就会慢慢变好。
你是谁|我是一个用中文和英文训练的小型语言模型，可以回答一些简单的问题。
你好|你好！很高兴见到你，有什么可以帮你的吗？
你能做什么|我可以回答简单的问题，做简单的计算和翻译，也可以写短文和小诗。
读书有什么好处|读书可以增长知识，开阔眼界，还能让人心情平静。
运动有什么好处|运动可以增强体质，让人精神更好，还能减轻压力。
为什么要学习|学习可以让我们懂得更多知识，学会解决问题，将来更好地工作和生活。""")

SENTIMENT = [
    (
        "积极",
        "这家饭店的菜很好吃|我非常喜欢这部电影|今天玩得真开心|老师的表扬让我很高兴|这本书太精彩了|服务员很热情|这次旅行非常愉快|手机很好用，我很满意|快递很快，包装也好|房间干净，住得舒服",
    ),
    (
        "消极",
        "这家饭店的服务太差了|电影很无聊，浪费时间|今天真倒霉|我对这个结果很失望|手机用了两天就坏了|房间又脏又吵|等了一个小时还没上菜|东西太贵，质量也不好|快递慢，包装也破了|他说的话让我很难过",
    ),
]
AMBIGUOUS = _table("""咬死了猎人的狗|这句话有两种理解。一是狗是猎人的，它被咬死了；二是有一只狗，它咬死了猎人。
我看见他很高兴|这句话有两种理解。一是我看见他以后，我很高兴；二是我看见他的时候，他很高兴。
两个学校的老师|这句话有两种理解。一是老师一共有两个；二是老师来自两个学校。
他走了一个小时了|这句话有两种理解。一是他一直走路，走了一个小时；二是他离开已经一个小时了。
鸡不吃了|这句话有两种理解。一是鸡不再吃东西了；二是人不再吃鸡肉了。
我要炒鸡蛋|这句话有两种理解。一是我要做炒鸡蛋这件事；二是我想要一份叫炒鸡蛋的菜。
学习文件|这句话有两种理解。一是去学习这份文件；二是指用来学习的文件。
这个人谁都认识|这句话有两种理解。一是这个人认识所有的人；二是所有的人都认识这个人。
开刀的是他父亲|这句话有两种理解。一是他父亲是医生，给别人做手术；二是他父亲是病人，接受手术。
他背着妈妈做了很多事|这句话有两种理解。一是他不让妈妈知道，做了很多事；二是他把妈妈背在背上，做了很多事。
热爱人民的总理|这句话有两种理解。一是总理热爱人民；二是人们热爱人民的总理。
他想起来了|这句话有两种理解。一是他想到了以前的事；二是他想要起床。""")
VERSES = [
    ["春风吹绿柳", "细雨润新田"],
    ["燕子归来早", "桃花满院开"],
    ["明月照高楼", "清风送小舟"],
    ["秋风吹落叶", "大雁向南飞"],
    ["白雪满山川", "红梅独自开"],
    ["青山连碧水", "白鸟入云天"],
    ["夏日荷花美", "池塘蛙正鸣"],
    ["夜静星光亮", "风轻月色明"],
    ["小桥流水远", "古树落花香"],
    ["江水向东去", "孤帆天外来"],
    ["故乡千里外", "明月在心头"],
    ["朝阳升海上", "万物尽光辉"],
    ["竹影摇窗外", "书声入耳中"],
    ["黄叶随风舞", "寒霜满地银"],
    ["老友重相见", "举杯话旧年"],
    ["山高云雾绕", "路远马蹄轻"],
]
_VERSE_OF = {
    "春天": [0, 1],
    "秋天": [3, 13],
    "冬天": [4],
    "夏天": [6],
    "月亮": [2, 10],
    "山水": [5, 15],
    "夜晚": [7, 2],
    "故乡": [10, 8],
    "大海": [11, 9],
    "友谊": [14],
    "读书": [12],
    "雪": [4],
    "花": [1, 6],
    "风": [0, 3],
    "太阳": [11],
    "江河": [9, 8],
    "树": [12, 8],
    "雨": [0],
    "离别": [9, 15],
    "思念": [10, 7],
}
_ESSAY = {
    "春天": "春天来了，天气变暖了。小草从土里钻出来，桃花开了，燕子也飞回来了。孩子们在公园里放风筝，到处都是欢声笑语。我喜欢春天。",
    "夏天": "夏天到了，太阳火辣辣的。荷花在池塘里开放，知了在树上叫个不停。我们去河边游泳，吃又甜又凉的西瓜。夏天虽然热，却充满快乐。",
    "秋天": "秋天是收获的季节。树叶变黄了，一片一片落下来。田野里的稻子熟了，果园里的苹果红了。农民们忙着收割，脸上都是笑容。",
    "冬天": "冬天来了，天气很冷。雪花从天上飘下来，大地变成了白色。孩子们在雪地里堆雪人、打雪仗，玩得非常开心。",
    "妈妈": "我的妈妈很勤劳，也很温柔。她每天早上给我做早饭，晚上陪我写作业。我生病的时候，她一直照顾我。我爱我的妈妈。",
    "家乡": "我的家乡很美。那里有青青的山，清清的水，还有热情的人们。每到节日，大家都回到家里，一起吃饭聊天。我永远爱我的家乡。",
    "老师": "我的老师和蔼可亲。她上课很认真，常常用有趣的故事教我们知识。我们有困难时，她总是耐心地帮助我们。我非常尊敬她。",
    "朋友": "我有一个好朋友。我们一起上学，一起玩耍，一起学习。有困难的时候，我们互相帮助。有这样的朋友，我感到很幸福。",
    "雨": "下雨了，雨点打在窗户上，发出好听的声音。花草喝饱了水，变得更绿了。雨停以后，天空出现了一道美丽的彩虹。",
    "小猫": "我家有一只小猫，它的毛是白色的，眼睛又圆又亮。它喜欢吃鱼，也喜欢在太阳下睡觉。我放学回家，它总会跑来迎接我。",
}
_TALLER = [("高", "矮"), ("大", "小"), ("重", "轻"), ("快", "慢"), ("早到", "晚到")]
_CLASSES = [
    ("猫", "动物"),
    ("狗", "动物"),
    ("苹果", "水果"),
    ("香蕉", "水果"),
    ("玫瑰", "花"),
    ("麻雀", "鸟"),
    ("医生", "人"),
    ("学生", "人"),
    ("钢琴", "乐器"),
    ("汽车", "交通工具"),
    ("白菜", "蔬菜"),
    ("老虎", "动物"),
    ("荷花", "花"),
    ("火车", "交通工具"),
]
_QUALITIES = ["需要水", "很有用", "会变化", "值得爱护", "都有名字", "很常见"]


def common_sense(rng: Random) -> Turn:
    q, a = rng.choice(COMMON_SENSE)
    return q + "？", a


def logic(rng: Random) -> Turn:
    a, b, c = rng.sample(SMALL_NAMES, 3)
    kind = rng.randrange(4)
    if kind == 0:
        up, down = rng.choice(_TALLER)
        ask_up = rng.random() < 0.5
        who = a if ask_up else c
        word = up if ask_up else down
        return (
            f"{a}比{b}{up}，{b}比{c}{up}，谁最{word}？",
            f"{a}比{b}{up}，{b}比{c}{up}，所以{who}最{word}。",
        )
    if kind == 1:
        thing, kind_of = rng.choice(_CLASSES)
        quality = rng.choice(_QUALITIES)
        return (
            f"所有的{kind_of}{quality}，{thing}是{kind_of}，可以得出什么结论？",
            f"因为所有的{kind_of}{quality}，{thing}是{kind_of}，所以{thing}{quality}。",
        )
    if kind == 2:
        x, _y = rng.sample(ACTIONS, 2)
        return (
            f"如果下雨，{a}就在家{x.zh}。今天下雨了，{a}会做什么？",
            f"因为今天下雨了，所以{a}会在家{x.zh}。",
        )
    days = ["星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"]
    i, k = rng.randrange(7), rng.randint(1, 4)
    return f"今天是{days[i]}，{k}天后是星期几？", f"今天是{days[i]}，{k}天后是{days[(i + k) % 7]}。"


def knowledge(rng: Random) -> Turn:
    return rng.choice(FREE) if rng.random() < 0.3 else question_answer(rng)


def meaning(rng: Random) -> Turn:
    kind = rng.randrange(3)
    if kind == 0:
        label, rows = rng.choice(SENTIMENT)
        text = rng.choice(rows.split("|"))
        return rng.choice(
            [f"判断下面这句话的情感是积极还是消极：{text}。", f"“{text}”这句话表达了什么情感？"]
        ), f"这句话的情感是{label}的。"
    if kind == 1:
        a, b = rng.sample(SMALL_NAMES, 2)
        act, place = rng.choice(ACTIONS), rng.choice(CITIES)
        return rng.choice(
            [
                (f"“{a}和{b}在{place}{act.zh}”，他们在哪里？", f"他们在{place}。"),
                (f"“{a}昨天去{place}{act.zh}”，是谁去了{place}？", f"去{place}的是{a}。"),
                (
                    f"“{a}把{(t := rng.choice(THINGS)).zh}借给了{b}”，现在{t.zh}在谁那里？",
                    f"{t.zh}现在在{b}那里。",
                ),
            ]
        )
    relation = rng.choice([r for r in RELATIONS if r.subject in ("成语", "古汉语")])
    key, value = rng.choice(relation.rows)
    if relation.subject == "成语":
        return f"“{key}”是什么意思？", f"“{key}”的意思是{value}。"
    return _word_turn(rng, relation.statements[0], key, value)


def _word_turn(rng: Random, statement: str, key: str, value: str) -> Turn:
    name = "反义词" if "反义词" in statement else "近义词"
    return rng.choice([f"“{key}”的{name}是什么？", f"请写出“{key}”的{name}。"]), statement.format(
        k=key, v=value
    )


def calculation(rng: Random) -> Turn:
    if rng.random() < 0.6:
        sum_, value = drill(rng)
        text = zh_sum(sum_)
        return rng.choice(
            [f"{text}等于多少？", f"计算：{text}", f"请计算{text}的结果。", f"{text}=？"]
        ), f"{text}={value}。"
    problem = make_problem(rng)
    return problem.zh, cmath_reply(problem)


def writing(rng: Random) -> Turn:
    if rng.random() < 0.5:
        subject = rng.choice(list(_VERSE_OF))
        first = VERSES[rng.choice(_VERSE_OF[subject])]
        second = rng.choice([v for v in VERSES if v is not first])
        poem = f"{first[0]}，{first[1]}。\n{second[0]}，{second[1]}。"
        return rng.choice(
            [
                f"请写一首关于{subject}的诗。",
                f"以“{subject}”为题写一首五言诗。",
                f"写一首描写{subject}的小诗。",
            ]
        ), poem
    subject, essay = rng.choice(list(_ESSAY.items()))
    return rng.choice(
        [
            f"请写一段关于{subject}的短文。",
            f"以“{subject}”为题写一篇小作文。",
            f"请用几句话描写{subject}。",
        ]
    ), essay


def translation(rng: Random) -> Turn:
    zh, en = sentence_pair(rng)
    return rng.choice(
        [
            (f"把“{zh}”翻译成英文。", en),
            (f"把“{en}”翻译成中文。", zh),
            (f"请将下面的句子翻译成英文：{zh}", en),
            (f"请将下面的句子翻译成中文：{en}", zh),
        ]
    )


def ambiguity(rng: Random) -> Turn:
    text, reply = rng.choice(AMBIGUOUS)
    return rng.choice(
        [f"“{text}”这句话有几种理解？", f"请解释“{text}”的歧义。", f"“{text}”有什么不同的意思？"]
    ), reply


CATEGORIES: dict[str, Callable[[Random], Turn]] = {
    "常识推理": common_sense,
    "逻辑推理": logic,
    "知识问答": knowledge,
    "语义理解": meaning,
    "数值计算": calculation,
    "诗文写作": writing,
    "文本翻译": translation,
    "歧义理解": ambiguity,
}


def open_turn(rng: Random) -> Turn:
    """Draw an instruction of any category."""
    return rng.choice(list(CATEGORIES.values()))(rng)
