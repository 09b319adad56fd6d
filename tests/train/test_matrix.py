"""Stages one after the other, and what each won, lost and kept of every task."""

from __future__ import annotations

import json

import pytest
from evalsuite_train.checkpoint import read_card
from evalsuite_train.errors import BadData
from evalsuite_train.ladder import run_section
from evalsuite_train.sft import stage
from evalsuite_train.sft.examination import Result
from evalsuite_train.sft.matrix import Forgotten, Matrix
from sft_factory import sft_recipe, write_data

from evalsuite.checkpoint import Card

STEPS = 80


def results(**accuracies):
    return {task: Result(10, value, value, 1.0, 0.5) for task, value in accuracies.items()}


@pytest.fixture(scope="module")
def trained(checkpoint_path, tmp_path_factory):
    work = tmp_path_factory.mktemp("stages")
    write_data(work)
    recipe = sft_recipe(work, checkpoint_path, stages=2, replay=0.4, steps=STEPS, forgetting=0.25)
    run_section(recipe, "sft")
    return recipe


def test_row_supervised_fine_tuning_in_stages(trained, capsys):
    """A stage × task matrix; forgetting is bounded; difficulty is ranked within a task."""
    out = trained.folder("sft")
    matrix = json.loads((out / "matrix.json").read_text("utf-8"))
    assert list(matrix["stages"]) == ["parent", "stage 1", "stage 2"]
    start, _, last = matrix["stages"].values()
    for task in ("colour", "count"):
        assert start[task]["accuracy"] == 0.0
        assert last[task]["accuracy"] >= 0.75
        assert last[task]["loss"] < start[task]["loss"]
        assert matrix["forgetting"][task] <= 0.25
    plan = json.loads((out / "curriculum.json").read_text("utf-8"))
    for task in ("colour", "count"):
        easy, hard = (stage["tasks"][task] for stage in plan)
        assert easy["samples"] == hard["samples"] == 12
        assert easy["hardest"] <= hard["easiest"]
    assert (out / "matrix.svg").read_text("utf-8").count("<rect") == 6


def test_every_stage_is_a_checkpoint_with_its_card(trained):
    out = trained.folder("sft")
    cards = [
        read_card(out / name) for name in ("stage-1/checkpoint", "stage-2/checkpoint", "checkpoint")
    ]
    assert [card["name"] for card in cards] == ["toy-sft-1", "toy-sft-2", "toy-sft"]
    assert [card["step"] for card in cards] == [STEPS // 2, STEPS, STEPS]
    assert cards[1]["parent"] == "toy-sft-1"
    assert cards[2]["chat_template"] == "ziya"
    assert set(cards[2]) <= {*Card.__struct_fields__, "seed"}
    rows = [
        json.loads(line)
        for line in (out / "checkpoint/train_log.jsonl").read_text("utf-8").splitlines()
    ]
    assert {row["stage"] for row in rows} == {1, 2}


class Killed(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


def test_a_resumed_run_ends_with_the_same_weights(trained, tmp_path, monkeypatch):
    """Killed between two saved states of the second stage; the first one is not trained again."""
    write_data(tmp_path)
    recipe = sft_recipe(tmp_path, **{**trained.sections["sft"], "save_every": 16})
    stream, taken = stage.stream, []

    def killing(*args, **settings):
        batches = stream(*args, **settings)

        def counted(start):
            for number, batch in enumerate(batches(start), start):
                if len(taken) == STEPS // 2 + 24:
                    taken.append(number)
                    raise Killed
                taken.append(number)
                yield batch

        return counted

    monkeypatch.setattr(stage, "stream", killing)
    with pytest.raises(Killed):
        run_section(recipe, "sft")
    run_section(recipe, "sft")
    assert taken == [*range(STEPS // 2), *range(25), *range(16, STEPS // 2)]
    weights = [r.folder("sft") / "checkpoint/model.safetensors" for r in (recipe, trained)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not list(recipe.folder("sft").rglob("state*.pt"))


def test_a_stage_that_forgets_too_much_stops_the_run(tmp_path, checkpoint_path):
    write_data(tmp_path)
    recipe = sft_recipe(tmp_path, checkpoint_path, steps=1, forgetting=-0.5)
    with pytest.raises(Forgotten, match=r"matrix.json, stage 1: .*colour .*; -0.5 is allowed"):
        run_section(recipe, "sft")
    assert not (recipe.folder("sft") / "checkpoint").exists()
    assert (recipe.folder("sft") / "stage-1/checkpoint/model.safetensors").is_file()


def test_forgetting_is_against_the_best_stage_before(tmp_path):
    matrix = Matrix(tmp_path / "matrix.json", "key")
    for name, row in {
        "parent": results(a=0.2, b=0.9),
        "stage 1": results(a=0.8, b=0.5),
        "stage 2": results(a=0.5, b=0.7),
    }.items():
        matrix.add(name, row)
    assert matrix.forgetting() == pytest.approx({"a": 0.3, "b": 0.2})
    matrix.check(0.31)
    with pytest.raises(Forgotten, match=r"stage 2: .*a 0\.300; 0\.25 is allowed"):
        matrix.check(0.25)
    assert matrix.table().splitlines()[-1].split() == ["forgotten", "+0.300", "+0.200"]
    assert Matrix(tmp_path / "matrix.json", "key").rows == matrix.rows
    assert Matrix(tmp_path / "matrix.json", "other settings").rows == {}


def test_a_damaged_matrix_is_named(tmp_path):
    (tmp_path / "matrix.json").write_text('{"key": "a", "stages": ', encoding="utf-8")
    with pytest.raises(BadData, match=r"matrix\.json: not a matrix"):
        Matrix(tmp_path / "matrix.json", "a")


def test_task_names_do_not_break_the_picture(tmp_path):
    matrix = Matrix(tmp_path / "matrix.json", "key")
    matrix.add("parent", results(**{"<script>&": 1.0}))
    assert "<script>" not in matrix.svg()
