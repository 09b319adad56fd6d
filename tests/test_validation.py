"""Validation finds each fault that it promises to find, and nothing in a sound task."""

import json

import msgspec
import pytest

from evalsuite.data import DataFolder
from evalsuite.errors import BadTask
from evalsuite.metrics.metric import Metric
from evalsuite.request import Choose, Chosen, Generate, Generated, Prompt
from evalsuite.task import DataSource, Outcome, Sample, Task, TaskMeta, Variant
from evalsuite.validation import check, golden_prompts, update_golden, validate

META = TaskMeta(
    name="sums",
    title="Sums",
    description="one-digit sums",
    languages=("en",),
    domain="mathematics",
    licence="CC0-1.0",
    citation="none",
    source=DataSource(layout="nothing", url="https://example.org"),
    main_metric="right",
    version=1,
    sample_data="samples",
)


class Sums(Task):
    """A sound task; the tests below break one thing of it each."""

    meta = META
    variants = (Variant("write"), Variant("pick", num_fewshot=1))
    metrics = (Metric("right"), Metric("right_by_parity", statistic="right", macro_over="parity"))

    def samples(self, data):
        for a in range(4):
            tags = {"parity": "odd" if a % 2 else "even"}
            yield Sample(id=f"{a}", fields={"question": f"{a}+1="}, target=f"{a + 1}", tags=tags)

    def examples(self, data):
        yield Sample(id="example", fields={"question": "7+1="}, target="8")

    def request(self, sample, shots, variant):
        prefix = "".join(f"{shot.fields['question']}{shot.target}\n" for shot in shots)
        prompt = Prompt(text=sample.fields["question"], prefix=prefix)
        return Generate(prompt) if variant == "write" else Choose(prompt, ("1", "2", "3", "4"))

    def score(self, sample, response):
        if isinstance(response, Chosen):
            answer = None if response.picked is None else str(response.picked + 1)
        else:
            answer = response.text.strip() or None
        return Outcome({"right": float(answer == sample.target)}, answer)

    def gold(self, sample):
        return Generated(text=sample.target)


@pytest.fixture
def data(tmp_path):
    return DataFolder(tmp_path)


def golden_of(task, data):
    cases = [
        {"sample": "0", "output": " 1 ", "scores": {"right": 1}},
        {"sample": "0", "output": {"type": "chosen", "picked": 3}, "scores": {"right": 0}},
    ]
    return {"prompts": golden_prompts(task, data), "cases": cases}


def problems(task, data, golden=None):
    return validate(task, data, golden_of(Sums(), data) if golden is None else golden)


def test_a_sound_task_has_no_problem(data):
    assert problems(Sums(), data) == []


def test_golden_prompts_are_whole_prompts(data):
    assert golden_prompts(Sums(), data) == {
        "write/0-shot": {"sample": "0", "prompt": "0+1="},
        "pick/1-shot": {"sample": "0", "prompt": "7+1=8\n0+1=", "choices": ("1", "2", "3", "4")},
    }


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"title": " "}, "meta.title"),
        ({"licence": ""}, "meta.licence"),
        ({"citation": ""}, "meta.citation"),
        ({"languages": ()}, "meta.languages"),
        ({"version": 0}, "meta.version"),
        ({"sample_data": "../elsewhere"}, "meta.sample_data"),
        ({"source": DataSource(layout="", url="x")}, "meta.source.layout"),
        (
            {"source": DataSource(layout="x", url="x", hub="a/b", revision="main")},
            "meta.source.files",
        ),
    ],
)
def test_incomplete_metadata(data, change, where):
    class Broken(Sums):
        meta = msgspec.structs.replace(META, **change)

    (problem,) = problems(Broken(), data)
    assert (problem.check, problem.where) == ("metadata", where)


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": (Metric("right", formula="median"),)},
        {"variants": (Variant("write"), Variant("pick", num_fewshot=1, main_metric="wrong"))},
        {"variants": (Variant("write"), Variant("write"), Variant("pick", num_fewshot=1))},
    ],
)
def test_metrics_and_variants_that_do_not_fit(data, change):
    found = problems(type("Broken", (Sums,), change)(), data)
    assert "metadata" in {problem.check for problem in found}


def test_no_samples(data):
    class Broken(Sums):
        def samples(self, data):
            return iter(())

    assert [p.check for p in problems(Broken(), data)] == ["data"]


