"""Options of the form TASK=VALUE and KEY=VALUE."""

from __future__ import annotations

import pytest

from evalsuite.cli.pairs import by_key, by_task
from evalsuite.errors import BadOption, UnknownName


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {"cmmlu": "", "mgsm/zh": "", "mgsm/en": ""}),
        (["cmmlu=a"], {"cmmlu": "a", "mgsm/zh": "", "mgsm/en": ""}),
        (["mgsm=a"], {"cmmlu": "", "mgsm/zh": "a", "mgsm/en": "a"}),
        (["mgsm=a", "mgsm/en=b"], {"cmmlu": "", "mgsm/zh": "a", "mgsm/en": "b"}),
        (["mgsm/en=b", "mgsm=a"], {"cmmlu": "", "mgsm/zh": "a", "mgsm/en": "b"}),
        (["cmmlu=a=b =c"], {"cmmlu": "a=b =c", "mgsm/zh": "", "mgsm/en": ""}),
    ],
)
def test_a_value_goes_to_its_task_and_the_nearer_name_wins(values, expected):
    assert by_task("--data", values, ["cmmlu", "mgsm/zh", "mgsm/en"]) == expected


@pytest.mark.parametrize("value", ["cmmlu", "cmmlu=", "=x", "", "="])
def test_half_a_pair_is_refused(value):
    with pytest.raises((BadOption, UnknownName), match="--data"):
        by_task("--data", [value], ["cmmlu"])


def test_a_task_given_twice_is_refused():
    with pytest.raises(BadOption, match="cmmlu is given twice"):
        by_task("--data", ["cmmlu=a", "cmmlu=b"], ["cmmlu"])


def test_a_task_that_is_not_run_names_its_neighbour():
    with pytest.raises(UnknownName, match="did you mean 'cmmlu'"):
        by_task("--data", ["cmlu=a"], ["cmmlu", "mgsm/zh"])
    with pytest.raises(UnknownName):
        by_task("--data", ["mgsm/en=a"], ["cmmlu", "mgsm/zh"])


def test_keys_with_values():
    assert by_key("--engine-option", ["a=1", "b=c=d"]) == {"a": "1", "b": "c=d"}
    for values in (["a"], ["a="], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(BadOption, match="--engine-option"):
            by_key("--engine-option", values)
