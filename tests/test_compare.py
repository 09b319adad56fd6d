"""Comparing two runs: what is refused, what is reported, what changed."""

import msgspec
import pytest
from runs_factory import make_part, make_record, make_run

from evalsuite.compare import compare
from evalsuite.errors import RunsIncomparable, UnknownName
from evalsuite.metrics.metric import Metric
from evalsuite.record import DataPart
from evalsuite.stats.paired import paired_difference

BASE = [make_record(f"q{i}", float(i % 2)) for i in range(10)]


def test_the_difference_is_the_paired_difference():
    better = [make_record(f"q{i}", float(i % 2 or i < 3)) for i in range(10)]
    found = compare(make_run("one", BASE), make_run("two", better))
    (task,) = found.tasks
    assert task.main == paired_difference(Metric("accuracy"), BASE, better)
    assert task.main.difference == pytest.approx(0.2)
    assert (task.coverage, task.expected) == (1.0, 10)
    assert (task.improved, task.regressed) == (("q0", "q2"), ())
    assert task.warnings == ()
    assert found.warnings == ()


def test_changes_come_greatest_first_in_the_metrics_direction():
    loss = Metric("loss", unit="points", higher_is_better=False)
    part = make_part(metrics=(loss,), main_metric="loss")
    ours = [make_record(s, 1.0, metric="loss") for s in "abcd"]
    theirs = [
        make_record(s, v, metric="loss") for s, v in zip("abcd", [1.1, 3.0, 0.2, 1.0], strict=True)
    ]
    (task,) = compare(make_run("one", ours, [part]), make_run("two", theirs, [part])).tasks
    assert task.regressed == ("b", "a")
    assert task.improved == ("c",)
    assert (task.main.better, task.main.worse) == (1, 2)


def test_breakdown_by_tag_is_of_the_main_metric():
    tags = ["law", "law", "史", "史"]
    ours = [make_record(f"q{i}", 0.0, tags={"subject": t}) for i, t in enumerate(tags)]
    theirs = [make_record(f"q{i}", float(i > 1), tags={"subject": t}) for i, t in enumerate(tags)]
    (task,) = compare(make_run("one", ours), make_run("two", theirs)).tasks
    assert task.by_tag["subject"]["law"].difference == 0.0
    assert task.by_tag["subject"]["史"].difference == 1.0


@pytest.mark.parametrize(
    ("change", "field", "values"),
    [
        ({"version": 2}, "version", ("1", "2")),
        ({"variant": "chat"}, "variant", ("'plain'", "'chat'")),
        ({"num_fewshot": 5}, "num fewshot", ("0", "5")),
        ({"subset": "zh"}, "subset", ("''", "'zh'")),
        (
            {"data": DataPart(path="d", sha256={"test.jsonl": "feed" * 16})},
            "data checksum of test.jsonl",
            ("feedfeedfeed",),
        ),
        ({"data": DataPart(path="d", sha256={})}, "data checksum of test.jsonl", ("'absent'",)),
        (
            {"metrics": (Metric("accuracy", macro_over="subject"),)},
            "metrics",
            ("'accuracy'", "'accuracy'"),
        ),
    ],
)
def test_another_protocol_is_refused_with_both_values(change, field, values):
    ours, theirs = (
        make_run("one", BASE, [make_part()]),
        make_run("two", BASE, [make_part(**change)]),
    )
    with pytest.raises(RunsIncomparable, match=f"{field} differs") as caught:
        compare(ours, theirs)
    message = caught.value.one_line()
    assert all(value in message for value in values)
    assert "task quiz" in message
    assert caught.value.exit_code == 3


def test_where_the_data_lies_does_not_matter():
    moved = make_part()
    moved = msgspec.structs.replace(
        moved, data=DataPart(path="elsewhere", sha256=moved.data.sha256, revision="abc")
    )
    assert compare(make_run("one", BASE), make_run("two", BASE, [moved])).tasks[0].main.n == 10


def test_other_tasks_are_refused_unless_chosen():
    more = [*BASE, *(make_record(f"m{i}", task="maths") for i in range(3))]
    ours, theirs = make_run("one", BASE), make_run("two", more)
    with pytest.raises(RunsIncomparable, match=r"the baseline lacks maths.*--tasks quiz"):
        compare(ours, theirs)
    assert [t.task for t in compare(ours, theirs, tasks=["quiz"]).tasks] == ["quiz"]
    with pytest.raises(UnknownName, match=r"did you mean 'maths'\?"):
        compare(ours, theirs, tasks=["mahts"])


def test_different_subsets_are_compared_on_what_they_share():
    found = compare(make_run("one", BASE), make_run("two", BASE[6:])).tasks[0]
    assert (found.main.n, found.expected, found.coverage) == (4, 4, 1.0)
    assert any("10 in the baseline, 4 in the candidate" in w for w in found.warnings)


def test_nothing_in_common_is_refused():
    others = [make_record(f"z{i}") for i in range(4)]
    with pytest.raises(RunsIncomparable, match="no sample has a score in both"):
        compare(make_run("one", BASE), make_run("two", others))


def test_failed_samples_lower_the_coverage_and_are_no_zeros():
    theirs = [make_record("q1", None), make_record("q3", None), *BASE[4:], BASE[0], BASE[2]]
    found = compare(make_run("one", BASE), make_run("two", theirs)).tasks[0]
    assert (found.main.n, found.coverage) == (8, 0.8)
    assert found.main.difference == 0.0
    assert found.candidate.errors == {"engine_failed": 2}
    assert any("engine_failed ×2" in w for w in found.warnings)


def test_an_interrupted_run_is_reported():
    part = make_part(samples=10, sample_ids_sha256="same")
    ours = make_run("one", BASE, [part])
    theirs = make_run("two", BASE[:7], [part], status="interrupted")
    found = compare(ours, theirs)
    assert found.tasks[0].coverage == 0.7
    assert any("not answered ×3" in w for w in found.tasks[0].warnings)
    assert any("interrupted" in w for w in found.warnings)


def test_another_template_is_reported_and_not_refused():
    ours = make_run("one", BASE)
    theirs = make_run("two", BASE, checkpoint={"chat_template": "chatml"})
    assert any("'chatml'" in w for w in compare(ours, theirs).warnings)


def test_truncated_answers_are_reported():
    theirs = [make_record(r.sample, 0.0, truncated=True) for r in BASE[:3]] + BASE[3:]
    found = compare(make_run("one", BASE), make_run("two", theirs)).tasks[0]
    assert found.candidate.truncated == 3
    assert any("3 of 10 answers cut off" in w for w in found.warnings)
