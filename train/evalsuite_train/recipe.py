"""A recipe: one YAML file that says how every stage of one training is run.

The top level names the training; every other key is a section, one a stage::

    name: tiny
    seed: 1
    work: runs/tiny
    ladder: [data, vocabulary, pt, sft, rm, ppo]
    pt:
      steps: 1000
    ppo:
      parent: sft
    ppo-hacked:
      stage: ppo
      parent: sft

A section's ``stage`` says which kind it is, where its name does not. The rest of a section is read by that
stage as a typed structure; unknown keys are refused with the nearest valid one.
"""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from evalsuite_train.errors import BadRecipe

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""What names a recipe or a section: it becomes a folder."""

STAGES = {
    "data": "evalsuite_train.data.stage",
    "tiny-data": "evalsuite_train.tiny.stage",
    "vocabulary": "evalsuite_train.vocabulary.stage",
    "pt": "evalsuite_train.pt.stage",
    "sft": "evalsuite_train.sft.stage",
    "rm": "evalsuite_train.rm.stage",
    "ppo": "evalsuite_train.ppo.stage",
    "hfft": "evalsuite_train.hfft",
    "cohft": "evalsuite_train.cohft",
    "feedback": "evalsuite_train.feedback.stage",
    "dpo": "evalsuite_train.alternatives.dpo",
    "grpo": "evalsuite_train.alternatives.grpo",
    "rloo": "evalsuite_train.alternatives.rloo",
}
"""Stage → the module with its ``Config`` and ``run(config, recipe, out)``."""


class Recipe(msgspec.Struct, frozen=True):
    """A training as its YAML describes it.

    Attributes:
        name: names the checkpoints (``tiny-sft``).
        seed: the seed of everything random; a stage derives its own from it.
        work: the folder that the stages write to, one folder a section.
        ladder: the sections that ``evalsuite-train ladder`` runs, in order.
        sections: section → its keys, not yet checked.
        source: the file, for error messages.
    """

    name: str
    seed: int
    work: Path
    ladder: tuple[str, ...]
    sections: dict[str, dict[str, Any]]
    source: str

    def stage_of(self, section: str) -> str:
        """The stage that ``section`` runs.

        Raises:
            BadRecipe: no such section, or it names no known stage.
        """
        if section not in self.sections:
            raise BadRecipe(
                f"no section named {section!r}",
                where=self.source,
                hint=_nearest(section, self.sections),
            )
        stage = self.sections[section].get("stage", section)
        if not isinstance(stage, str) or stage not in STAGES:
            raise BadRecipe(
                f"no stage named {stage!r}",
                where=f"{self.source}: {section}",
                hint=_nearest(str(stage), STAGES),
            )
        return str(stage)

    def config(self, section: str, kind: type[T]) -> T:
        """The section as the stage's own structure; unknown or ill-typed keys are refused."""
        self.stage_of(section)
        values = {k: v for k, v in self.sections[section].items() if k != "stage"}
        known = [f.encode_name for f in msgspec.structs.fields(kind)]  # type: ignore[arg-type]
        for key in values:
            if key not in known:
                raise BadRecipe(
                    f"no setting named {key!r}",
                    where=f"{self.source}: {section}",
                    hint=_nearest(key, known),
                )
        try:
            return msgspec.convert(values, kind, dec_hook=_path)
        except msgspec.ValidationError as fault:
            text = "Expected `float`, got `str`" in str(fault)
            raise BadRecipe(
                str(fault),
                where=f"{self.source}: {section}",
                hint="YAML takes 1e-4 for a text; write 1.0e-4" if text else "",
            ) from None

    def folder(self, section: str) -> Path:
        """Where a section writes: its checkpoint stands in ``checkpoint/`` below."""
        return self.work / section

    def parent(self, name: str) -> Path:
        """The checkpoint folder meant by a section's ``parent``: another section, or a path.

        Raises:
            BadRecipe: the section has not been run yet, or there is no such folder.
        """
        if name in self.sections:
            folder = self.folder(name) / "checkpoint"
            hint = f"run it first: evalsuite-train {name} --recipe {self.source}"
        else:
            folder, hint = self.place(name), _nearest(name, self.sections)
        if not (folder / "config.json").is_file():
            raise BadRecipe(f"no checkpoint of {name!r} at {folder}", where=self.source, hint=hint)
        return folder

    def place(self, name: str) -> Path:
        """A folder named in the recipe: below ``work`` if it is there, else as it stands."""
        below = self.work / name
        return below if below.exists() else Path(name).expanduser()

    def file(self, name: str) -> Path:
        """A data file named in the recipe, relative to ``work``, else to the current folder."""
        for path in (self.work / name, Path(name).expanduser()):
            if path.exists():
                return path
        raise BadRecipe(f"no such file: {name}", where=self.source, hint=f"looked in {self.work}")


