"""Longer open instructions and replies, used in the second stage only."""

from __future__ import annotations

import itertools
from random import Random

from chat import AMBIGUOUS, COMMON_SENSE, FREE, VERSES, Turn
from facts import RELATIONS
from parallel import sentence_pair
from words import ACTIONS, CITIES, FAMILY, JOBS, SMALL_NAMES, THINGS

SUBJECTS = """读书 运动 友谊 诚信 勇气 时间 梦想 坚持 家庭 春天 夏天 秋天 冬天 故乡 大海 高山 月亮 星空 雨 雪 风 母亲 父亲 老师 同学 环境保护 垃圾分类 节约用水 低碳出行 人工智能 手机 互联网 电脑 机器人
睡眠 早餐 健康饮食 锻炼身体 学习方法 考试 作业 旅行 交通安全 消防安全 传统节日 春节 中秋节 端午节 茶 书法 京剧 长城 故宫 黄河 长江 丝绸之路 诗歌 音乐 电影 绘画 天气 地震 台风 洪水 植物 动物 森林 海洋 太阳 地球 空气 水 火 电 工作 理财 合作 竞争 沟通
礼貌 尊重 宽容 感恩 责任 失败 成功 压力 孤独 幸福 老人 孩子 邻居 图书馆 博物馆 公园 菜市场 火车站 夜市 小镇 老街 桥 灯塔 电梯 雨伞 眼镜 冰箱 自行车 地铁 钥匙 照片 信 日记""".split()
_OPEN = [
    "{x}和我们的生活关系很密切。",
    "说到{x}，很多人都有自己的体会。",
    "{x}是一个值得认真思考的话题。",
    "关于{x}，可以从几个方面来看。",
    "{x}虽然常见，却有很多值得了解的地方。",
]
_POINTS = [
    "它能让人学到新的东西",
    "它会影响我们每天的心情",
    "我们要用正确的方法去对待它",
    "需要大家一起努力才能做好",
    "遇到问题时要先弄清原因",
    "不同的人会有不同的看法",
    "小事做好了，大事才能做好",
    "要根据实际情况来选择",
    "不能只看眼前，还要想到以后",
    "平时多观察，就会有新的发现",
    "应该听取别人的意见",
    "做任何事都要有耐心",
    "要注意安全，不要着急",
    "它和自然环境有很大的关系",
    "温度、湿度和时间都会产生影响",
    "经常练习可以提高能力",
    "合理安排时间非常重要",
    "它给人们带来了方便",
]
_CLOSE = [
    "总之，只要用心去做，就会有好的结果。",
    "所以，我们应该重视{x}。",
    "这就是我对{x}的理解。",
    "总的来说，{x}值得我们认真对待。",
    "希望以上内容对你有帮助。",
]
_SCENES = [
    "清晨，阳光照在窗台上，一切都很安静。",
    "傍晚的时候，天边有一片红色的云。",
    "那一天，风轻轻地吹着，路边的树叶沙沙作响。",
    "夜深了，街上只有几盏灯还亮着。",
    "雨停了，空气里有泥土的味道。",
    "远处的山像一幅淡淡的画。",
]
_FEELINGS = [
    "看到{x}，我想起了小时候的事情。",
    "{x}让我的心里充满了温暖。",
    "我常常在{x}的陪伴下度过一个下午。",
    "每当想起{x}，我都会露出微笑。",
    "我慢慢地走近，仔细地看着{x}。",
    "{n}告诉我，{x}里藏着许多故事。",
    "我和{n}一起度过了这段难忘的时光。",
]
_ENDINGS = [
    "我想，这就是生活中最美好的样子。",
    "从那以后，我更加珍惜身边的一切。",
    "直到今天，我还记得那一刻。",
    "我会把这份感动永远留在心里。",
]


