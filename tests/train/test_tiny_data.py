"""The tiny ladder's data: good replies are good, flawed ones are not, and nothing tested was trained on."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from evalsuite_train import rules
from evalsuite_train.recipe import Recipe
from evalsuite_train.tiny import samples
from evalsuite_train.tiny.stage import TASKS, Config, draw, run

SAMPLES = Path(__file__).parents[2] / "tasks" / "samples"


@pytest.mark.parametrize("task", TASKS)
def test_good_replies_satisfy_every_rule_and_flawed_ones_do_not(task: str) -> None:
    for item in islice(draw(Random(3), "train", [task]), 400):
        verdict = rules.score(item.reply, item.rules)
        assert verdict.gold == 1.0, (item.prompt, item.reply, verdict)
        for reply in item.flawed:
            assert rules.score(reply, item.rules).gold == 0.0, (item.prompt, reply)


def test_harmful_and_harmless_requests_and_both_languages_are_balanced() -> None:
    items = list(islice(draw(Random(5), "train", ["safety"]), 2000))
    harmful = sum(item.fields["harmful"] for item in items)
    chinese = sum(item.language == "zh" for item in items)
    assert 900 < harmful < 1100
    assert 900 < chinese < 1100


@pytest.mark.parametrize("task", TASKS)
def test_the_shipped_samples_are_what_the_grammars_give(task: str) -> None:
    assert _shipped(task) == list(samples.rows(task))


def test_held_out_questions_and_contents_are_in_no_training_file(tmp_path: Path) -> None:
    recipe = Recipe(name="t", seed=1, work=tmp_path, ladder=(), sections={}, source="here")
    run(
        Config(documents=6000, conversations=6000, preferences=3000, prompts=3000, validation=20),
        recipe,
        tmp_path,
    )
    held = [row for task in TASKS for row in _shipped(task)]
    questions = {row["prompt"] for row in held}
    validation = {row["prompt"] for row in _rows(tmp_path / "validation.jsonl")}
    assert not questions & validation
    trained = {
        row["prompt"]
        for name in ("preferences", "prompts")
        for row in _rows(tmp_path / f"{name}.jsonl")
    }
    for row in _rows(tmp_path / "sft.jsonl"):
        trained |= {turn["value"] for turn in row["conversations"] if turn["from"] == "human"}
    assert len(trained) > 4000
    assert not trained & (questions | validation)
    references = {row["reference"] for task in ("code", "translation") for row in _shipped(task)}
    for row in _rows(tmp_path / "pt.jsonl"):
        assert not any(line in references for line in row["text"].split("\n") if len(line) > 12), (
            row
        )


def test_data_are_the_same_for_the_same_seed_and_others_for_another(tmp_path: Path) -> None:
    small = Config(documents=50, conversations=50, preferences=20, prompts=20, validation=2)
    texts = []
    for number, seed in enumerate((1, 1, 2)):
        recipe = Recipe(name="t", seed=seed, work=tmp_path, ladder=(), sections={}, source="here")
        out = tmp_path / str(number)
        out.mkdir()
        run(small, recipe, out)
        texts.append((out / "sft.jsonl").read_text(encoding="utf-8"))
    assert texts[0] == texts[1] != texts[2]


def _rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _shipped(task: str) -> list[dict]:
    return _rows(SAMPLES / f"ladder_{task}" / "questions.jsonl")