def test_data_that_cannot_be_read(data):
    class Broken(Sums):
        def samples(self, data):
            return iter([data.text("nothing.csv")])

    (problem,) = problems(Broken(), data)
    assert problem.check == "data"
    assert "E111" in problem.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "1"}, "unique"),
        ({"id": ""}, "unique"),
        ({"tags": {}}, "no tag parity"),
        ({"target": object()}, "not JSON"),
    ],
)
def test_a_sample_that_breaks_the_rules(data, change, message):
    class Broken(Sums):
        def samples(self, data):
            first, *rest = super().samples(data)
            return iter([*rest, msgspec.structs.replace(first, **change)])

    found = [p for p in problems(Broken(), data) if p.check == "samples"]
    assert len(found) == 1
    assert message in found[0].message


@pytest.mark.parametrize(
    "change", [{"id": "2"}, {"fields": {"question": "2+1="}}, {"id": "2", "fields": {}}]
)
def test_an_example_that_is_a_question_leaks_its_answer(data, change):
    class Broken(Sums):
        def examples(self, data):
            for example in super().examples(data):
                yield msgspec.structs.replace(example, **change)

    assert "shots" in {p.check for p in problems(Broken(), data, {"prompts": {}, "cases": []})}


def test_too_few_examples_for_a_variant(data):
    class Broken(Sums):
        def examples(self, data):
            return iter(())

    found = problems(Broken(), data)
    assert {(p.check, p.where) for p in found} == {("prompts", "pick"), ("prompts", "pick/1-shot")}


def test_gold_that_does_not_reach_the_best_score_names_the_sample(data):
    class Broken(Sums):
        def gold(self, sample):
            return Generated(text="4" if sample.id == "2" else sample.target)

    (problem,) = problems(Broken(), data)
    assert problem.check == "gold"
    assert "0.75" in problem.message
    assert problem.where == "right; 2"


@pytest.mark.parametrize("kind", [Generated, Chosen])
def test_an_empty_answer_that_scores(data, kind):
    class Broken(Sums):
        def score(self, sample, response):
            empty = Generated(text="") if kind is Generated else Chosen(picked=None)
            if response == empty and sample.id == "3":
                return Outcome({"right": 1.0})
            return super().score(sample, response)

    (problem,) = problems(Broken(), data)
    assert (problem.check, problem.where) == ("empty", "right")


def test_an_empty_answer_that_is_read_as_one(data):
    class Broken(Sums):
        def score(self, sample, response):
            outcome = super().score(sample, response)
            return msgspec.structs.replace(outcome, answer=outcome.answer or "random")

    found = problems(Broken(), data)
    assert {p.check for p in found} == {"empty"}


def test_the_best_of_an_error_rate_is_zero(data):
    class Errors(Sums):
        meta = msgspec.structs.replace(META, main_metric="wrong")
        metrics = (Metric("wrong", higher_is_better=False),)

        def score(self, sample, response):
            outcome = super().score(sample, response)
            return Outcome({"wrong": 1 - outcome.scores["right"]}, outcome.answer)

    cases = [{"sample": "0", "output": "1", "scores": {"wrong": 0}}]
    golden = {"prompts": golden_prompts(Errors(), data), "cases": cases}
    assert problems(Errors(), data, golden) == []


def test_a_statistic_that_is_missing(data):
    class Broken(Sums):
        def score(self, sample, response):
            return Outcome({})

    assert "gold" in {p.check for p in problems(Broken(), data)}


def test_a_scorer_that_raises_on_hostile_text(data):
    class Broken(Sums):
        def score(self, sample, response):
            if isinstance(response, Generated):
                response.text.encode("utf-8")
            return super().score(sample, response)

    (problem,) = problems(Broken(), data)
    assert problem.check == "hostile"
    assert "UnicodeEncodeError" in problem.message


def test_a_score_that_is_not_a_number(data):
    class Broken(Sums):
        def score(self, sample, response):
            if isinstance(response, Generated) and response.text == "nan":
                return Outcome({"right": float("nan")})
            return super().score(sample, response)

    assert [p.check for p in problems(Broken(), data)] == ["hostile"]


def test_no_golden_file(data):
    (problem,) = validate(Sums(), data, None)
    assert problem.check == "prompts"
    assert "--update" in problem.message


