"""Translation, summarisation, classification, extraction and open prompts, as plugins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sacrebleu

from evalsuite.data import DataFolder
from evalsuite.errors import BadOption, BadRow, DataMissing
from evalsuite.record import Record
from evalsuite.registry import load_task
from evalsuite.request import Choose, Chosen, Generate, Generated, Scored
from evalsuite.stats.sufficient import statistics
from evalsuite.task import Sample
from evalsuite.validation import check

NAMES = ("translation", "summarization_zh", "classification_zh", "extraction_zh", "open_zh")

ZH = ["我喜欢茶。", "第一行\u2028还是第一行\x85。", "他走了"]
EN = ["I like tea.", "The first line\u2028still\x85.", "He left"]


def write(folder: Path, files: dict[str, str]) -> DataFolder:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")
    return DataFolder(folder)


def text(lines):
    return "".join(f"{line}\n" for line in lines)


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def scored(task, samples, outputs):
    return [
        Record(task="t", sample=s.id, tags=s.tags, scores=task.score(s, Generated(output)).scores)
        for s, output in zip(samples, outputs, strict=True)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_plugin_is_sound(name):
    assert [str(problem) for problem in check(load_task(name))] == []


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_of_another_kind_scores_nothing(name):
    task = load_task(name)
    data = DataFolder(task.folder / task.meta.sample_data)
    sample = next(task.samples(data))
    outcome = task.score(sample, Scored(logprob=-1.0, token_count=1, greedy=True))
    assert outcome == task.score(sample, Generated(""))
    assert outcome.answer is None


# --- translation ---------------------------------------------------------------------------------

WMT = {
    "set2022.zh-en.src.zh": text(ZH),
    "set2022.zh-en.ref.A.en": text(EN),
    "set2022.en-zh.src.en": text(EN),
    "set2022.en-zh.ref.A.zh": text(ZH),
    "dev.zh-en.src.zh": "例\n",
    "dev.zh-en.ref.A.en": "Example\n",
    "dev.en-zh.src.en": "Example\n",
    "dev.en-zh.ref.A.zh": "例\n",
}
LAYOUTS = {
    "wmt": WMT,
    "flores": {
        "devtest/zho_Hans.devtest": text(ZH),
        "devtest/eng_Latn.devtest": text(EN),
        "dev/zho_Hans.dev": "例\n",
        "dev/eng_Latn.dev": "Example\n",
    },
    "flores+": {
        "floresp/devtest/devtest.cmn_Hans": text(ZH),
        "floresp/devtest/devtest.eng_Latn": text(EN),
        "floresp/dev/dev.cmn_Hans": "例\n",
        "floresp/dev/dev.eng_Latn": "Example\n",
    },
    "jsonl, both ways": {
        "test.jsonl": jsonl(*({"zh": z, "en": e} for z, e in zip(ZH, EN, strict=True))),
        "dev.jsonl": jsonl({"zh": "例", "en": "Example"}),
    },
    "jsonl, one way": {
        "test.jsonl": jsonl(
            *(
                row
                for z, e in zip(ZH, EN, strict=True)
                for row in (
                    {"source": z, "target": e, "direction": "zh-en"},
                    {"source": e, "target": z, "direction": "en-zh"},
                )
            )
        ),
        "dev.jsonl": jsonl(
            {"source": "例", "target": "Example", "direction": "zh-en"},
            {"source": "Example", "target": "例", "direction": "en-zh"},
        ),
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_pairs(tmp_path, layout):
    task = load_task("translation")
    data = write(tmp_path, LAYOUTS[layout])
    pairs = {s.tags["direction"]: [] for s in task.samples(data)}
    for sample in task.samples(data):
        pairs[sample.tags["direction"]].append((sample.fields["source"], sample.target))
    forth = list(zip(ZH, EN, strict=True))
    one_way = layout == "jsonl, one way"
    assert pairs == {"zh-en": forth, "en-zh": [(e, z) for z, e in forth]}
    assert len({s.id for s in task.samples(data)}) == 6
    assert one_way or {s.id for s in task.samples(data)} == {
        f"{d}/{n}" for d in pairs for n in range(3)
    }
    shots = {(task.example_group(s), s.fields["source"], s.target) for s in task.examples(data)}
    assert shots == {("zh-en", "例", "Example"), ("en-zh", "Example", "例")}


def test_one_file_of_pairs_is_enough(tmp_path):
    write(tmp_path, {"pairs.jsonl": jsonl({"zh": "茶", "en": "tea"})})
    task, data = load_task("translation"), DataFolder(tmp_path / "pairs.jsonl")
    assert [s.id for s in task.samples(data)] == ["zh-en/0", "en-zh/0"]
    assert list(task.examples(data)) == []


def test_the_same_sentence_in_both_directions_is_one_cluster(tmp_path):
    task = load_task("translation")
    for layout in ("flores", "jsonl, both ways"):
        samples = task.samples(write(tmp_path / layout, LAYOUTS[layout]))
        assert {s.id: s.cluster for s in samples}["en-zh/2"] == "2"


def test_misaligned_files_are_both_named(tmp_path):
    data = write(tmp_path, WMT | {"set2022.zh-en.ref.A.en": "one\ntwo\n"})
    with pytest.raises(BadRow) as caught:
        list(load_task("translation").samples(data))
    assert "set2022.zh-en.src.zh has 3 lines" in caught.value.what
    assert "set2022.zh-en.ref.A.en has 2" in caught.value.what


def test_reference_a_is_used_and_another_only_without_it(tmp_path):
    task = load_task("translation")
    files = {"x.zh-en.src.zh": "茶\n", "x.zh-en.ref.B.en": "b\n"}
    assert [s.target for s in task.samples(write(tmp_path / "b", files))] == ["b"]
    files["x.zh-en.ref.A.en"] = "a\n"
    assert [s.target for s in task.samples(write(tmp_path / "ab", files))] == ["a"]


def test_data_that_is_no_translation_set(tmp_path):
    task = load_task("translation")
    two = {"one.zh-en.src.zh": "茶\n", "two.zh-en.src.zh": "茶\n"}
    with pytest.raises(BadOption, match="2 test sets for zh-en: one, two"):
        list(task.samples(write(tmp_path / "two", two)))
    with pytest.raises(DataMissing, match="ref"):
        list(task.samples(write(tmp_path / "noref", {"x.zh-en.src.zh": "茶\n"})))
    with pytest.raises(DataMissing, match=r"test\.jsonl"):
        list(task.samples(write(tmp_path / "none", {"readme.txt": ""})))


@pytest.mark.parametrize(
    "row",
    [
        {"source": "a", "target": "b", "direction": "zh-ja"},
        {"source": "a", "target": "b"},
        {"zh": "茶"},
        {"zh": "茶", "en": 3},
        {},
    ],
)
def test_bad_pairs_are_named_by_row(tmp_path, row):
    good = {"zh": "茶", "en": "tea"}
    write(tmp_path, {"test.jsonl": jsonl(good, row, good)})
    task = load_task("translation")
    with pytest.raises(BadRow, match=r"test\.jsonl:2"):
        list(task.samples(DataFolder(tmp_path)))
    skipping = DataFolder(tmp_path, skip_bad_rows=True)
    assert [s.id for s in task.samples(skipping)] == ["zh-en/0", "en-zh/0", "zh-en/2", "en-zh/2"]
    assert len(skipping.bad_rows) == 1


def test_the_score_is_the_mean_of_sacrebleus_scores_of_both_directions():
    task = load_task("translation")
    data = DataFolder(task.folder / task.meta.sample_data)
    samples = list(task.samples(data))
    outputs = [s.target[:-3] if i % 2 else s.target for i, s in enumerate(samples)]
    records = scored(task, samples, outputs)
    by_metric = {m.name: statistics(m, records).score() for m in task.metrics}
    expected = dict.fromkeys(by_metric, 0.0)
    for direction, zh in (("zh-en", False), ("en-zh", True)):
        mine = [i for i, s in enumerate(samples) if s.tags["direction"] == direction]
        made = [outputs[i] for i in mine]
        due = [[samples[i].target for i in mine]]
        tokenize, asian = ("zh", {"normalized": True, "asian_support": True}) if zh else ("13a", {})
        expected["bleu"] += sacrebleu.corpus_bleu(made, due, tokenize=tokenize).score / 2
        expected["chrf"] += sacrebleu.corpus_chrf(made, due).score / 2
        expected["ter"] += sacrebleu.corpus_ter(made, due, **asian).score / 2
    assert by_metric == pytest.approx(expected, abs=1e-9)
    assert 0 < expected["bleu"] < 100


# --- summarisation -------------------------------------------------------------------------------


def test_xl_sums_file_names_are_read(tmp_path):
    row = {"id": "world-1", "url": "u", "title": "t", "text": "正文", "summary": "摘要"}
    files = {f"chinese_simplified_{split}.jsonl": jsonl(row) for split in ("test", "train", "val")}
    task, data = load_task("summarization_zh"), write(tmp_path, files)
    expected = [Sample("world-1", {"text": "正文"}, "摘要")]
    assert list(task.samples(data)) == list(task.examples(data)) == expected
    assert set(data.sha256) == {"chinese_simplified_test.jsonl", "chinese_simplified_train.jsonl"}


# --- classification ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("体育", "体育"),
        (" 体 育。", "体育"),
        ("体育产业", "体育产业"),
        ("属于体育产业类", "体育产业"),
        ("这是体育", "体育"),
        ("\n体育\n财经", "体育"),
        ("体育\n因为不是财经", "体育"),
        ("体育产业和体育", None),
        ("体育、财经", None),
        ("C++", "C++"),
        ("C", "C"),
        ("运动", None),
        ("", None),
        ("。", None),
    ],
)
def test_which_label_an_answer_names(answer, expected):
    labels = ["体育", "体育产业", "财经", "C", "C++", "？"]
    sample = Sample("1", {"text": "x", "labels": labels}, "体育", {"label": "体育"})
    outcome = load_task("classification_zh").score(sample, Generated(answer))
    assert outcome.answer == expected
    assert outcome.scores == {"accuracy": float(expected == "体育")}


def test_labels_are_chosen_by_likelihood():
    task = load_task("classification_zh")
    sample = next(task.samples(DataFolder(task.folder / task.meta.sample_data)))
    request = task.request(sample, (), "choose")
    assert isinstance(request, Choose)
    picked = request.choices.index(sample.target)
    assert task.score(sample, Chosen(picked=picked)).scores == {"accuracy": 1.0}
    assert isinstance(task.request(sample, (), "generate"), Generate)


def test_balanced_accuracy_is_the_mean_over_labels():
    task = load_task("classification_zh")
    labels = ["甲", "乙"]
    gold = ["甲", "甲", "甲", "乙"]
    samples = [
        Sample(str(i), {"text": "", "labels": labels}, label, {"label": label})
        for i, label in enumerate(gold)
    ]
    records = scored(task, samples, ["甲"] * 4)
    assert statistics(task.metric("accuracy"), records).score() == 0.75
    assert statistics(task.metric("balanced_accuracy"), records).score() == 0.5


# --- bad rows ------------------------------------------------------------------------------------

OPEN = {"id": 1, "category": "问答", "prompt": "？", "reference": "答"}
BAD_ROWS = [
    ("summarization_zh", "test.jsonl", {"id": "2", "text": 5, "summary": "x"}, "str"),
    ("classification_zh", "test.jsonl", {"id": "2", "text": "x", "label": "娱乐"}, "labels.txt"),
    ("extraction_zh", "test.jsonl", {"id": 2, "text": "x", "entities": [{}]}, "type"),
    (
        "extraction_zh",
        "test.jsonl",
        {"id": 2, "text": "x", "entities": [{"type": "国名", "text": "x"}]},
        "国名",
    ),
    (
        "extraction_zh",
        "test.jsonl",
        {"id": 2, "text": "x", "entities": [{"type": "人名", "text": "甲；乙"}]},
        "separator",
    ),
    ("open_zh", "prompts.jsonl", OPEN | {"checks": {"min_char": 3}}, "min_char"),
    ("open_zh", "prompts.jsonl", OPEN | {"checks": {"language": "ja"}}, "ja"),
]


@pytest.mark.parametrize(("name", "file", "row", "reason"), BAD_ROWS)
def test_bad_rows_say_where_and_why(tmp_path, name, file, row, reason):
    data = write(tmp_path, {"labels.txt": "体育\n财经\n", file: "\n" + jsonl(row)})
    with pytest.raises(BadRow, match=reason) as caught:
        list(load_task(name).samples(data))
    assert caught.value.where.endswith(f"{file}:2")


# --- open prompts --------------------------------------------------------------------------------


def test_alignbench_is_read_as_it_was_published(tmp_path):
    row = {"question_id": 7, "category": "数学计算", "subcategory": "初等数学", "question": "？"}
    data = write(tmp_path, {"data/data_release.jsonl": jsonl(row | {"reference": "3"})})
    (sample,) = load_task("open_zh").samples(data)
    assert (sample.id, sample.fields["prompt"], sample.target) == ("7", "？", "3")
    assert sample.tags == {"category": "数学计算"}
    outcome = load_task("open_zh").score(sample, Generated("三"))
    assert outcome.scores["checks_passed"] == 1
    assert outcome.scores["content_ok"] == outcome.scores["length_ok"] == [0, 0]


def test_content_is_a_share_of_the_prompts_that_demand_some(tmp_path):
    checks = [{"must_include": ["三"]}, {"must_not_include": ["三"]}, {}]
    rows = [OPEN | {"id": i, "checks": demanded} for i, demanded in enumerate(checks)]
    task = load_task("open_zh")
    samples = list(task.samples(write(tmp_path, {"prompts.jsonl": jsonl(*rows)})))
    records = scored(task, samples, ["答案是三", "答案是三", "答案是三"])
    assert statistics(task.metric("content_ok"), records).score() == 0.5
    assert statistics(task.metric("checks_passed"), records).score() == pytest.approx(2 / 3)
