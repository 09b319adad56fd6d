"""gsm8k, mgsm and cmath: prompts, data layouts, scores, and agreement with lm-eval."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evalsuite.data import DataFolder
from evalsuite.errors import BadRow, DataMissing
from evalsuite.plan import build_requests, open_data
from evalsuite.registry import load_task
from evalsuite.request import Chosen, Generated
from evalsuite.validation import check

NAMES = ("gsm8k", "mgsm", "cmath")
SAMPLES = Path(__file__).parents[2] / "tasks" / "samples"


@pytest.fixture(params=NAMES)
def task(request):
    return load_task(request.param)


def write_rows(file, *rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")


def ask(task, data, sample_id, shots, variant=None):
    (sample,) = [s for s in task.samples(data) if s.id == sample_id]
    (request,) = build_requests(task, data, [sample], task.variant(variant), shots)
    return request


def test_the_task_is_sound(task):
    assert check(task) == []


def test_answers_to_other_questions_score_near_zero(task):
    samples = list(task.samples(open_data(task, None)))
    moved = samples[1:] + samples[:1]
    right = [
        task.score(sample, task.gold(other)).scores["accuracy"]
        for sample, other in zip(samples, moved, strict=True)
        if sample.target != other.target
    ]
    assert sum(right) == 0


def test_an_empty_answer_scores_nothing_at_all(task):
    sample = next(task.samples(open_data(task, None)))
    outcome = task.score(sample, Generated(""))
    assert set(outcome.scores) == {metric.name for metric in task.metrics}
    assert not any(outcome.scores.values())
    assert outcome.answer is None


def test_a_response_of_another_kind_is_refused(task):
    sample = next(task.samples(open_data(task, None)))
    with pytest.raises(TypeError, match="Chosen"):
        task.score(sample, Chosen(picked=0))


def test_lenient_is_never_below_strict(task):
    sample = next(task.samples(open_data(task, None)))
    right = sample.target
    for declared in (
        f"#### {right}",
        f"答案是 {right}",
        f"The answer is {right}",
        f"答案：{right}",
    ):
        for rest in ("", " million", "%", " + 1 = 7", "\n#### 99", " or \\boxed{99}"):
            scores = task.score(sample, Generated(declared + rest)).scores
            assert scores["accuracy"] >= scores["accuracy_strict"], declared + rest


# ---------------------------------------------------------------- prompts


def test_mgsm_prompts(tmp_path):
    (tmp_path / "mgsm_zh.tsv").write_text("三加四等于几？\t7\n", encoding="utf-8")
    (tmp_path / "mgsm_en.tsv").write_text("What is 3 + 4?\t7\n", encoding="utf-8")
    row = {"question": "一加一？", "solution": "1 + 1 = 2。", "answer": 2}
    write_rows(tmp_path / "exemplars_zh.jsonl", row)
    row = {"question": "One and one?", "solution": "1 + 1 = 2.", "answer": 2}
    write_rows(tmp_path / "exemplars_en.jsonl", row)
    task, data = load_task("mgsm"), DataFolder(tmp_path)
    zh = ask(task, data, "zh/0", 1)
    assert zh.prompt.full == (
        "问题：一加一？\n逐步解答：1 + 1 = 2。答案是 2。\n\n问题：三加四等于几？\n逐步解答："
    )
    en = ask(task, data, "en/0", 1)
    assert en.prompt.full == (
        "Question: One and one?\nStep-by-Step Answer: 1 + 1 = 2. The answer is 2.\n\n"
        "Question: What is 3 + 4?\nStep-by-Step Answer:"
    )
    assert not zh.prompt.plain
    assert set(zh.sampling.stop) == {"\n\n问题：", "问题：", "\n\nQuestion:", "Question:"}
    zh_sample, en_sample = task.samples(data)
    assert zh_sample.cluster == en_sample.cluster == "0"
    assert {m.macro_over for m in task.metrics} == {"language"}


def test_mgsm_without_exemplars_takes_those_that_ship_with_it(tmp_path):
    (tmp_path / "mgsm_zh.tsv").write_text("三加四等于几？\t7\n", encoding="utf-8")
    task, data = load_task("mgsm"), DataFolder(tmp_path)
    assert [sample.id for sample in task.samples(data)] == ["zh/0"]
    first = json.loads((SAMPLES / "mgsm" / "exemplars_zh.jsonl").read_text("utf-8").split("\n")[0])
    assert first["question"] in ask(task, data, "zh/0", 1).prompt.prefix
    assert "shipped/exemplars_zh.jsonl" in data.sha256


def test_cmath_prompts(tmp_path):
    write_rows(tmp_path / "test.jsonl", {"question": "3+4=？", "answer": "7", "grade": 1})
    solved = {"question": "1+1=？", "solution": "1 + 1 = 2", "answer": "2", "grade": 1}
    write_rows(tmp_path / "train.jsonl", solved)
    task, data = load_task("cmath"), DataFolder(tmp_path)
    assert ask(task, data, "0", 0).prompt.full == (
        "3+4=？\n请一步一步计算，最后一行写“答案：”和结果。"
    )
    assert ask(task, data, "0", 1).prompt.full == (
        "1+1=？\n请一步一步计算，最后一行写“答案：”和结果。\n1 + 1 = 2\n答案：2\n\n"
        "3+4=？\n请一步一步计算，最后一行写“答案：”和结果。"
    )


# ---------------------------------------------------------------- data layouts


def test_cmath_reads_the_published_layouts(tmp_path):
    rows = [
        {
            "grade": 6,
            "input": "超产百分之几？",
            "golden": "12%",
            "reasoning_step": 2,
            "num_digits": 5,
        },
        {"grade": 5, "question": "几分之几？", "golden": "2/6", "reasoning_step": 1},
    ]
    write_rows(tmp_path / "cmath_dev.jsonl", *rows)
    task = load_task("cmath")
    percent, fraction = task.samples(DataFolder(tmp_path))
    assert (percent.target, percent.tags) == ("12%", {"grade": "6"})
    for output, right in [("答案：12%", 1), ("答案：12", 1), ("答案：0.12", 1), ("答案：1.2", 0)]:
        assert task.score(percent, Generated(output)).scores["accuracy"] == right, output
    assert task.score(fraction, Generated("答案：1/3")).scores["accuracy"] == 1
    assert list(task.samples(DataFolder(tmp_path / "cmath_dev.jsonl"))) == [percent, fraction]


def test_gsm8k_reads_parquet_and_the_official_repository_alike(tmp_path):
    import pyarrow
    import pyarrow.parquet

    task = load_task("gsm8k")
    expected = [(s.id, s.fields, s.target) for s in task.samples(open_data(task, None))]
    rows = [
        json.loads(line)
        for line in (SAMPLES / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()
    ]
    hub = tmp_path / "hub"
    (hub / "main").mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, hub / "main" / "test-00000-of-00001.parquet")
    official = tmp_path / "repository" / "grade_school_math" / "data"
    official.mkdir(parents=True)
    shutil.copy(SAMPLES / "gsm8k" / "test.jsonl", official)
    for folder in (hub, tmp_path / "repository", official / "test.jsonl"):
        data = DataFolder(folder)
        assert [(s.id, s.fields, s.target) for s in task.samples(data)] == expected
        assert len(data.sha256) == 1


def test_a_broken_parquet_file_is_named(tmp_path):
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(BadRow, match=r"not a Parquet file.*test-00000"):
        list(load_task("gsm8k").samples(DataFolder(tmp_path)))


@pytest.mark.parametrize(
    ("name", "file", "line"),
    [
        ("gsm8k", "test.jsonl", '{"question": "q", "answer": "no number #### x"}'),
        ("gsm8k", "test.jsonl", '{"question": "q"}'),
        ("mgsm", "mgsm_zh.tsv", "问题没有答案"),
        ("mgsm", "mgsm_en.tsv", "two\ttabs\t3"),
        ("mgsm", "mgsm_en.tsv", "what?\tforty"),
        ("cmath", "test.jsonl", '{"question": "q", "grade": 1}'),
        ("cmath", "test.jsonl", '{"question": "q", "answer": true, "grade": 1}'),
        ("cmath", "test.jsonl", '{"question": " ", "answer": "1", "grade": 1}'),
    ],
)
def test_bad_rows_are_named_or_left_out(tmp_path, name, file, line):
    (tmp_path / file).write_text(line + "\n", encoding="utf-8")
    task = load_task(name)
    with pytest.raises(BadRow, match=f"{file}:1"):
        list(task.samples(DataFolder(tmp_path)))
    data = DataFolder(tmp_path, skip_bad_rows=True)
    assert list(task.samples(data)) == []
    assert len(data.bad_rows) == 1


def test_a_folder_without_data_says_what_is_expected(task, tmp_path):
    with pytest.raises(DataMissing, match=r"\.jsonl|\.tsv"):
        list(task.samples(DataFolder(tmp_path, layout=task.meta.source.layout)))


# ---------------------------------------------------------------- lm-eval

COUNT = 400


def outputs(samples):
    """Outputs on which strict and lenient mean the same here and in lm-eval.

    Integers as they are usually written; no percent signs, decimals or fractions, where lm-eval
    compares text; no cue and no box when ``####`` is missing, because lm-eval knows neither.
    """
    draw = random.Random(20240229)
    for _ in range(COUNT):
        index = draw.randrange(len(samples))
        target = int(samples[index].target.replace(",", ""))
        number = draw.choice([target, target, target + 1, -target, target * 10, 7])
        written = draw.choice([f"{number}", f"{number:,}"])
        words = draw.choice(
            ["", "First 3 and then 1,250. ", "She sold $4 of it, 20 in all. ", "于是 "]
        )
        yield (
            index,
            words
            + draw.choice(
                [
                    f"\n#### {written}",
                    f"\n#### {written}.",
                    f"\n#### {written}\n\nThen 15 more.",
                    f"\n#### {written}\n#### 3",
                    f"\n#### {written} dollars",
                    f"so {written} apples are left",
                    f"so it makes {written}.",
                    f"in total {written}, I think",
                    "nobody knows",
                ]
            ),
        )


@pytest.fixture(scope="module")
def lm_eval(tmp_path_factory):
    folder, script = SAMPLES / "gsm8k", Path(__file__).with_name("lm_eval_gsm8k.py")
    task = load_task("gsm8k")
    samples = list(task.samples(open_data(task, None)))
    written = list(outputs(samples))
    command = [
        sys.executable,
        str(script),
        str(folder / "train.jsonl"),
        str(folder / "test.jsonl"),
        "5",
    ]
    done = subprocess.run(
        command,
        input=json.dumps(written),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path_factory.mktemp("hf"))},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.rpartition("RESULT")[2])
    return task, samples, written, result


@pytest.mark.slow
def test_gsm8k_prompts_equal_lm_evals(lm_eval):
    task, samples, _, result = lm_eval
    requests = build_requests(task, open_data(task, None), samples, task.variant(), 5)
    assert [request.prompt.full for request in requests] == result["prompts"]


@pytest.mark.slow
def test_gsm8k_scores_equal_lm_evals_where_the_definitions_coincide(lm_eval):
    task, samples, written, result = lm_eval
    strict_found = 0
    for (index, output), theirs in zip(written, result["scores"], strict=True):
        ours = task.score(samples[index], Generated(output)).scores
        assert ours["accuracy_strict"] == theirs["strict-match"]["match"], output
        assert ours["extracted_strict"] == (theirs["strict-match"]["text"] != "[invalid]"), output
        strict_found += theirs["strict-match"]["text"] != "[invalid]"
        if "####" not in output:
            assert ours["accuracy"] == theirs["flexible-extract"]["match"], output
    assert COUNT / 4 < strict_found < COUNT * 3 / 4
