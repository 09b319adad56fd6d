"""The tiny ladder's data: good replies are good, flawed ones are not, and nothing tested was trained on."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from evalsuite_train import rules
from evalsuite_train.recipe import Recipe
from evalsuite_train.tiny import samples
from evalsuite_train.tiny.item import Generator, Item
from evalsuite_train.tiny.lexicon import CATEGORIES, HARMFUL, HARMLESS, NAMES, OBJECTS
from evalsuite_train.tiny.stage import TASKS, Config, draw, run

SAMPLES = Path(__file__).parents[2] / "tasks" / "samples"
_LINE = re.compile(r"^(\d+)([+-])(\d+)=", re.MULTILINE)


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny-data")
    recipe = Recipe(name="t", seed=1, work=out, ladder=(), sections={}, source="here")
    config = Config(
        documents=12_000, conversations=12_000, preferences=3000, prompts=3000, validation=20
    )
    run(config, recipe, out)
    return out


def test_held_out_questions_are_in_no_training_file(folder: Path) -> None:
    questions = {row["prompt"] for task in TASKS for row in _shipped(task)}
    validation = {row["prompt"] for row in _rows(folder / "validation.jsonl")}
    assert not questions & validation
    asked = {text for name, text in _trained(folder) if name != "pt.jsonl"}
    assert len(asked) > 10_000
    assert not asked & (questions | validation)


def test_no_sum_that_is_asked_stands_in_a_training_file_as_a_line_of_working(folder: Path) -> None:
    """A sum of one step is asked by its numbers, in whatever order; a line of a longer sum teaches it too."""
    asked = {
        (sign, *sorted((int(a), int(b))))
        for row in _shipped("arithmetic")
        for sign, a, b in [_LINE.match(row["reference"]).group(2, 1, 3)]
        if row["content"].endswith("/0")
    }
    assert len(asked) > 50
    worked = {
        (sign, *sorted((int(a), int(b))))
        for _, text in _trained(folder)
        for a, sign, b in _LINE.findall(text)
    }
    assert len(worked) > 300
    assert not asked & worked


def test_no_facts_that_are_asked_about_are_trained_on_in_either_language_or_form(
    folder: Path,
) -> None:
    english = dict(NAMES) | {zh: en for _, rows in CATEGORIES.items() for zh, en in rows}

    def known(text: str) -> tuple[frozenset[tuple[str, str]], str] | None:
        zh = re.match(r"(..)喜欢(.+?)。(..)喜欢(.+?)。(..)喜欢哪", text)
        if zh:
            a, b, c, d, who = (english[part] for part in zh.groups())
        else:
            en = re.match(
                r"(\w+) likes (.+?)\. (\w+) likes (.+?)\. Which of the [\w ]+ does (\w+) like", text
            )
            if en is None:
                return None
            a, b, c, d, who = en.groups()
        return frozenset({(a, b), (c, d)}), who

    asked = {known(row["prompt"]) for row in _shipped("knowledge")}
    trained = {known(text) for _, text in _trained(folder)} - {None}
    assert None not in asked
    assert len(asked) > 800
    assert len(trained) > 2000
    assert not asked & trained


def test_no_program_sentence_or_request_that_is_asked_for_is_trained_on_in_any_wording(
    folder: Path,
) -> None:
    lines = {line for _, text in _trained(folder) for line in text.split("\n")}
    returned = {row["program"].split("\n")[1] for row in _shipped("code")}
    assert any(line.startswith("    return ") for line in lines)
    assert not returned & lines
    sentences = {row["reference"] for row in _shipped("translation")}
    assert not sentences & lines
    verbs = {part[0]: part[1] for part in (*HARMFUL, *HARMLESS)}
    things = {part[0]: part[1] for part in OBJECTS}
    requests = {tuple(row["content"].split("|")) for row in _shipped("safety")}
    said = "\n".join(lines)
    for verb, thing in requests:
        assert f"{verb}{thing}" not in said
        assert f"{verbs[verb]} {things[thing]}" not in said


def test_no_content_is_both_asked_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the generators themselves call the content, with every part of it."""
    trained: dict[str, set[str]] = defaultdict(set)
    for task, generator in list(TASKS.items()):

        def recorded(rng: Random, task: str = task, generator: Generator = generator) -> Item:
            item = generator(rng)
            if item.split == "train":
                trained[task] |= {item.content, *item.parts}
            return item

        monkeypatch.setitem(TASKS, task, recorded)
    recipe = Recipe(name="t", seed=2, work=tmp_path, ladder=(), sections={}, source="here")
    small = Config(documents=4000, conversations=4000, preferences=500, prompts=500, validation=5)
    run(small, recipe, tmp_path)
    for task in TASKS:
        held = {row["content"] for row in _shipped(task)}
        assert len(trained[task]) > 100
        assert not held & trained[task], task


def test_one_answer_to_everything_earns_chance() -> None:
    answers = Counter(row["answer"] for row in _shipped("knowledge"))
    assert answers == dict.fromkeys("ABCD", 240)
    assert Counter(row["harmful"] for row in _shipped("safety")) == {True: 240, False: 240}


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


def _trained(folder: Path) -> Iterator[tuple[str, str]]:
    """Each text of each training file, with the file's name."""
    for row in _rows(folder / "pt.jsonl"):
        yield "pt.jsonl", row["text"]
    for row in _rows(folder / "sft.jsonl"):
        for turn in row["conversations"]:
            yield "sft.jsonl", turn["value"]
    for name in ("preferences.jsonl", "hindsight.jsonl", "prompts.jsonl"):
        for row in _rows(folder / name):
            for field in ("prompt", "chosen", "rejected", "reference"):
                if field in row:
                    yield name, row[field]


def _shipped(task: str) -> list[dict]:
    return _rows(SAMPLES / f"ladder_{task}" / "questions.jsonl")
