"""``evalsuite-train STAGE --recipe FILE``: one stage; ``evalsuite-train ladder``: all of them in order.

``evalsuite-train chat CHECKPOINT`` serves one.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from evalsuite_train.errors import TrainError, shown

Section = Annotated[
    str, typer.Argument(metavar="STAGE", help="A section of the recipe, or: ladder.")
]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="A YAML file, or a shipped recipe's name.")
]
Seed = Annotated[int | None, typer.Option(help="Instead of the recipe's seed.")]
Work = Annotated[Path | None, typer.Option(help="Instead of the recipe's folder.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting.")
]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train(
    stage: Section, recipe: RecipeName, seed: Seed = None, work: Work = None, change: Changes = None
) -> None:
    """Run one stage of a recipe, or the whole ladder. A stage that was cut off goes on where it was."""
    from evalsuite_train.ladder import run_ladder, run_section
    from evalsuite_train.recipe import open_recipe

    opened = open_recipe(recipe, seed=seed, work=work, changes=tuple(change or ()))
    if stage == "ladder":
        run_ladder(opened)
    else:
        run_section(opened, stage)


def main() -> None:
    """The command's entry point: faults the user can mend are one message and exit code 2.

    One process of several ends without taking the interpreter apart: threads of gloo and DeepSpeed are
    still there then, and now and then one of them aborts a process whose work is done.
    """
    try:
        _main()
    except SystemExit as end:
        if "WORLD_SIZE" in os.environ and isinstance(end.code, int | None):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
        raise


def _main() -> None:
    for name in ("torchao", "torch.utils._pytree"):  # imported by peft; they talk of other hardware
        logging.getLogger(name).setLevel(logging.ERROR)
    if sys.argv[1:2] == ["chat"]:
        from evalsuite_train.chat.command import main as chat

        return chat(sys.argv[2:])
    try:
        app()
    except TrainError as fault:
        sys.exit(_fault(str(fault)))
    except OSError as fault:  # a full disk, a folder without permission
        sys.exit(_fault(f"{fault.filename or 'disk'}: {fault.strerror or fault}"))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last saved step", file=sys.stderr)
        sys.exit(130)


def _fault(text: str) -> int:
    """Print one message, with control characters made visible; the exit code."""
    print(f"error: {shown(text)}", file=sys.stderr)
    return 2
