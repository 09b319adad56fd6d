"""Chinese-English sentence pairs from one shared grammar."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from words import (
    ACTIONS,
    ADJECTIVES,
    ENGLISH_NAMES,
    JOBS,
    MOODS,
    PEOPLE_NOUNS,
    PINYIN,
    PLACES,
    THINGS,
    Action,
    Noun,
)

Pair = tuple[str, str]
# Chinese, English subject, possessive in Chinese and English, 0 = I, 1 = third person singular, 2 = you and plural
Subject = tuple[str, str, str, int]

PRONOUNS: list[Subject] = [
    ("我", "I", "my", 0),
    ("你", "You", "your", 2),
    ("他", "He", "his", 1),
    ("她", "She", "her", 1),
    ("我们", "We", "our", 2),
    ("他们", "They", "their", 2),
]
KIN: list[Subject] = [
    (f"我{zh}", f"My {en}", "", 1)
    for zh, en in [
        ("妈妈", "mother"),
        ("爸爸", "father"),
        ("哥哥", "elder brother"),
        ("弟弟", "younger brother"),
        ("姐姐", "elder sister"),
        ("妹妹", "younger sister"),
        ("爷爷", "grandfather"),
        ("奶奶", "grandmother"),
        ("朋友", "friend"),
        ("老师", "teacher"),
        ("叔叔", "uncle"),
    ]
]
GROUPS: list[Subject] = [
    ("孩子们", "The children", "their", 2),
    ("学生们", "The students", "their", 2),
    ("工人们", "The workers", "their", 2),
    ("很多人", "Many people", "their", 2),
    ("老师", "The teacher", "", 1),
    ("那个男孩", "That boy", "his", 1),
    ("那个女孩", "That girl", "her", 1),
    ("这位医生", "This doctor", "", 1),
    ("经理", "The manager", "", 1),
]
HABITS = [
    ("每天", "every day"),
    ("每天早上", "every morning"),
    ("每天晚上", "every evening"),
    ("周末", "on weekends"),
    ("星期一", "on Monday"),
    ("星期五", "on Friday"),
    ("星期天", "on Sunday"),
    ("下午", "in the afternoon"),
    ("夏天", "in summer"),
    ("冬天", "in winter"),
    ("早上八点", "at eight in the morning"),
    ("晚上十点", "at ten at night"),
]
PASTS = [
    ("昨天", "yesterday"),
    ("昨天晚上", "last night"),
    ("上个星期", "last week"),
    ("上个月", "last month"),
    ("去年", "last year"),
    ("前天", "the day before yesterday"),
    ("今天早上", "this morning"),
    ("三天前", "three days ago"),
    ("去年夏天", "last summer"),
    ("上周末", "last weekend"),
    ("刚才", "just now"),
]
FUTURES = [
    ("明天", "tomorrow"),
    ("下个星期", "next week"),
    ("下个月", "next month"),
    ("明年", "next year"),
    ("今天晚上", "tonight"),
    ("后天", "the day after tomorrow"),
    ("明天早上", "tomorrow morning"),
    ("下周末", "next weekend"),
    ("今天下午", "this afternoon"),
]
DIGITS = [
    ("两", "two"),
    ("三", "three"),
    ("四", "four"),
    ("五", "five"),
    ("六", "six"),
    ("七", "seven"),
    ("八", "eight"),
    ("九", "nine"),
    ("十", "ten"),
    ("很多", "many"),
    ("几", "a few"),
]
WEATHER = [
    ("很好", "fine"),
    ("很热", "hot"),
    ("很冷", "cold"),
    ("很暖和", "warm"),
    ("很凉快", "cool"),
    ("不好", "bad"),
    ("晴朗", "sunny"),
]
WHERE = [
    ("在桌子上", "on the table"),
    ("在床上", "on the bed"),
    ("在房间里", "in the room"),
    ("在椅子下面", "under the chair"),
    ("在门后面", "behind the door"),
    ("在书包里", "in the schoolbag"),
    ("在盒子里", "in the box"),
    ("在窗户旁边", "by the window"),
    ("在树下", "under the tree"),
    ("在家里", "at home"),
    ("在车里", "in the car"),
]
COLOURS = [
    ("红色", "red"),
    ("蓝色", "blue"),
    ("绿色", "green"),
    ("白色", "white"),
    ("黑色", "black"),
    ("黄色", "yellow"),
]
FIXED: list[Pair] = [
    (zh, en)
    for zh, _, en in (
        r.partition("|")
        for r in """你好。|Hello.;早上好。|Good morning.;晚安。|Good night.;谢谢你。|Thank you.;谢谢你的帮助。|Thank you for your help.;对不起，我迟到了。|Sorry, I am late.;没关系。|It does not matter.;再见。|Goodbye.;
