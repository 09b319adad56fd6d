"""Recipes and the ladder: what runs, what is left alone, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.errors import BadRecipe, Diverged, TrainError
from evalsuite_train.ladder import run_ladder, run_section, section_key
from evalsuite_train.recipe import Recipe, open_recipe, shipped
from evalsuite_train.trainer import Training

TINY_DATA = """
name: t
work: {work}
ladder: [data, base]
data: {{stage: tiny-data, documents: 300, conversations: 30, preferences: 10, prompts: 10, validation: 2}}
base: {{stage: vocabulary, base: train, pieces: 400, texts: [data/pt-latin.jsonl]}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(TINY_DATA.format(work=tmp_path / "work"), encoding="utf-8")
    return file


def test_a_finished_section_is_left_alone(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_ladder(open_recipe(str(recipe)))
    first = capsys.readouterr().out
    run_ladder(open_recipe(str(recipe)))
    again = capsys.readouterr().out
    assert first.count("starting, in") == 2
    assert "starting, in" not in again
    assert again.count("finished before") == 2


def test_a_changed_setting_runs_its_section_again_and_all_that_build_on_it(recipe: Path) -> None:
    opened = open_recipe(str(recipe))
    changed = open_recipe(str(recipe), changes=("data.documents=301",))
    assert section_key(opened, "data") != section_key(changed, "data")
    assert section_key(opened, "base") != section_key(changed, "base")
    other = open_recipe(str(recipe), changes=("base.pieces=401",))
    assert section_key(opened, "data") == section_key(other, "data")


def test_a_section_that_is_run_anew_keeps_nothing_of_the_old_one(
    recipe: Path, tmp_path: Path
) -> None:
    run_section(open_recipe(str(recipe)), "data")
    (tmp_path / "work" / "data" / "stale").write_text("x")
    run_section(open_recipe(str(recipe), changes=("data.documents=301",)), "data")
    assert not (tmp_path / "work" / "data" / "stale").exists()


@pytest.fixture
def trained(checkpoint_path: Path, tmp_path: Path) -> Path:
    """A recipe whose only section, ``pt``, has finished."""
    (tmp_path / "pt.jsonl").write_text('{"text": "今天天气很好，我们去公园。"}\n' * 20, "utf-8")
    load_tokenizer(checkpoint_path).save_pretrained(tmp_path / "tokenizer")
    settings = {"parent": str(checkpoint_path), "tokenizer": str(tmp_path / "tokenizer")}
    settings |= {"data": str(tmp_path / "pt.jsonl"), "length": 16, "batch": 2, "device": "cpu"}
    settings |= {"steps": 4, "warmup": 1, "learning_rate": 0.001, "precision": "fp32"}
    settings |= {"save_every": 2, "log_every": 1, "peak_tflops": 1.0}
    content = {"name": "t", "work": str(tmp_path / "work"), "pt": settings}
    file = tmp_path / "trained.yaml"
    file.write_text(json.dumps(content), "utf-8")
    run_section(open_recipe(str(file)), "pt")
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_training_that_diverges_leaves_the_finished_one_where_it_stood(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(open_recipe(str(trained)).folder("pt"))
    with pytest.raises(Diverged, match="step"):
        run_section(open_recipe(str(trained), changes=("pt.learning_rate=1.0e+30",)), "pt")
    assert contents(open_recipe(str(trained)).folder("pt")) == before
    assert "what was finished before is back" in capsys.readouterr().out
    run_section(open_recipe(str(trained)), "pt")
    assert "finished before" in capsys.readouterr().out


def test_what_was_finished_comes_back_when_its_unfinished_successor_is_removed(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_recipe(str(trained))
    before = contents(opened.folder("pt"))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    longer = open_recipe(str(trained), changes=("pt.steps=8",))
    with monkeypatch.context() as patch:
        patch.setattr(Training, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_section(longer, "pt")
    assert (
        f"what was finished before is in {opened.folder('.pt.before')}" in capsys.readouterr().out
    )
    with pytest.raises(TrainError, match="an unfinished training stands here"):
        run_section(opened, "pt")
    shutil.rmtree(opened.folder("pt"))
    run_section(opened, "pt")
    assert contents(opened.folder("pt")) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.document=3", "documents"),
        ("dta.documents=3", "data"),
        ("data.documents=many", "int"),
        ("data=3", "SECTION.KEY"),
        ("data.stage=tinydata", "tiny-data"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_nearest_name(
    recipe: Path, change: str, said: str
) -> None:
    with pytest.raises(BadRecipe) as caught:
        run_section(open_recipe(str(recipe), changes=(change,)), "data")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["- a\n", "a: [\n", "data: 3\n", "seed: x\ndata: {stage: tiny-data}\n"]
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadRecipe, match=str(file.name)):
        open_recipe(str(file))


def test_no_such_recipe_names_the_nearest() -> None:
    with pytest.raises(BadRecipe, match="tiny"):
        open_recipe("tinny")


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_sound(name: str) -> None:
    opened: Recipe = open_recipe(name)
    for section in opened.sections:
        assert len(section_key(opened, section)) == 64


SECTIONS = """
name: t
work: {work}
data: {{stage: tiny-data, documents: 3, conversations: 3, preferences: 3, prompts: 3, validation: 1}}
cleaned: {{stage: data, sources: [{{path: x.jsonl}}]}}
base: {{stage: vocabulary, base: train, pieces: 400, texts: [data/pt-latin.jsonl]}}
judged: {{stage: feedback, judge: rm, rm: rm}}
pt: {{steps: 1, learning_rate: 0.1}}
zero: {{stage: pt, steps: 1, learning_rate: 0.1, zero: zero2.json}}
"""


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (None, "the ladder runs in one process, and torchrun started 2"),
        ("data", "stage tiny-data runs in one process, and torchrun started 2"),
        ("cleaned", "stage data runs in one process"),
        ("base", "stage vocabulary runs in one process"),
        ("judged", "stage feedback runs in one process"),
        ("pt", "without zero each would train alone"),
    ],
)
def test_several_processes_are_refused_where_one_does_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str | None, said: str
) -> None:
    """torchrun would have run each of them twice at once, over the same files."""
    file = tmp_path / "recipe.yaml"
    file.write_text(SECTIONS.format(work=tmp_path / "work"), encoding="utf-8")
    opened = open_recipe(str(file))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadRecipe, match=said) as fault:
        run_ladder(opened) if section is None else run_section(opened, section)
    assert str(file) in str(fault.value)
    assert "without torchrun" in fault.value.hint
    assert not (tmp_path / "work").exists()


def test_a_section_for_several_processes_and_a_launch_of_one_are_let_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(SECTIONS.format(work=tmp_path / "work"), encoding="utf-8")
    opened = open_recipe(str(file))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        BadRecipe, match="no tokenizer at"
    ):  # it came as far as its missing tokenizer
        run_section(opened, "zero")
    monkeypatch.setenv("WORLD_SIZE", "1")
    run_section(opened, "data")
