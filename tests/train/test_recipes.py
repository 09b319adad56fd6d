"""Every shipped recipe is read by the stages it names, and says what the published systems did."""

from __future__ import annotations

import importlib
from pathlib import Path

import msgspec
import pytest
from evalsuite_train.recipe import STAGES, Recipe, open_recipe, shipped
from evalsuite_train.templates import TEMPLATES
from evalsuite_train.zero import read_configuration

SYSTEMS = ("ziya-13b", "atom-7b", "yayi-7b", "chinese-chatllama-7b")


def config(recipe: Recipe, section: str) -> dict[str, object]:
    module = importlib.import_module(STAGES[recipe.stage_of(section)])
    return dict(msgspec.structs.asdict(recipe.config(section, module.Config)))


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_section_is_read_by_its_stage(name: str) -> None:
    recipe = open_recipe(name)
    assert recipe.name == name
    for section in recipe.sections:
        settings = config(recipe, section)
        if settings.get("zero"):
            assert read_configuration(str(settings["zero"]))
        if "template" in settings:
            assert settings["template"] in TEMPLATES
        parent = settings.get("parent")
        if parent in recipe.ladder:  # what it starts from comes before it
            assert recipe.ladder.index(str(parent)) < recipe.ladder.index(section)


def test_the_four_systems_are_shipped() -> None:
    assert set(SYSTEMS) < set(shipped())


def test_ziya_takes_its_published_tokens_and_samples() -> None:
    recipe = open_recipe("ziya-13b")
    pt, ppo = config(recipe, "pt"), config(recipe, "ppo")
    step = 160 * pt["batch"] * pt["length"]  # type: ignore[operator]
    assert step == pytest.approx(2.6e6, rel=0.01)
    assert step * pt["steps"] == pytest.approx(110e9, rel=0.01)
    assert pt["precision"] == "fp16"
    assert ppo["iterations"] * ppo["prompts_per_iteration"] > 100_000  # type: ignore[operator]


def test_yayi_has_its_published_rates() -> None:
    recipe = open_recipe("yayi-7b")
    assert recipe.seed == 515
    rates = {"sft": 5e-6, "lora": 5e-4, "multi-turn": 5e-7}
    for section, rate in rates.items():
        settings = config(recipe, section)
        assert settings["learning_rate"] == rate
        assert (settings["epochs"], settings["batch"], settings["warmup"]) == (2, 8, 100)
        assert (settings["zero"], settings["precision"]) == ("zero2.json", "bf16")
    assert config(recipe, "lora")["adapter"].rank == 16  # type: ignore[attr-defined]


def test_chatllama_has_its_published_rows_and_steps() -> None:
    pt = config(open_recipe("chinese-chatllama-7b"), "pt")
    assert (pt["length"], pt["batch"], pt["steps"], pt["save_every"]) == (512, 24, 300_000, 5_000)


def test_a_recipe_finds_its_deepspeed_configuration_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_configuration("zero3.json")["zero_optimization"]["stage"] == 3