def view(rng: Random) -> Turn:
    """Explain something in general terms."""
    x = rng.choice(SUBJECTS)
    first, second, third = rng.sample(_POINTS, 3)
    prompt = rng.choice(
        [
            "请谈谈你对{x}的看法。",
            "请介绍一下{x}，并说明它为什么重要。",
            "请用几句话说明{x}的作用。",
            "为什么要重视{x}？请说出两三个理由。",
            "请结合生活，说说{x}给人们带来了什么。",
            "请解释{x}对我们有什么影响，并给出建议。",
            "请简要说明什么是{x}。",
        ]
    ).format(x=x)
    body = rng.choice(
        [
            f"第一，{first}；第二，{second}；第三，{third}。",
            f"首先，{first}。其次，{second}。最后，{third}。",
            f"一方面，{first}；另一方面，{second}。",
        ]
    )
    return prompt, rng.choice(_OPEN).format(x=x) + body + rng.choice(_CLOSE).format(x=x)


def prose(rng: Random) -> Turn:
    """Write a short piece about something."""
    x, n = rng.choice(SUBJECTS), rng.choice([*SMALL_NAMES, *FAMILY])
    length = rng.randint(2, 5)
    text = rng.choice(_SCENES) + "".join(f.format(x=x, n=n) for f in rng.sample(_FEELINGS, length))
    if length > 3:
        text += "\n" + rng.choice(_SCENES)
    prompt = rng.choice(
        [
            "请以“{x}”为题写一段散文。",
            "写一篇关于{x}的短文，不少于一百字。",
            "请写一段话描写{x}，语言要优美。",
            "请用“{x}”开头写一个小故事。",
            "请以{x}为主题写一段文字，要求感情真挚。",
        ]
    ).format(x=x)
    return prompt, text + rng.choice(_ENDINGS)


def poem(rng: Random) -> Turn:
    """Write a poem of four or eight lines."""
    x = rng.choice(SUBJECTS)
    lines = rng.sample(VERSES, rng.choice([2, 2, 4]))
    return rng.choice(
        [
            "请以“{x}”为题写一首古诗。",
            "写一首关于{x}的五言诗，要求押韵。",
            "请写一首描写{x}的诗，不少于四句。",
            "用诗的形式写一写{x}。",
        ]
    ).format(x=x), "\n".join(f"{a}，{b}。" for a, b in lines)


def passage(rng: Random) -> Turn:
    """Translate a passage of several sentences."""
    pairs = [sentence_pair(rng) for _ in range(rng.randint(2, 4))]
    zh, en = "".join(z for z, _ in pairs), " ".join(e for _, e in pairs)
    return rng.choice(
        [
            (f"请把下面这段话翻译成英文：\n{zh}", en),
            (f"请将以下内容翻译成通顺的英文：“{zh}”", en),
            (f"把下面的英文翻译成中文：\n{en}", zh),
            (f"请将这段英文翻译成自然的中文：{en}", zh),
            (f"将下面的句子译成英文，注意语气。\n{zh}", en),
        ]
    )


