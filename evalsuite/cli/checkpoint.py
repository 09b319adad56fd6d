"""``evalsuite checkpoint``: look at checkpoints, and take them from one form into another."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from evalsuite.cli.options import Base

checkpoint = typer.Typer(
    help="Checkpoints: what one is, and from one form into another.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Layout(enum.StrEnum):
    """What can be written."""

    huggingface = "huggingface"
    tencentpretrain = "tencentpretrain"


@checkpoint.command("info")
def info(path: str, base: Base = None) -> None:
    """Print the form, stage, size, parts and fingerprint of a checkpoint; nothing is merged."""
    from evalsuite.checkpoint.description import describe
    from evalsuite.report.visible import one_line

    for key, value in describe(path, base=base):
        print(f"{key:<12} {one_line(value)}")


@checkpoint.command("make-delta")
def make(base: str, target: str, out: Path) -> None:
    """Write TARGET as its exact difference to BASE, with a manifest, into the new folder OUT."""
    from collections import Counter

    from evalsuite.checkpoint import open_checkpoint
    from evalsuite.checkpoint.delta import make_delta
    from evalsuite.checkpoint.source import is_hub_id

    bases, targets = open_checkpoint(base), open_checkpoint(target)
    on_hub = is_hub_id(base) and not Path(base).exists()
    manifest = make_delta(bases.path, targets.path, out, base_name=base if on_hub else "")
    modes = Counter(tensor.mode for tensor in manifest.tensors.values())
    print(f"wrote {out}: " + ", ".join(f"{n} {mode}" for mode, n in modes.most_common()))
    if modes["whole"]:
        print("note: tensors that are stored whole can be read without the base")


@checkpoint.command("apply-delta")
def apply(base: str, delta: Path, out: Path) -> None:
    """Put BASE and DELTA together in the new folder OUT, with or without a manifest."""
    from evalsuite.checkpoint import open_checkpoint
    from evalsuite.checkpoint.delta import apply_delta

    apply_delta(open_checkpoint(base).path, delta.expanduser(), out)
    print(f"wrote {out}")
    print(f"next: evalsuite run --model {out} --tasks TASK")


@checkpoint.command("convert")
def convert(
    source: str,
    out: Path,
    to: Annotated[Layout, typer.Option(help="The layout to write.")] = Layout.huggingface,
    base: Base = None,
) -> None:
    """Write SOURCE, in whatever form, into the new folder OUT."""
    from evalsuite.checkpoint.conversion import convert as write

    write(source, out, to=to.value, base=base)
    print(f"wrote {out}")