def open_recipe(
    name: str, *, seed: int | None = None, work: Path | None = None, changes: tuple[str, ...] = ()
) -> Recipe:
    """Read a recipe from a file, or one of the shipped ones by its name.

    Args:
        changes: ``section.key=value`` settings that replace the file's, values in YAML.

    Raises:
        BadRecipe: no such recipe, not YAML, or it lacks what every recipe has.
    """
    path = _find(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as fault:
        raise BadRecipe(f"not YAML: {str(fault).splitlines()[0]}", where=str(path)) from None
    except OSError as fault:
        raise BadRecipe(f"cannot be read: {fault.strerror}", where=str(path)) from None
    if not isinstance(content, dict):
        raise BadRecipe("a recipe is a mapping of sections", where=str(path))
    _change(content, changes)
    head = {key: content.pop(key, None) for key in ("name", "seed", "work", "ladder")}
    for section, keys in content.items():
        if not isinstance(section, str) or not _NAME.fullmatch(section):
            raise BadRecipe(
                f"not a section's name: {str(section)[:60]!r}",
                where=str(path),
                hint="letters, digits, and - _ . between them",
            )
        if isinstance(keys, dict) and not all(isinstance(key, str) for key in keys):
            raise BadRecipe("the names of settings are texts", where=f"{path}: {section}")
        if not isinstance(keys, dict):
            raise BadRecipe("a section is a mapping of settings", where=f"{path}: {section}")
    recipe_name = str(head["name"] or path.stem)
    if not _NAME.fullmatch(recipe_name):
        raise BadRecipe(f"not a name: {recipe_name[:60]!r}", where=f"{path}: name")
    chosen = seed if seed is not None else head["seed"]
    chosen = 1 if chosen is None else chosen
    if not isinstance(chosen, int) or isinstance(chosen, bool) or not 0 <= chosen < 2**31:
        raise BadRecipe("seed is a whole number from 0 to 2147483647", where=str(path))
    ladder = head["ladder"] if head["ladder"] is not None else list(content)
    if not isinstance(ladder, list):
        raise BadRecipe("ladder is a list of sections", where=str(path))
    recipe = Recipe(
        name=recipe_name,
        seed=chosen,
        work=work or Path(str(head["work"] or f"runs/{recipe_name}")),
        ladder=tuple(map(str, ladder)),
        sections=content,
        source=str(path),
    )
    for section in (*recipe.ladder, *recipe.sections):
        recipe.stage_of(section)
    return recipe


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    here = Path(str(resources.files("evalsuite_train")))
    folders = (here / "_recipes", here.parent / "recipes")
    return {p.stem: p for folder in folders for p in sorted(folder.glob("*.yaml"))}


def _find(name: str) -> Path:
    try:
        path = Path(name).expanduser()
        if path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):
        pass
    known = shipped()
    if name in known:
        return known[name]
    raise BadRecipe(f"no recipe {name[:100]!r}", where="--recipe", hint=_nearest(name, known))


def _change(content: dict[str, Any], changes: tuple[str, ...]) -> None:
    for change in changes:
        name, equals, value = change.partition("=")
        section, dot, key = name.partition(".")
        if not equals or not key or not dot:
            raise BadRecipe(f"not SECTION.KEY=VALUE: {change!r}", where="--set")
        if not isinstance(content.get(section), dict):
            raise BadRecipe(
                f"no section named {section!r}", where="--set", hint=_nearest(section, content)
            )
        try:
            content[section][key] = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError):
            raise BadRecipe(f"not YAML: {value[:60]!r}", where=f"--set {name[:60]}") from None


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"{kind} from {value!r}")


def _nearest(name: str, known: Any) -> str:
    names = sorted(map(str, known))
    near = difflib.get_close_matches(name, names, 1, 0.5)
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(names)}"
