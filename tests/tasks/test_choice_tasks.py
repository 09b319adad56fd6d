"""CMMLU, C-Eval, and multiple choice over one's own file."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.data import DataFolder
from evalsuite.errors import BadRow, DataMissing, UnknownName
from evalsuite.metrics.choice import LETTERS, extract_letter
from evalsuite.plan import TaskChoice, build_requests, plan_task
from evalsuite.record import Record
from evalsuite.registry import load_task
from evalsuite.request import Chosen, Generate, Generated
from evalsuite.stats.sufficient import statistics

LM_EVAL = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks"
PROMPTS = Path(__file__).parent / "lm_eval_prompts.py"


@pytest.fixture(scope="module")
def cmmlu():
    return load_task("cmmlu")


@pytest.fixture(scope="module")
def ceval():
    return load_task("ceval")


@pytest.fixture(scope="module")
def mcq():
    return load_task("mcq")


def write_csv(file, header, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


# --- subjects -------------------------------------------------------------------------------


def test_cmmlu_has_the_published_subjects_and_categories(cmmlu):
    """Li et al. 2023, table of subjects: 67 in all, 15 of them specific to China."""
    tags = [subject.tags for subject in cmmlu.subjects.values()]
    assert Counter(tag["category"] for tag in tags) == {
        "STEM": 17,
        "Humanities": 13,
        "Social Science": 22,
        "Other": 15,
    }
    assert Counter(tag.get("region") for tag in tags) == {"China specific": 15, None: 52}


def test_ceval_has_the_published_subjects_and_categories(ceval):
    """Huang et al. 2023: 52 subjects; C-Eval Hard is 8 of them, all STEM."""
    tags = [subject.tags for subject in ceval.subjects.values()]
    assert Counter(tag["category"] for tag in tags) == {
        "STEM": 20,
        "Social Science": 10,
        "Humanities": 11,
        "Other": 11,
    }
    hard = [tag for tag in tags if "difficulty" in tag]
    assert len(hard) == 8
    assert all(tag == {"category": "STEM", "difficulty": "Hard"} for tag in hard)


@pytest.mark.parametrize(("name", "group"), [("cmmlu", "cmmlu_*"), ("ceval", "ceval-valid_*")])
def test_chinese_names_are_those_of_lm_eval(name, group):
    task = load_task(name)
    configs = [
        yaml.safe_load(file.read_text(encoding="utf-8"))
        for file in (LM_EVAL / name).glob(f"{group}.yaml")
    ]
    theirs = {config["dataset_name"]: config["description"] for config in configs}
    wording = task.wordings["lm-eval"]
    ours = {
        key: wording.instruction.format(subject=subject.name)
        for key, subject in task.subjects.items()
    }
    assert ours == theirs


# --- prompts --------------------------------------------------------------------------------


def requests_of(task, folder, variant, shots):
    data = DataFolder(folder)
    samples = list(task.samples(data))
    built = build_requests(task, data, samples, task.variant(variant), shots)
    return {sample.id: request for sample, request in zip(samples, built, strict=True)}


def tiny_cmmlu(folder):
    header = ["", "Question", "A", "B", "C", "D", "Answer"]
    write_csv(folder / "dev/arts.csv", header, [[0, "甲？", "一", "二", "三", "四", "C"]])
    write_csv(folder / "test/arts.csv", header, [[0, "乙？", "1.0", "NA", "c", "d", "B"]])
    return folder


def test_cmmlu_official_prompt_is_the_published_one(cmmlu, tmp_path):
    request = requests_of(cmmlu, tiny_cmmlu(tmp_path), "official", 1)["arts/0"]
    assert request.prompt.full == (
        "以下是关于艺术学的单项选择题，请直接给出正确答案的选项。\n\n"
        "题目：甲？\nA. 一\nB. 二\nC. 三\nD. 四\n答案是：C\n\n"
        "题目：乙？\nA. 1.0\nB. NA\nC. c\nD. d\n答案是："
    )
    assert request.choices == ("A", "B", "C", "D")
    assert request.prompt.plain
    assert request.prompt.text.startswith("题目：乙？")


def test_ceval_official_prompt_is_the_published_one(ceval, tmp_path):
    header = ["id", "question", "A", "B", "C", "D", "answer"]
    dev = [[0, "甲____", "一", "二", "三", "四", "A", "因为"]]
    write_csv(tmp_path / "dev/law_dev.csv", [*header, "explanation"], dev)
    write_csv(tmp_path / "val/law_val.csv", header, [[0, "乙____", "a", "b", "c", "d", "D"]])
    request = requests_of(ceval, tmp_path, "official", 1)["law/0"]
    assert request.prompt.full == (
        "以下是中国关于法学考试的单项选择题，请选出其中的正确答案。\n\n"
        "甲____\nA. 一\nB. 二\nC. 三\nD. 四\n答案：A\n\n"
        "乙____\nA. a\nB. b\nC. c\nD. d\n答案："
    )
    assert request.choices == ("A", "B", "C", "D")


AWKWARD = [
    ["  两边有空白？ ", " 甲 ", "乙 ", "丙", "丁", "A"],
    ["第一行\n\n第二行\r\n第三行", "{{ 7*7 }}", "{question}", "{% raw %}", "\\n", "D"],
    ['引号"与“引号”，逗号,', "0.50", "１", "<b>", "无", "C"],
]
"""Texts that a template, a CSV reader or ``str.format`` might change."""


@pytest.mark.parametrize(
    ("name", "subject", "shots", "template", "yaml_name", "dev", "test", "header"),
    [
        (
            *("cmmlu", "arts", 3, "_default_template_yaml", "cmmlu_arts.yaml"),
            *("dev/arts.csv", "test/arts.csv", ["", "Question", *"ABCD", "Answer"]),
        ),
        (
            *("ceval", "law", 2, "_default_ceval_yaml", "ceval-valid_law.yaml"),
            *("dev/law_dev.csv", "val/law_val.csv", ["id", "question", *"ABCD", "answer"]),
        ),
        (
            *("cmmlu", "arts", 0, "_default_template_yaml", "cmmlu_arts.yaml"),
            *("dev/arts.csv", "test/arts.csv", ["", "Question", *"ABCD", "Answer"]),
        ),
    ],
)
def test_lm_eval_variant_asks_exactly_what_lm_eval_asks(
    name, subject, shots, template, yaml_name, dev, test, header, tmp_path
):
    rows = [[number, *row] for number, row in enumerate(AWKWARD)]
    write_csv(tmp_path / dev, header, rows)
    write_csv(tmp_path / test, header, [rows[1], rows[0], rows[2]])
    folder = LM_EVAL / name
    split = Path(test).parent.name
    command = [sys.executable, str(PROMPTS), str(folder / template), str(folder / yaml_name)]
    command += [str(shots), "dev", str(tmp_path / dev), split, str(tmp_path / test)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "KMP_BLOCKTIME": "0"}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    theirs = json.loads(done.stdout.decode().rpartition("RESULT")[2])
    built = requests_of(load_task(name), tmp_path, "lm-eval", shots)
    ours = [
        [number, index, request.prompt.full, choice]
        for number, request in enumerate(built.values())
        for index, choice in enumerate(request.choices)
    ]
    assert ours == theirs


def test_generate_variant_lets_the_chat_template_in(cmmlu, tmp_path):
    request = requests_of(cmmlu, tiny_cmmlu(tmp_path), "generate", 0)["arts/0"]
    assert isinstance(request, Generate)
    assert not request.prompt.plain
    assert request.prompt.full.endswith("答案是：")


def test_examples_are_of_the_same_subject_and_shared(cmmlu):
    planned = plan_task(TaskChoice(label="cmmlu"))
    prefixes = defaultdict(set)
    for sample, request in zip(planned.samples, planned.requests, strict=True):
        prefixes[sample.tags["subject"]].add(request.prompt.prefix)
    assert all(len(texts) == 1 for texts in prefixes.values())
    assert len({text for texts in prefixes.values() for text in texts}) == len(prefixes)


# --- scores ---------------------------------------------------------------------------------


def test_the_main_metric_follows_the_variant():
    assert plan_task(TaskChoice(label="cmmlu")).part.main_metric == "accuracy"
    lm_eval = plan_task(TaskChoice(label="cmmlu", variant="lm-eval"))
    assert lm_eval.part.main_metric == "accuracy_micro"


@given(
    st.dictionaries(
        st.sampled_from(["arts", "law", "logic"]), st.lists(st.booleans(), min_size=1), min_size=1
    )
)
def test_accuracy_is_macro_over_subjects_and_micro_over_questions(cmmlu, right):
    records = [
        Record(
            task="cmmlu",
            sample=f"{subject}/{number}",
            tags={"subject": subject},
            scores={"accuracy": float(hit)},
        )
        for subject, hits in right.items()
        for number, hit in enumerate(hits)
    ]
    macro = sum(sum(hits) / len(hits) for hits in right.values()) / len(right)
    micro = sum(map(sum, right.values())) / sum(map(len, right.values()))
    assert statistics(cmmlu.metric("accuracy"), records).score() == pytest.approx(macro, abs=1e-12)
    found = statistics(cmmlu.metric("accuracy_micro"), records).score()
    assert found == pytest.approx(micro, abs=1e-12)


@pytest.mark.parametrize("name", ["cmmlu", "ceval", "mcq"])
def test_only_the_right_letter_scores(name):
    planned = plan_task(TaskChoice(label=name))
    for sample in planned.samples:
        options = len(sample.fields["options"])
        right = LETTERS.index(sample.target)
        for picked in range(options):
            outcome = planned.task.score(sample, Chosen(picked=picked))
            assert outcome.scores == {"accuracy": float(picked == right)}
            assert outcome.answer == LETTERS[picked]
        for picked in (None, options, -1):
            outcome = planned.task.score(sample, Chosen(picked=picked))
            assert outcome.scores == {"accuracy": 0.0}
            assert outcome.answer is None
        written = planned.task.score(sample, Generated(text=f"答案：{sample.target}"))
        assert written.scores == {"accuracy": 1.0}


# --- reading a written answer ---------------------------------------------------------------

STATED = [
    "B",
    "b",
    "Ｂ",
    "(B)",
    "（Ｂ）",
    "B.",
    "B、北京",
    "B) Beijing",
    "**B**",
    "答案：B",
    "答案: B",
    "答案是B。",
    "答案为 B",
    "答案应该是B",
    "正确答案是：**B**",
    "答案是选项B",
    "答案是“B”",
    "答案是【B】",
    "答：B",
    "正确选项为B",
    "所以选择B。",
    "故本题选B",
    "不选A，选B",
    "The answer is B",
    "The correct answer is (B).",
    "the correct answer is b.",
    "ANSWER: B",
    "**Answer**: B",
    "The answer is B because it is",
    "I choose option B",
    "Option B",
    "$\\boxed{B}$",
    "\\boxed{\\text{B}}",
    "首先，……\n\nB",
    "B\n\n因为……",
    "A不对，C不对，答案是B",
    "A. 甲\nB. 乙\nC. 丙\n答案：B",
    "答案：B\nA. 不对，因为……\nC. 不对，因为……",
    "<think>答案是A？</think>\n答案是B",
]
UNSTATED = [
    "",
    " \n",
    "不知道",
    "答案是A。等等，答案是B。",
    "选A。\n\n答案：B",
    "答案是AB",
    "答案是A、B",
    "答案：A,B",
    "答案是A和B",
    "A或B",
    "The answer is A or B",
    "ABCD",
    "A B C D",
    "A good answer",
    "The answer is a good one",
    "The answer is A good one",
    "答案不是A",
    "不选A",
    "选项B错误",
    "A. 甲\nB. 乙\nC. 丙\nD. 丁",
    "答案：\nA. 甲\nB. 乙",
    "E",
    "答案是E",
    "答案是DNA",
    "Because",
    "<think>答案是B",
]


@pytest.mark.parametrize("text", STATED)
def test_a_stated_letter_is_read(text):
    assert extract_letter(text) == "B"


@pytest.mark.parametrize("text", UNSTATED)
def test_nothing_stated_or_several_is_no_answer(text):
    assert extract_letter(text) is None


@given(st.text(), st.integers(2, 10))
def test_any_text_gives_a_letter_or_none(text, options):
    letters = LETTERS[:options]
    assert extract_letter(text, letters) in (*letters, None)


@given(
    st.text(
        st.characters(
            exclude_characters=set(
                "ABCDEFGHIJabcdefghij" + "ＡＢＣＤＥＦＧＨＩＪａｂｃｄｅｆｇｈｉｊ"
            )
        )
    )
)
def test_a_text_without_a_letter_is_never_an_answer(text):
    assert extract_letter(text, LETTERS) is None


@given(
    st.text(st.characters(categories=("Lo",)), max_size=50).filter(lambda text: "选" not in text),
    st.sampled_from("ABCD"),
    st.sampled_from("ABCD"),
)
def test_a_final_statement_decides_and_a_contradiction_does_not(reasoning, first, last):
    text = f"{reasoning}\n答案是{first}。\n所以，答案是{last}。"
    assert extract_letter(text) == (first if first == last else None)


# --- reading data ---------------------------------------------------------------------------


def test_a_subject_that_does_not_exist_names_the_nearest(cmmlu, tmp_path):
    tiny_cmmlu(tmp_path)
    (tmp_path / "test/arts.csv").rename(tmp_path / "test/artz.csv")
    with pytest.raises(UnknownName, match="did you mean 'arts'"):
        list(cmmlu.samples(DataFolder(tmp_path)))


def test_no_questions_say_what_the_layout_is(ceval, tmp_path):
    with pytest.raises(DataMissing, match="SUBJECT_val"):
        list(ceval.samples(DataFolder(tmp_path, layout=ceval.meta.source.layout)))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["乙？", "a", "b", "c", "d", "E"], "the answer is 'E'"),
        (["乙？", "a", "b", "c", "d", ""], "the answer is ''"),
        (["乙？", "a", "b", "c", "d", "AB"], "the answer is 'AB'"),
        (["乙？", "a", "b", " ", "d", "A"], "option C is empty"),
        ([" ", "a", "b", "c", "d", "A"], "the question is empty"),
    ],
)
def test_a_question_without_a_right_answer_is_refused_or_counted(cmmlu, tmp_path, row, reason):
    good = [0, "甲？", "a", "b", "c", "d", "A"]
    header = ["", "Question", "A", "B", "C", "D", "Answer"]
    write_csv(tmp_path / "test/arts.csv", header, [good, [1, *row], [2, *good[1:]]])
    with pytest.raises(BadRow, match=r"arts\.csv:3") as caught:
        list(cmmlu.samples(DataFolder(tmp_path)))
    assert caught.value.what.startswith(reason)
    lenient = DataFolder(tmp_path, skip_bad_rows=True)
    assert [sample.id for sample in cmmlu.samples(lenient)] == ["arts/0", "arts/2"]
    assert len(lenient.bad_rows) == 1


def own(mcq, folder, name, content):
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return list(mcq.samples(DataFolder(file)))


@pytest.mark.parametrize("answer", ['"B"', '"b"', "1", '"1"', '"天津"', '" 天津 "'])
def test_own_answers_may_be_a_letter_a_number_or_a_text(mcq, tmp_path, answer):
    line = f'{{"question": "哪里？", "options": ["北京", "天津"], "answer": {answer}}}\n'
    (sample,) = own(mcq, tmp_path, "mine.jsonl", line)
    assert sample.target == "B"
    assert (sample.id, sample.tags) == ("1", {})


@pytest.mark.parametrize(
    ("options", "answer", "reason"),
    [
        ('["B", "A"]', '"A"', "more than one"),
        ('["7", "7"]', '"7"', "more than one"),
        ('["a", "b"]', '"C"', "no option"),
        ('["a", "b"]', "2", "no option"),
        ('["a", "b"]', "-1", "no option"),
        ('["a", "b"]', "true", "a text is due"),
        ('["a", "b"]', "[1]", "a text is due"),
        ('["a"]', '"A"', "2 to 10 options"),
        (json.dumps(list("abcdefghijk")), '"A"', "2 to 10 options"),
        ('{"A": "x"}', '"A"', "2 to 10 options"),
        ('["a", ""]', '"A"', "an option is empty"),
        ('["a", {}]', '"A"', "a text is due"),
    ],
)
def test_own_rows_that_name_no_single_option_are_refused(mcq, tmp_path, options, answer, reason):
    line = f'{{"question": "?", "options": {options}, "answer": {answer}}}\n'
    with pytest.raises(BadRow, match=reason) as caught:
        own(mcq, tmp_path, "mine.jsonl", line)
    assert caught.value.where.endswith("mine.jsonl:1")


def test_a_number_that_is_an_option_is_read_as_the_option(mcq, tmp_path):
    line = '{"question": "1+1?", "options": ["1", "0", "2"], "answer": "2"}\n'
    assert own(mcq, tmp_path, "mine.jsonl", line)[0].target == "C"


def test_own_csv_with_optional_columns_and_fewer_options(mcq, tmp_path):
    text = "Subject,id,Question,A,B,C,Answer\n史,q1,甲？,x,y,,B\n史,q2,乙？,x,y,z,C\n"
    first, second = own(mcq, tmp_path, "mine.CSV", text)
    assert (first.id, first.fields["options"], first.tags) == ("q1", ["x", "y"], {"subject": "史"})
    assert second.target == "C"
    request = mcq.request(first, [second], "zh")
    assert request.choices == ("A", "B")
    assert request.prompt.full == (
        "题目：乙？\nA. x\nB. y\nC. z\n答案是：C\n\n题目：甲？\nA. x\nB. y\n答案是："
    )


def test_own_ids_are_used_once(mcq, tmp_path):
    line = '{"id": 7, "question": "?", "options": ["a", "b"], "answer": "A"}\n'
    with pytest.raises(BadRow, match="used twice"):
        own(mcq, tmp_path, "mine.jsonl", line * 2)


def test_own_folder_with_examples(mcq, tmp_path):
    line = '{"question": "?", "options": ["a", "b"], "answer": "A"}\n'
    (tmp_path / "questions.jsonl").write_text(line, encoding="utf-8")
    (tmp_path / "dev.csv").write_text("question,A,B,answer\n!,c,d,1\n", encoding="utf-8")
    requests = requests_of(mcq, tmp_path, "en", 1)
    expected = "Question: !\nA. c\nB. d\nAnswer: B\n\nQuestion: ?\nA. a\nB. b\nAnswer:"
    assert requests["1"].prompt.full == expected
    assert requests["1"].choices == (" A", " B")
