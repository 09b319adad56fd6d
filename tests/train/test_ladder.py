"""Recipes and the ladder: what runs, what is left alone, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from evalsuite_train.errors import BadRecipe
from evalsuite_train.ladder import run_ladder, run_section, section_key
from evalsuite_train.recipe import Recipe, open_recipe, shipped

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