你叫什么名字？|What is your name?;你今年多大了？|How old are you?;你是哪国人？|Which country are you from?;现在几点了？|What time is it now?;今天星期几？|What day is it today?;祝你生日快乐。|Happy birthday to you.;新年快乐。|Happy New Year.;
我听不懂。|I do not understand.;请再说一遍。|Please say it again.;请进。|Please come in.;请坐。|Please sit down.;请等一下。|Please wait a moment.;洗手间在哪里？|Where is the toilet?;我迷路了。|I am lost.;我饿了。|I am hungry.;我渴了。|I am thirsty.;我生病了。|I am ill.;
我爱你。|I love you.;时间就是金钱。|Time is money.;知识就是力量。|Knowledge is power.;失败是成功之母。|Failure is the mother of success.;健康比财富更重要。|Health is more important than wealth.;太阳从东方升起。|The sun rises in the east.;地球围绕太阳转。|The earth goes around the sun.;
外面正在下雨。|It is raining outside.;昨天下雪了。|It snowed yesterday.;祝你好运。|Good luck to you.;好久不见。|Long time no see.;你最近怎么样？|How have you been recently?;我很好，谢谢。|I am fine, thank you.;不客气。|You are welcome.;长城是世界上最长的城墙。|The Great Wall is the longest wall in the world.;
北京是中国的首都。|Beijing is the capital of China.;春天来了，花开了。|Spring has come and the flowers are in bloom.;我同意你的看法。|I agree with you.;这是一个好主意。|This is a good idea.;火车什么时候开？|When does the train leave?;会议几点开始？|What time does the meeting start?;别担心。|Do not worry.;小心！|Be careful!""".replace(
            "\n", ""
        ).split(";")
    )
]


def subject(rng: Random) -> Subject:
    """Draw who the sentence is about."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(PRONOUNS)
    if kind < 0.58:
        return rng.choice(KIN)
    if kind < 0.72:
        return rng.choice(GROUPS)
    if kind < 0.87:
        en = rng.choice(list(ENGLISH_NAMES))
        return ENGLISH_NAMES[en], en, "", 1
    zh = rng.choice(list(PINYIN))
    return zh, PINYIN[zh], "", 1


def be(who: Subject) -> str:
    return ("am", "is", "are")[who[3]]


def was(who: Subject) -> str:
    return "were" if who[3] == 2 else "was"


def verb(who: Subject, base: str, third: str) -> str:
    return third if who[3] == 1 else base


def act(who: Subject, a: Action) -> str:
    return verb(who, a.base, a.third)