def two_readings(rng: Random) -> Turn:
    """Explain a sentence that can be read in two ways."""
    a, b = rng.sample(SMALL_NAMES, 2)
    t, j, act, place = rng.choice(THINGS), rng.choice(JOBS), rng.choice(ACTIONS), rng.choice(CITIES)
    known = rng.choice(AMBIGUOUS)
    k = rng.randint(2, 5)
    number = "两三四五"[k - 2]
    text, one, two = rng.choice(
        [
            (f"{a}和{b}的{t.zh}", f"{t.zh}是{a}和{b}两个人的", f"说的是{a}这个人，还有{b}的{t.zh}"),
            (
                f"{number}个{place}的{j.zh}",
                f"{j.zh}一共有{number}个，他们来自{place}",
                f"有{number}个叫{place}的地方，说的是那里的{j.zh}",
            ),
            (f"{a}看见{b}很高兴", f"{a}看见{b}以后，{a}很高兴", f"{a}看见{b}的时候，{b}很高兴"),
            (f"{a}借{b}一{t.measure}{t.zh}", f"{a}把{t.zh}借给了{b}", f"{a}从{b}那里借来了{t.zh}"),
            (
                f"{a}告诉{b}他的{t.zh}丢了",
                f"“他”指{a}，丢的是{a}的{t.zh}",
                f"“他”指{b}，丢的是{b}的{t.zh}",
            ),
            (
                f"{a}对{b}说他应该{act.zh}",
                f"“他”指{a}，{a}应该{act.zh}",
                f"“他”指{b}，{b}应该{act.zh}",
            ),
            (
                f"{a}在{place}看到了正在{act.zh}的{b}和{rng.choice(FAMILY)}",
                f"正在{act.zh}的只有{b}",
                f"两个人都在{act.zh}",
            ),
            (f"送给{a}的{t.zh}", f"一{t.measure}{t.zh}，它是送给{a}的", f"把{a}的{t.zh}送给别人"),
            (
                known[0],
                known[1].split("一是")[1].split("；")[0],
                known[1].split("二是")[1].rstrip("。"),
            ),
        ]
    )
    prompt = rng.choice(
        [
            "“{x}”这句话有歧义，请说明它的两种意思。",
            "下面的句子可以怎样理解？请分别说明。\n{x}",
            "请分析“{x}”的歧义，并说明原因。",
            "“{x}”有几种理解？请逐一解释。",
        ]
    ).format(x=text)
    return (
        prompt,
        f"“{text}”有两种理解。第一种理解是：{one}。第二种理解是：{two}。要根据上下文才能判断是哪一种意思。",
    )


def order(rng: Random) -> Turn:
    """Put three or four people in order."""
    people = rng.sample([*SMALL_NAMES, "甲", "乙", "丙", "丁"], rng.choice([3, 4]))
    more, most, least = rng.choice(
        [
            ("高", "最高", "最矮"),
            ("大", "年纪最大", "年纪最小"),
            ("快", "跑得最快", "跑得最慢"),
            ("重", "最重", "最轻"),
            ("早", "来得最早", "来得最晚"),
        ]
    )
    facts = [f"{a}比{b}{more}" for a, b in itertools.pairwise(people)]
    shuffled = rng.sample(facts, len(facts))
    ask, who = rng.choice([(most, people[0]), (least, people[-1])])
    return (
        f"{'，'.join(shuffled)}。请问谁{ask}？请写出推理过程。",
        f"根据条件，{'，'.join(facts)}。所以从{most[-1]}到{least[-1]}依次是{'、'.join(people)}。因此{who}{ask}。",
    )


def fact(rng: Random) -> Turn:
    """Answer a question about a fact at more length."""
    relation = rng.choice(RELATIONS)
    (key, value), (key2, value2) = rng.sample(relation.rows, 2)
    pattern = relation.statements[0]
    question = rng.choice(relation.questions).format(k=key)
    question = question if question.endswith("？") else question + "什么？"
    both = [p.format(k=k, v=v) for p in [pattern] for k, v in ((key, value), (key2, value2))]
    return (
        f"请回答下面的问题，并补充一个相关的知识：{question}",
        f"答案是{value}。{both[0]}另外，{both[1]}",
    )


def why(rng: Random) -> Turn:
    """Answer an everyday question with some politeness around it."""
    q, a = rng.choice(COMMON_SENSE + FREE)
    n = rng.choice(SMALL_NAMES)
    prompt = rng.choice(
        [
            "{n}想知道：{q}？请你告诉他原因。",
            "生活中常有这样的问题：{q}？请简单解释。",
            "{q}？请说明理由。",
            "请回答：{q}？",
        ]
    ).format(n=n, q=q)
    return prompt, a + rng.choice(
        [
            "",
            "",
            "在生活中，我们要多观察、多思考。",
            "平时注意这些小事，就能避免很多麻烦。",
            "如果还有疑问，可以再查一查资料。",
        ]
    )


def long_turn(rng: Random) -> Turn:
    """Draw one longer instruction."""
    return rng.choice(
        [view, view, prose, poem, passage, passage, two_readings, two_readings, order, fact, why]
    )(rng)
