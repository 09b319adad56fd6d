"""The curriculum: difficulty measured by the parent, ranked within a task, replay of what was easier."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.model import load_model
from evalsuite_train.sft.curriculum import measure_difficulty, plan_stages, write_plan
from evalsuite_train.sft.reply_loss import reply_loss
from evalsuite_train.sft.samples import read_samples
from hypothesis import given
from hypothesis import strategies as st
from sft_factory import write_data

ROWS = st.lists(
    st.tuples(st.sampled_from(["easy", "hard", "rare"]), st.floats(0, 9)), min_size=1, max_size=60
)


@pytest.fixture(scope="module")
def parent(checkpoint_path):
    return load_model(checkpoint_path)


@pytest.fixture
def samples(tmp_path, checkpoint_path):
    write_data(tmp_path, copies=1)
    tokenizer = load_tokenizer(checkpoint_path)
    return read_samples(tmp_path / "data/sft.jsonl", tokenizer, "ziya", max_length=99)[0]


def test_difficulty_is_the_mean_loss_of_the_reply(parent, samples):
    """Against one plain forward pass a sample, with no packing and no portions."""
    measured = reply_loss(parent, samples)
    for sample, loss, correct, count in zip(samples, *measured, strict=True):
        ids = torch.from_numpy(sample.ids.astype(np.int64))[None]
        with torch.inference_mode():
            logits = parent(ids).logits[0, :-1]
        wanted, learnt = ids[0, 1:], torch.from_numpy(sample.learnt[1:])
        each = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")[learnt]
        assert loss == pytest.approx(float(each.mean()), rel=1e-5)
        assert count == learnt.sum() == len(each)
        assert correct == (logits.argmax(1) == wanted)[learnt].sum()


@given(ROWS, st.integers(1, 4), st.floats(0, 0.9), st.integers(0, 3))
def test_stages_part_every_task_from_easy_to_hard(rows, stages, replay, seed):
    tasks, losses = [task for task, _ in rows], np.array([loss for _, loss in rows])
    plan = plan_stages(tasks, losses, stages, replay, seed)
    assert sorted(np.concatenate([stage.own for stage in plan])) == list(range(len(rows)))
    for task in set(tasks):
        members = [[i for i in stage.own if tasks[i] == task] for stage in plan]
        sizes = [len(part) for part in members]
        assert max(sizes) - min(sizes) <= 1
        held = [losses[part] for part in members if part]
        for easier, harder in pairwise(held):
            assert easier.max() <= harder.min()
    seen: set[int] = set()
    for stage in plan:
        again = stage.replayed.tolist()
        assert set(again) <= seen
        assert len(set(again)) == len(again)
        wanted = len(stage.own) * replay / (1 - replay)
        assert len(again) == min(len(seen), round(wanted))
        seen |= set(stage.own.tolist())
    twice = plan_stages(tasks, losses, stages, replay, seed)
    assert all((a.members == b.members).all() for a, b in zip(plan, twice, strict=True))


def test_a_hard_task_is_not_left_to_the_end():
    """Ranked over all tasks, the hard one would fill the last stage alone."""
    tasks = ["easy"] * 30 + ["hard"] * 30
    losses = np.concatenate([np.linspace(0.1, 1, 30), np.linspace(5, 9, 30)])
    for stage in plan_stages(tasks, losses, 3, 0.0, 1):
        assert [tasks[i] for i in stage.own].count("hard") == 10


def test_scores_are_kept_for_a_resumed_training(parent, samples, tmp_path):
    cache = tmp_path / "difficulty.json"
    first = measure_difficulty(parent, samples, cache, "key")

    def no_model(*_):
        raise AssertionError("measured again")

    assert (measure_difficulty(no_model, samples, cache, "key") == first).all()
    with pytest.raises(AttributeError):
        measure_difficulty(no_model, samples, cache, "other data")
    assert measure_difficulty(parent, samples[:3], cache, "key") == pytest.approx(
        first[:3], rel=1e-5
    )


def test_the_plan_is_written_down(samples, tmp_path):
    losses = np.arange(len(samples), dtype=float)
    plan = plan_stages([s.task for s in samples], losses, 2, 0.5, 1)
    write_plan(tmp_path, samples, losses, plan)
    rows = [
        json.loads(line) for line in (tmp_path / "curriculum.jsonl").read_text("utf-8").splitlines()
    ]
    assert [row["where"] for row in rows] == [sample.where for sample in samples]
    for number, stage in enumerate(plan, 1):
        assert [i for i, row in enumerate(rows) if row["stage"] == number] == stage.own.tolist()
        assert [
            i for i, row in enumerate(rows) if number in row["replayed"]
        ] == stage.replayed.tolist()
    summary = json.loads((tmp_path / "curriculum.json").read_text("utf-8"))
    assert summary[0]["tasks"]["colour"] == {
        "samples": 2,
        "replayed": 0,
        "easiest": 0,
        "hardest": 1,
    }
    assert sum(task["replayed"] for task in summary[1]["tasks"].values()) == 4