def test_a_prompt_that_has_changed_shows_where(data):
    golden = golden_of(Sums(), data)

    class Broken(Sums):
        def request(self, sample, shots, variant):
            sample = msgspec.structs.replace(sample, fields={"question": "0+ 1="})
            return super().request(sample, shots, variant)

    first, second = validate(Broken(), data, golden)
    assert "at 2, '0+1=' became '0+ 1='" in first.message
    assert (first.where, second.where) == ("write/0-shot", "pick/1-shot")


def test_choices_that_have_changed(data):
    golden = golden_of(Sums(), data)
    golden["prompts"]["pick/1-shot"]["choices"] = [" 1", " 2", " 3", " 4"]
    (problem,) = validate(Sums(), data, golden)
    assert "choices" in problem.message


def test_a_golden_prompt_at_another_number_of_examples(data):
    golden = golden_of(Sums(), data)
    golden["prompts"]["write/1-shot"] = {"sample": "1", "prompt": "7+1=8\n1+1="}
    assert validate(Sums(), data, golden) == []
    golden["prompts"]["write/1-shot"]["prompt"] = "1+1="
    assert [p.check for p in validate(Sums(), data, golden)] == ["prompts"]


@pytest.mark.parametrize(
    "key", ["write/0-shot/x", "0-shot", "write/-1-shot", "write/0", "write/9-shot", "read/0-shot"]
)
def test_a_golden_prompt_that_is_of_nothing(data, key):
    golden = golden_of(Sums(), data)
    golden["prompts"][key] = {"sample": "0", "prompt": "0+1="}
    assert "prompts" in {p.check for p in validate(Sums(), data, golden)}


def test_a_variant_without_a_golden_prompt(data):
    golden = golden_of(Sums(), data)
    del golden["prompts"]["pick/1-shot"]
    (problem,) = validate(Sums(), data, golden)
    assert (problem.check, problem.where) == ("prompts", "pick")


@pytest.mark.parametrize(
    "case",
    [
        {"sample": "0", "output": "1", "scores": {"right": 0}},
        {"sample": "0", "output": "1", "scores": {"wrong": 0}},
        {"sample": "0", "output": "1", "scores": {"right": [1, 1]}},
        {"sample": "9", "output": "1", "scores": {"right": 1}},
        {"sample": "0", "output": {"type": "nothing"}, "scores": {"right": 1}},
    ],
)
def test_a_golden_case_that_does_not_hold(data, case):
    golden = golden_of(Sums(), data)
    golden["cases"].append(case)
    assert [p.check for p in validate(Sums(), data, golden)] == ["cases"]


def test_no_golden_cases(data):
    golden = golden_of(Sums(), data) | {"cases": []}
    assert [p.check for p in validate(Sums(), data, golden)] == ["cases"]


@pytest.mark.parametrize("golden", [{"prompt": {}}, {"cases": 3}, {"prompts": []}])
def test_a_malformed_golden_file(data, golden):
    assert [p.check for p in validate(Sums(), data, golden)] == ["prompts"]


@pytest.fixture
def on_disk(tmp_path):
    (tmp_path / "samples").mkdir()
    task = Sums()
    task.folder = tmp_path
    return task


def test_update_writes_prompts_and_keeps_cases(on_disk):
    file = update_golden(on_disk)
    assert file == on_disk.folder / "golden" / "sums.json"
    assert [p.check for p in check(on_disk)] == ["cases"]
    golden = json.loads(file.read_text(encoding="utf-8"))
    golden["cases"] = [{"sample": "0", "output": "1", "scores": {"right": 1}}]
    golden["prompts"]["write/0-shot"]["prompt"] = "old"
    file.write_text(json.dumps(golden), encoding="utf-8")
    assert [p.check for p in check(on_disk)] == ["prompts"]
    update_golden(on_disk)
    assert check(on_disk) == []
    assert json.loads(file.read_text(encoding="utf-8"))["cases"] == golden["cases"]


def test_a_golden_file_that_is_not_json_is_not_overwritten(on_disk):
    file = on_disk.folder / "golden" / "sums.json"
    file.parent.mkdir()
    file.write_text("{", encoding="utf-8")
    assert [p.check for p in check(on_disk)] == ["data"]
    with pytest.raises(BadTask, match="not JSON"):
        update_golden(on_disk)
    assert file.read_text(encoding="utf-8") == "{"