def article(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def amount(rng: Random, n: Noun) -> Pair:
    """Draw a number of things as (Chinese, English)."""
    if rng.random() < 0.3:
        return f"一{n.measure}{n.zh}", article(n.en)
    zh, en = rng.choice(DIGITS)
    return (f"很多{n.zh}" if zh == "很多" else f"{zh}{n.measure}{n.zh}"), f"{en} {n.plural}"


def lower(who: Subject) -> str:
    """Write a subject inside a sentence."""
    first = who[1].split()[0]
    return (
        who[1][0].lower() + who[1][1:]
        if first in {"You", "He", "She", "We", "They", "My", "The", "That", "This", "Many"}
        else who[1]
    )


def place(rng: Random) -> tuple[str, str, str, str]:
    """Draw a place: Chinese, English after "go", English after "be", bare English."""
    zh = rng.choice(list(PLACES))
    en = PLACES[zh]
    if en == "home":
        return zh, "home", "at home", "home"
    preposition = (
        "in"
        if en[0].isupper()
        or any(
            w in en
            for w in (
                "city",
                "country",
                "village",
                "classroom",
                "park",
                "garden",
                "kitchen",
                "office",
                "library",
            )
        )
        else "on"
        if "mountain" in en or "playground" in en
        else "at"
    )
    return zh, f"to {en}", f"{preposition} {en}", en


def clause(rng: Random) -> Pair:
    """A clause without its full stop; English starts with a capital where it stands first."""
    w, a, n, o = subject(rng), rng.choice(ACTIONS), rng.choice(THINGS), subject(rng)
    p = place(rng)
    adj, mood = rng.choice(ADJECTIVES), rng.choice(MOODS)
    h, q, f = rng.choice(HABITS), rng.choice(PASTS), rng.choice(FUTURES)
    some = amount(rng, n)
    one = rng.choice(["这", "那"])
    one_en = {"这": "This", "那": "That"}[one]
    some_people = amount(rng, rng.choice(PEOPLE_NOUNS))
    forms: list[Callable[[], Pair]] = [
        lambda: (f"{w[0]}{h[0]}{a.zh}", f"{w[1]} {act(w, a)} {h[1]}"),
        lambda: (f"{w[0]}{h[0]}在{p[0]}{a.zh}", f"{w[1]} {act(w, a)} {p[2]} {h[1]}"),
        lambda: (f"{q[0]}{w[0]}去了{p[0]}", f"{w[1]} went {p[1]} {q[1]}"),
        lambda: (f"{w[0]}{q[0]}在{p[0]}{a.zh}", f"{w[1]} {a.past} {p[2]} {q[1]}"),
        lambda: (f"{w[0]}喜欢{a.zh}", f"{w[1]} {verb(w, 'like', 'likes')} to {a.base}"),
        lambda: (f"{w[0]}不喜欢{a.zh}", f"{w[1]} {verb(w, 'do', 'does')} not like to {a.base}"),
        lambda: (f"{w[0]}喜欢{n.zh}", f"{w[1]} {verb(w, 'like', 'likes')} {n.plural}"),
        lambda: (f"{w[0]}有{some[0]}", f"{w[1]} {verb(w, 'have', 'has')} {some[1]}"),
        lambda: (f"{q[0]}{w[0]}买了{some[0]}", f"{w[1]} bought {some[1]} {q[1]}"),
        lambda: (f"{w[0]}想买{some[0]}", f"{w[1]} {verb(w, 'want', 'wants')} to buy {some[1]}"),
        lambda: (f"{one}{n.measure}{n.zh}很{adj[0]}", f"{one_en} {n.en} is very {adj[1]}"),
        lambda: (f"{w[0]}{mood[0] and '很' + mood[0]}", f"{w[1]} {be(w)} very {mood[1]}"),
        lambda: (f"{w[0]}比{o[0]}{mood[0]}", f"{w[1]} {be(w)} {mood[2]} than {lower(o)}"),
        lambda: (f"{f[0]}{w[0]}要去{p[0]}", f"{w[1]} {be(w)} going {p[1]} {f[1]}"),
        lambda: (f"{w[0]}{f[0]}会在{p[0]}{a.zh}", f"{w[1]} will {a.base} {p[2]} {f[1]}"),
        lambda: (f"{w[0]}想{a.zh}", f"{w[1]} {verb(w, 'want', 'wants')} to {a.base}"),
        lambda: (f"{w[0]}会{a.zh}", f"{w[1]} can {a.base}"),
        lambda: (f"{w[0]}应该{a.zh}", f"{w[1]} should {a.base}"),
        lambda: (f"{w[0]}正在{a.zh}", f"{w[1]} {be(w)} {a.ing}"),
        lambda: (f"{w[0]}正在{p[0]}{a.zh}", f"{w[1]} {be(w)} {a.ing} {p[2]}"),
        lambda: (f"{w[0]}没有{a.zh}", f"{w[1]} did not {a.base}"),
        lambda: (f"{w[0]}不会{a.zh}", f"{w[1]} cannot {a.base}"),
        lambda: (
            f"{p[0]}里有{some[0]}" if p[0] != "家" else f"家里有{some[0]}",
            f"There {'is' if some[1].startswith(('a ', 'an ')) and not some[1].startswith('a few') else 'are'} {some[1]} {p[2]}",
        ),
        lambda: (
            f"{one}{n.measure}{n.zh}{(v := rng.choice(WHERE))[0]}",
            f"{one_en} {n.en} is {v[1]}",
        ),
        lambda: (
            (f"{w[0]}是一名{(j := rng.choice(JOBS)).zh}", f"{w[1]} {be(w)} {article(j.en)}")
            if w[3] != 2
            else (f"{w[0]}在{p[0]}", f"{w[1]} are {p[2]}")
        ),
        lambda: (
            f"{one}{n.measure}{n.zh}是{(c := rng.choice(COLOURS))[0]}的",
            f"{one_en} {n.en} is {c[1]}",
        ),
        lambda: (f"{w[0]}在{p[0]}见到了{some_people[0]}", f"{w[1]} met {some_people[1]} {p[2]}"),
        lambda: (f"{rng.choice(['今天', '昨天'])}天气{rng.choice(WEATHER)[0]}", ""),
        lambda: (
            f"{w[0]}帮助{o[0]}{a.zh}",
            f"{w[1]} {verb(w, 'help', 'helps')} {object_form(o)} {a.base}",
        ),
        lambda: (f"{w[0]}给了{o[0]}{some[0]}", f"{w[1]} gave {object_form(o)} {some[1]}"),
        lambda: (f"{w[0]}在{p[0]}工作", f"{w[1]} {verb(w, 'work', 'works')} {p[2]}"),
        lambda: (
            f"{w[0]}经常和{o[0]}一起{a.zh}",
            f"{w[1]} often {act(w, a)} with {object_form(o)}",
        ),
        lambda: (
            f"{w[0]}学习中文已经{(y := rng.choice(DIGITS[:9]))[0]}年了",
            f"{w[1]} {verb(w, 'have', 'has')} studied Chinese for {y[1]} years",
        ),
        lambda: (
            f"{w[0]}觉得{n.zh}很{adj[0]}",
            f"{w[1]} {verb(w, 'think', 'thinks')} that {n.plural} are very {adj[1]}",
        ),
    ]
    zh, en = rng.choice(forms)()
    if not en:
        t = next(t for t in WEATHER if zh.endswith(t[0]))
        en = f"The weather {'is' if zh.startswith('今天') else 'was'} {t[1]} {'today' if zh.startswith('今天') else 'yesterday'}"
    return zh, en


def object_form(who: Subject) -> str:
    """Write a subject as an object."""
    return {"I": "me", "You": "you", "He": "him", "She": "her", "We": "us", "They": "them"}.get(
        who[1], lower(who)
    )


def uncapital(en: str) -> str:
    """Lower the first letter of a clause unless it is a name or I."""
    first = en.split()[0]
    return (
        en[0].lower() + en[1:]
        if first in {"You", "He", "She", "We", "They", "My", "The", "That", "This", "There", "Many"}
        else en
    )


def question(rng: Random) -> Pair:
    """Draw a question."""
    w, a, n = subject(rng), rng.choice(ACTIONS), rng.choice(THINGS)
    do = verb(w, "Do", "Does")
    p = place(rng)
    return rng.choice(
        [
            (f"{w[0]}喜欢{a.zh}吗？", f"{do} {lower(w)} like to {a.base}?"),
            (f"{w[0]}喜欢{n.zh}吗？", f"{do} {lower(w)} like {n.plural}?"),
            (f"{w[0]}在哪里？", f"Where {be(w)} {lower(w)}?"),
            (f"{w[0]}在做什么？", f"What {be(w)} {lower(w)} doing?"),
            (f"{w[0]}会{a.zh}吗？", f"Can {lower(w)} {a.base}?"),
            (f"这{n.measure}{n.zh}多少钱？", f"How much is this {n.en}?"),
            (f"去{p[0]}怎么走？", f"How can I get {p[1]}?"),
            (f"你有几{n.measure}{n.zh}？", f"How many {n.plural} do you have?"),
            (f"你什么时候去{p[0]}？", f"When will you go {p[1]}?"),
            (f"{w[0]}为什么{a.zh}？", f"Why {do.lower()} {lower(w)} {a.base}?"),
            ("你想吃什么？", "What do you want to eat?"),
            (f"请{a.zh}。", f"Please {a.base}."),
            (f"不要在{p[0]}{a.zh}。", f"Do not {a.base} {p[2]}."),
            (f"我们一起{a.zh}吧。", f"Let us {a.base} together."),
        ]
    )


def sentence_pair(rng: Random) -> Pair:
    """Draw a sentence in both languages."""
    kind = rng.random()
    if kind < 0.04:
        return rng.choice(FIXED)
    if kind < 0.17:
        return question(rng)
    zh, en = clause(rng)
    if kind < 0.8:
        return zh + "。", en + "."
    zh2, en2 = clause(rng)
    return rng.choice(
        [
            (f"{zh}，{zh2}。", f"{en}, and {uncapital(en2)}."),
            (f"{zh}，但是{zh2}。", f"{en}, but {uncapital(en2)}."),
            (f"因为{zh}，所以{zh2}。", f"Because {uncapital(en)}, {uncapital(en2)}."),
            (f"虽然{zh}，但是{zh2}。", f"Although {uncapital(en)}, {uncapital(en2)}."),
            (f"如果{zh}，{zh2}。", f"If {uncapital(en)}, {uncapital(en2)}."),
        ]
    )


def word_pair(rng: Random) -> Pair:
    """Draw a dictionary entry."""
    kind = rng.randrange(4)
    if kind == 0:
        n = rng.choice(THINGS + PEOPLE_NOUNS + JOBS)
        return n.zh, n.en
    if kind == 1:
        a = rng.choice(ACTIONS)
        return a.zh, a.base
    if kind == 2:
        zh, en, _ = rng.choice(ADJECTIVES + MOODS)
        return zh, en
    return rng.choice(list(PLACES.items()))


def english_prompt(en: str) -> str:
    return f"请把下面的英文翻译成中文，只写译文。\n英文：{en}\n中文："


def chinese_prompt(zh: str) -> str:
    return f"请把下面的中文翻译成英文，只写译文。\n中文：{zh}\n英文："
