"""From records to a task's scores."""

import math

import msgspec
import pytest
from runs_factory import make_part, make_record
from statsmodels.stats.proportion import proportion_confint

from evalsuite.metrics.metric import Metric
from evalsuite.summary import MAX_TAG_VALUES, summarise


def test_scores_errors_and_truncation_are_counted_apart():
    part = make_part(samples=6)
    records = [
        make_record("a", 1.0, answer="A"),
        make_record("b", 0.0, answer="C", truncated=True),
        make_record("c", 1.0, answer=None),
        make_record("d", None),
        make_record("e", None),
    ]
    found = summarise(part, records)
    assert (found.samples, found.scored) == (6, 3)
    assert found.errors == {"engine_failed": 2}
    assert found.truncated == 1
    assert found.extracted == 2 / 3
    accuracy = found.metrics["accuracy"]
    assert (accuracy.value, accuracy.n) == (2 / 3, 3)
    assert (accuracy.low, accuracy.high) == pytest.approx(proportion_confint(2, 3, method="wilson"))


def test_no_answer_found_is_a_rate_of_zero():
    assert summarise(make_part(), [make_record("a"), make_record("b", 0.0)]).extracted == 0.0


def test_nothing_scored_has_no_extraction_rate():
    assert math.isnan(summarise(make_part(), [make_record("a", None)]).extracted)


def test_samples_that_demand_nothing_are_not_counted():
    records = [make_record(str(i), [float(i < 3), float(i < 4)]) for i in range(9)]
    found = summarise(make_part(), records)
    assert (found.scored, found.metrics["accuracy"].value) == (9, 3 / 4)
    assert found.metrics["accuracy"].n == 4


def test_every_metric_is_broken_down_by_every_tag():
    f1 = Metric("f1", formula="f1", statistic="overlap")
    part = make_part(metrics=(Metric("accuracy"), f1), main_metric="f1")
    records = [
        make_record(str(i), tags={"subject": subject, "level": "1"})
        for i, subject in enumerate("aab")
    ]
    records = [
        msgspec.structs.replace(r, scores=scores)
        for r, scores in zip(
            records,
            [
                {"accuracy": 1.0, "overlap": [1.0, 2.0, 2.0]},
                {"accuracy": 0.0, "overlap": [0.0, 1.0, 3.0]},
                {"accuracy": 1.0, "overlap": [2.0, 2.0, 2.0]},
            ],
            strict=True,
        )
    ]
    found = summarise(part, records)
    assert found.by_tag["accuracy"]["subject"]["a"].value == 0.5
    assert found.by_tag["f1"]["subject"]["a"].value == 2 * 1 / (3 + 5)
    assert found.by_tag["f1"]["subject"]["b"].n == 1
    assert list(found.by_tag["f1"]) == ["level", "subject"]


def test_tags_that_name_samples_are_left_out():
    many = [
        make_record(f"{i:03}", tags={"id": str(i), "half": str(i % 2)})
        for i in range(MAX_TAG_VALUES + 1)
    ]
    found = summarise(make_part(), many)
    assert list(found.by_tag["accuracy"]) == ["half"]


def test_no_records_at_all():
    found = summarise(make_part(samples=3), [])
    assert (found.samples, found.scored) == (3, 0)
    assert math.isnan(found.metrics["accuracy"].value)
