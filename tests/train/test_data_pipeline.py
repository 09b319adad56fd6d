"""The whole stage on a corpus with planted faults: what it finds, what it keeps, and that every record is accounted for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from evalsuite_train.data import stage
from evalsuite_train.data.evaluation import Evaluation
from evalsuite_train.data.ledger import Entry, Ledger
from evalsuite_train.errors import BadData, BadRecipe, TrainError
from evalsuite_train.recipe import Recipe

ZH = (
    "春天 山坡 老人 院子 清晨 河水 孩子 学校 故事 书本 农民 稻田 秋风 落叶 城市 街道 商店 工人 机器 车间 医生 病人 药方 厨房 米饭 "
    "青菜 鱼汤 火车 车站 旅客 行李 地图 远方 海边 渔船 灯塔 夜晚 星星 月亮 窗户 桌子 椅子 茶杯 朋友 书信 邮局 雨伞 天气 气温 雪花 "
    "竹林 小路 石桥 寺庙 钟声 画家 颜料 琴声 歌手 舞台 观众 节日 灯笼 鞭炮 饺子 亲戚 祖母 毛衣 木匠 工具 房屋 屋顶 麻雀 燕子 蜜蜂"
).split()
ZH_VERBS = "看见 记得 喜欢 带来 离开 经过 照亮 等待 修好 画出 谈起 送给 找到 听见 围绕 越过 收下 留下 想念 打扫".split()
EN = (
    "farmer river market window teacher garden train letter winter village kitchen doctor painter harbour lantern "
    "bridge forest sparrow carpenter library orchard captain meadow compass sailor blanket chimney festival violin "
    "mountain station neighbour traveller pocket morning evening story picture weather basket ladder island "
    "cottage shepherd miller baker candle mirror ribbon saddle stable tunnel valley anchor acorn feather"
).split()
EN_VERBS = "carried watched remembered crossed repaired painted followed noticed borrowed visited answered kept".split()
HAN = [chr(code) for code in range(0x4E00, 0x9F00)]


def zh_document(rng: random.Random) -> str:
    a, b, c, d, e, f = ([rng.choice(ZH) for _ in range(8)] for _ in range(6))
    v, w = ([rng.choice(ZH_VERBS) for _ in range(8)] for _ in range(2))
    count = rng.randrange(4, 8)
    return "".join(
        f"{a[i]}里的{b[i]}{v[i]}了{c[i]}，{d[i]}和{e[i]}也{w[i]}{f[i]}。" for i in range(count)
    )


def en_document(rng: random.Random) -> str:
    a, b, c, d, e = ([rng.choice(EN) for _ in range(8)] for _ in range(5))
    v, w = ([rng.choice(EN_VERBS) for _ in range(8)] for _ in range(2))
    return " ".join(
        f"The {a[i]} near the {b[i]} {v[i]} a {c[i]}, and the {d[i]} {w[i]} every {e[i]}."
        for i in range(rng.randrange(4, 8))
    )


def edited(text: str, rng: random.Random) -> str:
    """One word replaced, the end changed: what a copied page looks like."""
    if " " in text:
        words = text.split()
        words[rng.randrange(len(words))] = rng.choice(EN)
        return " ".join(words) + " Thank you."
    place = rng.randrange(len(text) - 2)
    return text[:place] + rng.choice(ZH) + text[place + 2 :] + "谢谢。"


def boilerplate(rng: random.Random) -> str:
    zh = [
        "首页 关于我们 联系我们 网站地图",
        "版权所有 某某科技有限公司 京ICP备12345678号",
        "上一篇：无 下一篇：公司简介",
        "扫码关注公众号",
        "责任编辑：小王",
        "分享到：微博 微信 加入收藏",
        "<a href='/login'>点击查看更多</a>",
    ]
    en = [
        "Home | About | Privacy Policy | Terms of Use",
        "Copyright 2019 Example Inc. All rights reserved.",
        "This site uses cookies to improve your experience.",
        "Sign in to your account",
        "<div class='nav'>Back to top</div>",
        "Share on Facebook",
        "Please enable JavaScript to view the comments.",
    ]
    return "\n".join(rng.sample(rng.choice((zh, en)), 4))


def toxic(rng: random.Random) -> str:
    zh = [
        "本站推荐赌博网站高额返利",
        "出售冰 毒，量大从优",
        "专业代*开*发*票，电话联系",
        "最新色\u200b情直播资源",
        "网上赌场注册送彩金",
    ]
    en = [
        "Best online CASINO with huge rewards",
        "You are a piece of shit and a liar",
        "Buy ｃｏｃａｉｎｅ here, buy cocaine cheap",
    ]
    if rng.random() < 0.5:
        return zh_document(rng) + rng.choice(zh) + "。" + zh_document(rng)
    return en_document(rng) + " " + rng.choice(en) + ". " + en_document(rng)


def gibberish(rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 3:
        return rng.choice(ZH) + rng.choice(("好评如潮，", "物美价廉真的好，", "码字码字，")) * 30
    if kind == 0:
        return "".join(rng.choice(HAN) for _ in range(120))
    if kind == 1:
        return " ".join(
            "".join(rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(7)) for _ in range(30)
        )
    return "".join(rng.choice("#@!%&*()=+~<>/|0123456789") for _ in range(150)) + "价格"


def planted_corpus(path: Path, seed: int = 5) -> dict[str, int]:
    """1,000 good documents and 380 bad ones in random order, copies after their originals."""
    rng = random.Random(seed)
    good = [(zh_document if i % 2 else en_document)(rng) for i in range(1000)]
    harmless = [
        "我们要拒绝高利贷，保护好自己。",
        "The heroine of the novel went home. ",
    ]  # hold 高利贷 and heroin
    rows = [
        (rng.random(), text + (rng.choice(harmless) if i % 10 == 0 else ""), "good")
        for i, text in enumerate(good)
    ]
    originals = rng.sample(rows, 200)
    for index, (place, text, _) in enumerate(originals):
        if index < 100:
            changed = text if index % 2 else text.replace("。", "。 ").upper()
            rows.append((1 + place, changed, "duplicate"))
        else:
            rows.append((1 + place, edited(text, rng), "near-duplicate"))
    for maker, label in ((boilerplate, "boilerplate"), (toxic, "toxic"), (gibberish, "gibberish")):
        rows += [(2 * rng.random(), maker(rng), label) for _ in range(60)]
    counts: dict[str, int] = {}
    with path.open("w", encoding="utf-8") as stream:
        for _, text, label in sorted(rows):
            counts[label] = counts.get(label, 0) + 1
            stream.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    return counts


def recipe_at(folder: Path, **data) -> Recipe:
    return Recipe("t", 7, folder, ("data",), {"data": data}, "t.yaml")


def run(folder: Path, **data) -> Path:
    recipe = recipe_at(folder, **data)
    out = folder / "data"
    out.mkdir(exist_ok=True)
    stage.run(recipe.config("data", stage.Config), recipe, out)
    return out


def rows_of(folder: Path) -> list[dict]:
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


def ledger_of(out: Path) -> list[Entry]:
    return msgspec.json.decode((out / "ledger.json").read_bytes(), type=Ledger).entries


def test_row_data_pipeline(tmp_path):
    """Planted duplicates, boilerplate and toxic lines are removed; the ledger of the stages sums up."""
    planted = planted_corpus(tmp_path / "web.jsonl")
    out = run(tmp_path, sources=[{"path": "web.jsonl"}])

    entries = ledger_of(out)
    assert [
        e.step for e in entries
    ] == "read clean exact near quality buckets rules sensitive mixture".split()
    for before, after in pairwise(entries):
        assert after.given == before.kept
    for entry in entries:
        assert entry.given == entry.kept + sum(entry.dropped.values())
        assert all(
            len(where) <= 5 and where[0].startswith("web.jsonl:")
            for where in entry.examples.values()
        )
    assert entries[0].given == sum(planted.values())
    assert entries[0].labels == planted

    # The shards themselves, not the ledger's word for it.
    kept = rows_of(out / "documents")
    assert len(kept) == entries[-1].kept
    assert set(kept[0]) == {"text", "source", "language"}
    assert len({row["text"] for row in kept}) == len(kept)

    found = {
        f.label: f
        for f in msgspec.json.decode(
            (out / "evaluation.json").read_bytes(), type=Evaluation
        ).planted
    }
    bars = {  # recall, precision
        "duplicate": (1.0, 0.99),
        "near-duplicate": (0.95, 0.99),
        "boilerplate": (0.95, 0.99),
        "toxic": (0.95, 0.99),
        "gibberish": (0.9, 0.75),
    }
    assert set(found) == set(bars)
    for label, (recall, precision) in bars.items():
        assert found[label].planted == planted[label]
        assert found[label].recall >= recall, label
        assert found[label].precision >= precision, label
    lost = sum(sum(entry.caught.get("good", {}).values()) for entry in entries)
    assert lost <= 0.03 * planted["good"]


def test_row_data_mixture(tmp_path, capsys):
    """The mixture by source and language is what is in the shards, and weights draw more or less of a source."""
    rng = random.Random(1)
    (tmp_path / "zh.txt").write_text(
        "\n".join(zh_document(rng) for _ in range(400)), encoding="utf-8"
    )
    (tmp_path / "en.txt").write_text(
        "\n".join(en_document(rng) for _ in range(400)), encoding="utf-8"
    )
    both = [zh_document(rng) for _ in range(30)] + [en_document(rng) for _ in range(20)]
    (tmp_path / "mixed.txt").write_text("\n".join(both), encoding="utf-8")
    sources = [
        {"path": "zh.txt", "name": "wudao", "weight": 0.25},
        {"path": "en.txt", "name": "books", "weight": 2.5},
        {"path": "mixed.txt"},
    ]
    out = run(tmp_path, sources=sources, lowest_score=0.0)
    kept = rows_of(out / "documents")
    shares = {
        (s["source"], s["language"]): s for s in json.loads((out / "mixture.json").read_bytes())
    }
    for (source, language), share in shares.items():
        own = [
            row["text"] for row in kept if (row["source"], row["language"]) == (source, language)
        ]
        assert share["records"] == len(own)
        assert share["characters"] == sum(map(len, own))
    assert shares["mixed", "zh"]["records"] == 30
    assert shares["mixed", "en"]["records"] == 20
    # 400 draws at 1/4: mean 100, standard deviation 8.7. At 2.5: 1000, 10.
    assert abs(shares["wudao", "zh"]["records"] - 100) < 4 * 8.7
    assert abs(shares["books", "en"]["records"] - 1000) < 4 * 10
    last = ledger_of(out)[-1]
    assert last.given + last.copied == last.kept + last.dropped["down-sampled"]
    drawn = ElementTree.fromstring((out / "mixture.svg").read_text(encoding="utf-8"))
    titles = [t.text for t in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert f"mixed, zh: {shares['mixed', 'zh']['characters']:,} characters in 30 records" in titles
    assert "wudao" in capsys.readouterr().out

    (tmp_path / "again").mkdir()
    for name in ("zh.txt", "en.txt", "mixed.txt"):
        (tmp_path / "again" / name).write_bytes((tmp_path / name).read_bytes())
    again = run(tmp_path / "again", sources=sources, lowest_score=0.0)
    assert rows_of(again / "documents") == kept, "the same seed draws the same"


def test_conversations_pass_through_with_system_task_and_turns(tmp_path):
    turns = [
        {"from": "human", "value": "水的沸点是多少？"},
        {"from": "yayi", "value": "<b>100</b>\u200b 摄氏度"},
    ]
    row = {"system": "你是助手。", "task": "facts", "conversations": turns}
    (tmp_path / "c.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    (tmp_path / "p.csv").write_text("input,target\n2+3=?,B\n", encoding="utf-8")
    out = run(
        tmp_path, sources=[{"path": "c.jsonl"}, {"path": "p.csv", "task": "sums"}], lowest_score=0.0
    )
    first, second = rows_of(out / "conversations")
    assert first["system"] == "你是助手。"
    assert first["task"] == "facts"
    assert first["conversations"][1] == {"from": "assistant", "value": "<b>100</b> 摄氏度"}, (
        "markup may be the answer"
    )
    assert second["task"] == "sums"
    assert second["conversations"] == [
        {"from": "human", "value": "2+3=?"},
        {"from": "assistant", "value": "B"},
    ]
    assert not (out / "documents").exists()


def test_a_finished_step_is_not_run_again_and_a_changed_setting_runs_all(tmp_path, monkeypatch):
    planted_corpus(tmp_path / "web.jsonl")
    sources = [{"path": "web.jsonl"}]

    def broken(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "rules", broken)  # as if it was killed there
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, sources=sources)
    assert not (tmp_path / "data" / "documents").exists()
    steps = tmp_path / "data" / "steps"
    assert not list(steps.glob("*.new"))
    with monkeypatch.context() as patch:
        patch.setattr(stage, "near", broken)  # a finished step: never called
        out = run(tmp_path, sources=sources)
    resumed = rows_of(out / "documents")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / "web.jsonl").write_bytes((tmp_path / "web.jsonl").read_bytes())
    assert rows_of(run(fresh, sources=sources) / "documents") == resumed
    fewer = run(tmp_path, sources=sources, shortest=200)
    assert len(rows_of(fewer / "documents")) < len(resumed)


def test_the_ledger_refuses_sums_that_do_not_add_up():
    ledger = Ledger()
    ledger.add(Entry("read", given=10, kept=9, dropped={"bad row": 1}))
    with pytest.raises(TrainError, match="10 \\+ 0 records in, 9 accounted for"):
        Entry("clean", given=10, kept=9).balance()
    with pytest.raises(TrainError, match="'read' kept 9 records and 'clean' was given 8"):
        ledger.add(Entry("clean", given=8, kept=8))


def test_a_changed_shard_is_noticed(tmp_path, monkeypatch):
    planted_corpus(tmp_path / "web.jsonl")

    def broken(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "rules", broken)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, sources=[{"path": "web.jsonl"}])
    shard = next((tmp_path / "data" / "steps").glob("*buckets/part-00000.jsonl"))
    shard.write_bytes(b"".join(shard.read_bytes().splitlines(keepends=True)[:-3]))
    with pytest.raises(TrainError, match=r"'buckets' kept .* and 'rules' was given"):
        run(tmp_path, sources=[{"path": "web.jsonl"}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": []}, "no sources"),
        ({"sources": [{"path": "no.txt"}]}, "no such file: no.txt"),
        ({"sources": [{"path": "a.txt", "format": "cvs-text"}]}, "no format named 'cvs-text'"),
        ({"sources": [{"path": "a.txt", "encoding": "utf-9"}]}, "no encoding named 'utf-9'"),
        ({"sources": [{"path": "a.txt", "weight": -1}]}, "weight is -1"),
        ({"sources": [{"path": "a.txt", "wieght": 1}]}, "wieght"),
        ({"sources": [{"path": "a.txt"}], "similar": 7}, "between 0 and 1"),
        ({"sources": [{"path": "a.txt"}], "shortst": 7}, "did you mean 'shortest'"),
        ({"sources": [{"path": "a.txt"}], "terms": "no.tsv"}, "no such file: no.tsv"),
    ],
)
def test_impossible_settings_are_refused_before_reading(tmp_path, settings, message):
    (tmp_path / "a.txt").write_text("一二三\n", encoding="utf-8")
    with pytest.raises(BadRecipe, match=message):
        run(tmp_path, **settings)


def test_nothing_left_is_an_error_that_points_to_the_ledger(tmp_path):
    (tmp_path / "a.txt").write_text("短\n更短\n", encoding="utf-8")
    with pytest.raises(BadData, match=r"no record was left[\s\S]*ledger"):
        run(tmp_path, sources=[{"path": "a.txt"}])
    assert ledger_of(tmp_path / "data")[-1].kept == 0
    assert not (tmp_path / "data" / "documents").exists()


# VmHWM, because ru_maxrss goes on counting from the process that started this one.
PEAK = r"""
import re, sys
from pathlib import Path
from evalsuite_train.data import stage
from evalsuite_train.recipe import Recipe
folder = Path(sys.argv[1])
recipe = Recipe("t", 1, folder, ("data",), {"data": {"sources": [{"path": sys.argv[2]}]}}, "t.yaml")
(folder / "data").mkdir()
stage.run(recipe.config("data", stage.Config), recipe, folder / "data")
print("PEAK", int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """100,000 lines need little more than 3,000: only digests (85 bytes a record) are held."""
    rng = random.Random(2)
    peaks = {}
    for count in (3_000, 100_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        with (folder / "lines.txt").open("w", encoding="utf-8") as stream:
            for number in range(count):
                # Every fourth is long enough for its shingles to be indexed, which is what takes the time.
                stream.write(f"{number} {' '.join(rng.choices(EN, k=5 if number % 4 else 14))}\n")
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(folder), "lines.txt"],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[count] = int(done.stdout.split("PEAK")[1])
    # 8 MiB of digests and the database's fixed page cache of 64 MiB, which the small corpus does not fill.
    assert peaks[100_000] - peaks[3_000] < 90
    assert peaks[100_000] < 300
