"""Every shipped task is sound: metadata, gold and empty answers, golden prompts and cases."""

import pytest

from evalsuite.errors import DataMissing
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.registry import load_task, shipped_folder, task_names
from evalsuite.validation import check

SHIPPED = [name for name, where in task_names().items() if where.startswith(str(shipped_folder()))]


def test_there_are_tasks():
    assert {"cmmlu", "ceval", "mcq"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_task_is_sound(name):
    assert [str(problem) for problem in check(load_task(name))] == []


@pytest.mark.parametrize("name", SHIPPED)
def test_plan_does_not_depend_on_who_asks_or_when(name):
    first, second = (plan_task(TaskChoice(label=name), limit=5, seed=3) for _ in range(2))
    assert first.part == second.part
    assert first.requests == second.requests


@pytest.mark.parametrize("name", SHIPPED)
def test_an_empty_folder_is_an_error_that_says_what_is_expected(name, tmp_path):
    layout = load_task(name).meta.source.layout
    with pytest.raises(DataMissing) as caught:
        plan_task(TaskChoice(label=name, data=tmp_path))
    assert layout in caught.value.hint


def test_every_golden_file_belongs_to_a_task():
    golden = {file.stem for file in (shipped_folder() / "golden").glob("*.json")}
    assert golden == set(SHIPPED)
