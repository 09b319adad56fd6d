"""Arithmetic word problems with worked steps, in Chinese and English."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from words import ENGLISH_NAMES, FAMILY, SMALL_NAMES, THINGS, Noun


class Step(NamedTuple):
    """One line of working: what is found, in both languages, and the sum."""

    zh: str
    en: str
    sum: str
    result: int


class Problem(NamedTuple):
    """A question in both languages, its working, the unit and the answer."""

    zh: str
    en: str
    unit: str
    steps: list[Step]

    @property
    def answer(self) -> int:
        return self.steps[-1].result


Cast = tuple[str, str, str, str, Noun]


def number(rng: Random, low: int, high: int) -> int:
    """Draw a number, small ones more often."""
    if high >= 40 and rng.random() < 0.08:
        return 10 * rng.randint(1, 50)
    return rng.randint(
        low, rng.choice([min(high, low + 9), min(high, low + 9), min(high, low + 20), high])
    )


def cast(rng: Random) -> Cast:
    """Draw two names in each language and a thing."""
    a, b = rng.sample(SMALL_NAMES, 2)
    if rng.random() < 0.5:
        b = rng.choice(FAMILY)
    x, y = rng.sample(list(ENGLISH_NAMES), 2)
    if rng.random() < 0.2:
        a, b = ENGLISH_NAMES[x], ENGLISH_NAMES[y]
    return a, b, x, y, rng.choice(THINGS)


def count(n: int, thing: Noun) -> str:
    """Write a number of things in English."""
    return f"{n} {thing.en if n == 1 else thing.plural}"


SPOTS = "树上 停车场里 盘子里 池塘里 草地上 书架上 花瓶里 冰箱里 教室里 操场上 车上 桌子上 篮子里 仓库里 花园里 鱼缸里 果园里 图书角 水果店 河里 院子里 箱子里 口袋里 文具店".split()
COMING = "又飞来 又开来 又跑来 又游来 又运来 又来了 又拿来 又放进 又捡了 又摘了 又折了 又画了 又种了 又做了 又得到 又买来 又借来 又收到 又添了 又捉了".split()
GOING = "飞走了 开走了 跑走了 游走了 运走了 离开了 拿走了 用掉了 吃掉了 卖掉了 送出了 借出了 摘掉了 打碎了 送给同桌 送给朋友 送给邻居 捐出了 丢掉了 取走了".split()


def add(rng: Random) -> Problem:
    a, b, x, y, t = cast(rng)
    spot, come = rng.choice([*SPOTS, a]), rng.choice(COMING)
    p, q = number(rng, 1, 60), number(rng, 1, 40)
    zh = rng.choice(
        [
            f"{a}有{p}{t.measure}{t.zh}，{b}又给了他{q}{t.measure}，{a}现在一共有多少{t.measure}{t.zh}？",
            f"{a}有{p}{t.measure}{t.zh}，又买了{q}{t.measure}，现在有多少{t.measure}{t.zh}？",
            f"{a}有{p}{t.measure}{t.zh}，{b}有{q}{t.measure}{t.zh}，他们一共有多少{t.measure}{t.zh}？",
            f"{a}上午买了{p}{t.measure}{t.zh}，下午买了{q}{t.measure}{t.zh}，一共买了多少{t.measure}？",
            f"商店里有{p}{t.measure}{t.zh}，又运来{q}{t.measure}，现在有多少{t.measure}{t.zh}？",
            f"盒子里有{p}{t.measure}{t.zh}，{a}又放进去{q}{t.measure}，盒子里现在有几{t.measure}{t.zh}？",
            f"{spot}有{p}{t.measure}{t.zh}，{come}{q}{t.measure}，现在一共有多少{t.measure}{t.zh}？",
            f"{spot}原来有{p}{t.measure}{t.zh}，{come}{q}{t.measure}，现在有几{t.measure}？",
            f"{spot}有{p}{t.measure}红{t.zh}和{q}{t.measure}黄{t.zh}，一共有多少{t.measure}{t.zh}？",
            f"左边有{p}{t.measure}{t.zh}，右边有{q}{t.measure}{t.zh}，一共有多少{t.measure}？",
            f"{a}第一天做了{p}{t.measure}{t.zh}，第二天做了{q}{t.measure}，两天一共做了多少{t.measure}？",
        ]
    )
    en = rng.choice(
        [
            f"{x} has {count(p, t)}. {y} gives {x} {q} more. How many {t.plural} does {x} have now?",
            f"{x} has {count(p, t)} and {y} has {count(q, t)}. How many {t.plural} do they have in total?",
            f"{x} bought {count(p, t)} in the morning and {count(q, t)} in the afternoon. How many {t.plural} did {x} buy altogether?",
            f"There are {count(p, t)} in a box. {x} puts in {q} more. How many {t.plural} are in the box now?",
        ]
    )
    return Problem(zh, en, t.measure, [Step("一共有", "In total there are", f"{p}+{q}", p + q)])


def take(rng: Random) -> Problem:
    a, b, x, y, t = cast(rng)
    q = number(rng, 1, 40)
    p = q + number(rng, 1, 50)
    spot, go = rng.choice([*SPOTS, a]), rng.choice(GOING)
    verb = rng.choice("吃了 用了 送走了 丢了 卖了 拿走了 坏了 借走了".split())
    zh = rng.choice(
        [
            f"{a}有{p}{t.measure}{t.zh}，给了{b}{q}{t.measure}，还剩多少{t.measure}{t.zh}？",
            f"{a}有{p}{t.measure}{t.zh}，{verb}{q}{t.measure}，还剩几{t.measure}？",
            f"商店里有{p}{t.measure}{t.zh}，卖出{q}{t.measure}，还剩下多少{t.measure}{t.zh}？",
            f"{spot}有{p}{t.measure}{t.zh}，{go}{q}{t.measure}，还剩多少{t.measure}{t.zh}？",
            f"{spot}原来有{p}{t.measure}{t.zh}，{go}{q}{t.measure}，现在还有几{t.measure}？",
            f"{a}折了{p}{t.measure}{t.zh}，{go}{q}{t.measure}，还剩几{t.measure}{t.zh}？",
            f"一共有{p}{t.measure}{t.zh}，{a}{verb}{q}{t.measure}，还有多少{t.measure}？",
        ]
    )
    en = rng.choice(
        [
            f"{x} has {count(p, t)}. {x} gives {q} to {y}. How many {t.plural} does {x} have left?",
            f"A shop has {count(p, t)} and sells {q} of them. How many {t.plural} are left?",
            f"There were {count(p, t)} on the table. {x} took {q}. How many {t.plural} remain?",
        ]
    )
    return Problem(zh, en, t.measure, [Step("还剩", "The number left is", f"{p}-{q}", p - q)])


def groups(rng: Random) -> Problem:
    a, _, x, _, t = cast(rng)
    p, q = rng.randint(2, 12), rng.randint(2, 10)
    zh = rng.choice(
        [
            f"每{rng.choice('盒袋箱包篮盘')}{t.zh}有{p}{t.measure}，{a}买了{q}份，一共有多少{t.measure}{t.zh}？",
            f"{rng.choice(SPOTS)}摆了{q}行{t.zh}，每行{p}{t.measure}，一共有多少{t.measure}？",
            f"每个盒子里有{p}{t.measure}{t.zh}，{q}个盒子里一共有多少{t.measure}{t.zh}？",
            f"{a}每天做{p}{t.measure}{t.zh}，{q}天一共做多少{t.measure}？",
            f"一个班有{q}个小组，每组分到{p}{t.measure}{t.zh}，一共需要多少{t.measure}{t.zh}？",
            f"教室里有{q}排桌子，每排{p}张，一共有多少张桌子？",
            f"{a}买了{q}袋{t.zh}，每袋有{p}{t.measure}，一共有多少{t.measure}？",
        ]
    )
    en = rng.choice(
        [
            f"Each box holds {count(p, t)}. How many {t.plural} are in {q} boxes?",
            f"{x} buys {q} bags with {count(p, t)} in each bag. How many {t.plural} does {x} buy?",
            f"{x} makes {count(p, t)} every day. How many {t.plural} does {x} make in {q} days?",
        ]
    )
    unit = "张" if "桌子，" not in zh and "排桌子" in zh else t.measure
    return Problem(zh, en, unit, [Step("一共有", "In total there are", f"{p}*{q}", p * q)])


def share(rng: Random) -> Problem:
    a, _, x, _, t = cast(rng)
    q, r = rng.randint(2, 9), rng.randint(2, 12)
    p = q * r
    zh = rng.choice(
        [
            f"把{p}{t.measure}{t.zh}平均分给{q}个小朋友，每人分到多少{t.measure}？",
            f"{a}有{p}{t.measure}{t.zh}，平均放在{q}个盒子里，每个盒子放几{t.measure}？",
            f"老师把{p}{t.measure}{t.zh}平均分给{q}个组，每组有多少{t.measure}{t.zh}？",
        ]
    )
    en = rng.choice(
        [
            f"{x} shares {count(p, t)} equally among {q} children. How many {t.plural} does each child get?",
            f"{x} puts {count(p, t)} into {q} boxes equally. How many {t.plural} are in each box?",
        ]
    )
    return Problem(zh, en, t.measure, [Step("每份有", "Each one gets", f"{p}/{q}", r)])


def price(rng: Random) -> Problem:
    a, _, x, _, t = cast(rng)
    p, q = rng.randint(2, 12), rng.randint(2, 9)
    total = p * q
    if rng.random() < 0.5:
        zh = rng.choice(
            [
                f"一{t.measure}{t.zh}{p}元，{a}买了{q}{t.measure}，一共要多少元？",
                f"每{t.measure}{t.zh}{p}元，买{q}{t.measure}需要多少钱？",
            ]
        )
        en = rng.choice(
            [
                f"A {t.en} costs ${p}. How much do {count(q, t)} cost?",
                f"{x} buys {count(q, t)} for ${p} each. How much does {x} pay in dollars?",
            ]
        )
        return Problem(zh, en, "元", [Step("一共要", "The total cost is", f"{p}*{q}", total)])
    paid = rng.choice([n for n in (10, 20, 50, 100, 200) if n > total])
    zh = rng.choice(
        [
            f"一{t.measure}{t.zh}{p}元，{a}买了{q}{t.measure}，付了{paid}元，应找回多少元？",
            f"{a}有{paid}元，买了{q}{t.measure}{t.zh}，每{t.measure}{p}元，还剩多少元？",
        ]
    )
    en = rng.choice(
        [
            f"{x} buys {count(q, t)} for ${p} each and pays with ${paid}. How much change does {x} get?",
            f"{x} has ${paid}. {x} buys {count(q, t)} at ${p} each. How many dollars does {x} have left?",
        ]
    )
    return Problem(
        zh,
        en,
        "元",
        [
            Step("一共花了", "The total cost is", f"{p}*{q}", total),
            Step("还剩", "The money left is", f"{paid}-{total}", paid - total),
        ],
    )


def more(rng: Random) -> Problem:
    a, b, x, y, t = cast(rng)
    p, q = number(rng, 2, 40), number(rng, 1, 20)
    less = rng.random() < 0.4 and p > q
    r = p - q if less else p + q
    zh = f"{a}有{p}{t.measure}{t.zh}，{b}比{a}{'少' if less else '多'}{q}{t.measure}，"
    en = f"{x} has {count(p, t)}. {y} has {q} {'fewer' if less else 'more'} than {x}. "
    first = Step(f"{b}有", f"{y} has", f"{p}{'-' if less else '+'}{q}", r)
    if rng.random() < 0.5:
        return Problem(
            zh + f"{b}有多少{t.measure}{t.zh}？",
            en + f"How many {t.plural} does {y} have?",
            t.measure,
            [first],
        )
    return Problem(
        zh + f"他们一共有多少{t.measure}？",
        en + f"How many {t.plural} do they have in total?",
        t.measure,
        [first, Step("一共有", "In total they have", f"{p}+{r}", p + r)],
    )


def times(rng: Random) -> Problem:
    a, b, x, y, t = cast(rng)
    p, q = rng.randint(2, 12), rng.randint(2, 6)
    word = {2: "twice as many"}.get(q, f"{q} times as many")
    zh = f"{a}有{p}{t.measure}{t.zh}，{b}的{t.zh}是{a}的{q}倍，"
    en = f"{x} has {count(p, t)}. {y} has {word} {t.plural} as {x}. "
    first = Step(f"{b}有", f"{y} has", f"{p}*{q}", p * q)
    if rng.random() < 0.5:
        return Problem(
            zh + f"{b}有多少{t.measure}{t.zh}？",
            en + f"How many {t.plural} does {y} have?",
            t.measure,
            [first],
        )
    return Problem(
        zh + f"两人一共有多少{t.measure}？",
        en + f"How many {t.plural} do they have altogether?",
        t.measure,
        [first, Step("一共有", "In total they have", f"{p}+{p * q}", p + p * q)],
    )


def differ(rng: Random) -> Problem:
    a, b, x, y, t = cast(rng)
    q = number(rng, 1, 40)
    d = number(rng, 1, 30)
    p = q + d
    zh = rng.choice(
        [
            f"{a}有{p}{t.measure}{t.zh}，{b}有{q}{t.measure}，{a}比{b}多几{t.measure}？",
            f"{a}有{q}{t.measure}{t.zh}，{b}有{p}{t.measure}，{a}比{b}少多少{t.measure}？",
        ]
    )
    en = f"{x} has {count(p, t)} and {y} has {count(q, t)}. How many more {t.plural} does {x} have than {y}?"
    return Problem(zh, en, t.measure, [Step("相差", "The difference is", f"{p}-{q}", d)])


def add_take(rng: Random) -> Problem:
    a, b, x, y, t = cast(rng)
    p, q = number(rng, 2, 40), number(rng, 1, 30)
    r = rng.randint(1, p + q - 1)
    zh = rng.choice(
        [
            f"{a}有{p}{t.measure}{t.zh}，{b}又给了他{q}{t.measure}，后来他送给同学{r}{t.measure}，还剩多少{t.measure}？",
            f"公共汽车上有{p}人，到站后上来{q}人，下去{r}人，现在车上有多少人？",
            f"{a}有{p}{t.measure}{t.zh}，又买了{q}{t.measure}，用了{r}{t.measure}，现在还有多少{t.measure}？",
        ]
    )
    en = rng.choice(
        [
            f"{x} has {count(p, t)}. {y} gives {x} {q} more, and then {x} loses {r}. How many {t.plural} does {x} have now?",
            f"A shop had {count(p, t)}. It got {q} more and sold {r}. How many {t.plural} does the shop have now?",
        ]
    )
    return Problem(
        zh,
        en,
        "人" if "汽车上有" in zh else t.measure,
        [
            Step("先有", "First there are", f"{p}+{q}", p + q),
            Step("还剩", "Then there are", f"{p + q}-{r}", p + q - r),
        ],
    )


def groups_take(rng: Random) -> Problem:
    a, _, x, _, t = cast(rng)
    p, q = rng.randint(2, 10), rng.randint(2, 9)
    r = rng.randint(1, p * q - 1)
    plus = rng.random() < 0.4
    s = p * q + r if plus else p * q - r
    zh = f"{a}有{q}盒{t.zh}，每盒{p}{t.measure}，" + (
        f"{rng.choice(FAMILY)}又给了{r}{t.measure}，现在一共有多少{t.measure}？"
        if plus
        else f"{rng.choice(GOING)}{r}{t.measure}，还剩多少{t.measure}？"
        if rng.random() < 0.5
        else f"用掉了{r}{t.measure}，还剩多少{t.measure}？"
    )
    en = f"{x} has {q} boxes with {count(p, t)} in each. " + (
        f"{x} finds {r} more. How many {t.plural} does {x} have now?"
        if plus
        else f"{x} gives away {r}. How many {t.plural} are left?"
    )
    return Problem(
        zh,
        en,
        t.measure,
        [
            Step("盒子里有", "The boxes hold", f"{p}*{q}", p * q),
            Step(
                "一共有" if plus else "还剩", "So there are", f"{p * q}{'+' if plus else '-'}{r}", s
            ),
        ],
    )


def pages(rng: Random) -> Problem:
    a, _, x, _, _ = cast(rng)
    p, q = rng.randint(2, 12), rng.randint(2, 9)
    r = number(rng, 1, 60)
    if rng.random() < 0.4:
        return Problem(
            f"一本书有{p * q}页，{a}每天看{p}页，几天可以看完？",
            f"A book has {p * q} pages. {x} reads {p} pages a day. How many days does {x} need to finish it?",
            "天",
            [Step("需要", "The number of days is", f"{p * q}/{p}", q)],
        )
    return Problem(
        f"一本书有{p * q + r}页，{a}每天看{p}页，看了{q}天，还剩多少页没看？",
        f"A book has {p * q + r} pages. {x} reads {p} pages a day for {q} days. How many pages are left?",
        "页",
        [
            Step("已经看了", "The pages read are", f"{p}*{q}", p * q),
            Step("还剩", "The pages left are", f"{p * q + r}-{p * q}", r),
        ],
    )


def travel(rng: Random) -> Problem:
    p, q = rng.choice([4, 5, 10, 20, 30, 40, 50, 60, 80]), rng.randint(2, 9)
    car, en_car = rng.choice(
        [
            ("一辆汽车", "A car"),
            ("一列火车", "A train"),
            ("小明骑车", "Tom"),
            ("一艘船", "A boat"),
            ("一辆卡车", "A truck"),
        ]
    )
    if rng.random() < 0.6:
        return Problem(
            f"{car}每小时行{p}千米，{q}小时行多少千米？",
            f"{en_car} travels {p} miles an hour. How many miles does it travel in {q} hours?",
            "千米",
            [Step("一共行", "The distance is", f"{p}*{q}", p * q)],
        )
    return Problem(
        f"{car}{q}小时行了{p * q}千米，平均每小时行多少千米？",
        f"{en_car} travels {p * q} miles in {q} hours. How many miles does it travel in one hour?",
        "千米",
        [Step("每小时行", "The speed is", f"{p * q}/{q}", p)],
    )


def shape(rng: Random) -> Problem:
    p, q = rng.randint(3, 12), rng.randint(2, 9)
    kind = rng.randrange(4)
    if kind == 0:
        return Problem(
            f"一个长方形长{p}厘米，宽{q}厘米，面积是多少平方厘米？",
            f"A rectangle is {p} cm long and {q} cm wide. What is its area?",
            "平方厘米",
            [Step("面积是", "The area is", f"{p}*{q}", p * q)],
        )
    if kind == 1:
        return Problem(
            f"一个长方形长{p}厘米，宽{q}厘米，周长是多少厘米？",
            f"A rectangle is {p} cm long and {q} cm wide. What is its perimeter?",
            "厘米",
            [
                Step("长加宽是", "Length plus width is", f"{p}+{q}", p + q),
                Step("周长是", "The perimeter is", f"{p + q}*2", 2 * (p + q)),
            ],
        )
    if kind == 2:
        return Problem(
            f"一个正方形的边长是{p}厘米，周长是多少厘米？",
            f"A square has a side of {p} cm. What is its perimeter?",
            "厘米",
            [Step("周长是", "The perimeter is", f"{p}*4", 4 * p)],
        )
    return Problem(
        f"一个正方形的边长是{p}米，面积是多少平方米？",
        f"A square has a side of {p} m. What is its area?",
        "平方米",
        [Step("面积是", "The area is", f"{p}*{p}", p * p)],
    )


def half(rng: Random) -> Problem:
    a, b, x, y, t = cast(rng)
    p = 2 * rng.randint(1, 30)
    zh, en = (
        f"{a}有{p}{t.measure}{t.zh}，{b}的{t.zh}是{a}的一半，",
        f"{x} has {count(p, t)}. {y} has half as many {t.plural} as {x}. ",
    )
    first = Step(f"{b}有", f"{y} has", f"{p}/2", p // 2)
    if rng.random() < 0.4:
        return Problem(
            zh + f"{b}有多少{t.measure}{t.zh}？",
            en + f"How many {t.plural} does {y} have?",
            t.measure,
            [first],
        )
    return Problem(
        zh + f"两人一共有多少{t.measure}{t.zh}？",
        en + f"How many {t.plural} do they have in total?",
        t.measure,
        [first, Step("一共有", "In total they have", f"{p}+{p // 2}", p + p // 2)],
    )


def three(rng: Random) -> Problem:
    a, b, x, y, t = cast(rng)
    p, q, r = number(rng, 1, 30), number(rng, 1, 30), number(rng, 1, 30)
    zh = rng.choice(
        [
            f"{a}有{p}{t.measure}{t.zh}，{b}有{q}{t.measure}，小方有{r}{t.measure}，三人一共有多少{t.measure}{t.zh}？",
            f"一班有{p}{t.measure}{t.zh}，二班有{q}{t.measure}，三班有{r}{t.measure}，三个班一共有多少{t.measure}？",
        ]
    )
    en = f"{x} has {count(p, t)}, {y} has {q} and Amy has {r}. How many {t.plural} do they have in total?"
    return Problem(
        zh,
        en,
        t.measure,
        [
            Step("前两个有", "The first two have", f"{p}+{q}", p + q),
            Step("一共有", "In total they have", f"{p + q}+{r}", p + q + r),
        ],
    )


def age(rng: Random) -> Problem:
    a, b, x, y, _ = cast(rng)
    p, q = rng.randint(4, 15), rng.randint(2, 30)
    if rng.random() < 0.5:
        return Problem(
            f"{a}今年{p}岁，{b}比{a}大{q}岁，{b}今年多少岁？",
            f"{x} is {p} years old. {y} is {q} years older than {x}. How old is {y}?",
            "岁",
            [Step(f"{b}今年", f"{y} is", f"{p}+{q}", p + q)],
        )
    return Problem(
        f"{a}今年{p}岁，{q}年后{a}多少岁？",
        f"{x} is {p} years old now. How old will {x} be in {q} years?",
        "岁",
        [Step("那时", "The age will be", f"{p}+{q}", p + q)],
    )


SCHEMES: list[Callable[[Random], Problem]] = [
    add,
    add,
    take,
    take,
    groups,
    groups,
    share,
    price,
    price,
    more,
    times,
    differ,
    add_take,
    groups_take,
    pages,
    travel,
    shape,
    half,
    three,
    age,
]


def make_problem(rng: Random) -> Problem:
    """Draw one problem."""
    return rng.choice(SCHEMES)(rng)


def zh_sum(sum_: str) -> str:
    """Write a sum with the signs of Chinese school books."""
    return sum_.replace("*", "×").replace("/", "÷")


def cmath_reply(p: Problem) -> str:
    """Short steps, then the line with the answer."""
    return (
        "\n".join(f"{s.zh}：{zh_sum(s.sum)}={s.result}（{p.unit}）" for s in p.steps)
        + f"\n答案：{p.answer}"
    )


def spaced(sum_: str) -> str:
    """Put spaces around the signs of a sum."""
    return "".join(f" {c} " if c in "+-*/" else c for c in sum_)


def gsm8k_answer(p: Problem) -> str:
    """Working with calculator marks, then `#### answer`."""
    return (
        "\n".join(f"{s.en} {spaced(s.sum)} = <<{s.sum}={s.result}>>{s.result}." for s in p.steps)
        + f"\n#### {p.answer}"
    )


def mgsm_zh(p: Problem) -> str:
    """Working in sentences, in Chinese."""
    return (
        "".join(f"{s.zh}{spaced(s.sum)} = {s.result}{p.unit}。" for s in p.steps)
        + f"答案是 {p.answer}。"
    )


def mgsm_en(p: Problem) -> str:
    """Working in sentences, in English."""
    return (
        " ".join(f"{s.en} {spaced(s.sum)} = {s.result}." for s in p.steps)
        + f" The answer is {p.answer}."
    )


def drill(rng: Random) -> tuple[str, int]:
    """Draw a bare sum and its value."""
    kind = rng.randrange(4)
    if kind == 0:
        p, q = number(rng, 1, 99), number(rng, 1, 99)
        return f"{p}+{q}", p + q
    if kind == 1:
        q, d = number(rng, 1, 60), number(rng, 0, 60)
        return f"{q + d}-{q}", d
    p, q = rng.randint(2, 12), rng.randint(2, 12)
    return (f"{p}*{q}", p * q) if kind == 2 else (f"{p * q}/{p}", q)
