"""The entry point: every command, and errors as one line with an exit code.

Exit codes: 0 done or passed, 1 regression, 2 usage, 3 incomplete or incomparable, 4 engine failure,
70 a fault of evalsuite itself, 130 stopped by the user.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from types import FrameType

import typer

from evalsuite.cli.bench import bench
from evalsuite.cli.checkpoint import checkpoint
from evalsuite.cli.compare import compare
from evalsuite.cli.doctor import doctor
from evalsuite.cli.fetch import fetch
from evalsuite.cli.gate import gate
from evalsuite.cli.leaderboard import leaderboard
from evalsuite.cli.reward import reward
from evalsuite.cli.run import run
from evalsuite.cli.score import score
from evalsuite.cli.show import show
from evalsuite.cli.stages import stages
from evalsuite.cli.tasks import tasks
from evalsuite.errors import EvalsuiteError

INTERNAL_FAULT = 70
"""EX_SOFTWARE of sysexits.h: never 1, which says that a gate found a regression."""

app = typer.Typer(
    name="evalsuite",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    help="Is this checkpoint better, worse or the same as that one, at what, and how sure are we?",
)


def _hush() -> None:
    """torchao, which transformers imports where it is installed, names its binaries for other hardware."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _version(wanted: bool) -> None:
    if wanted:
        import evalsuite

        print(f"evalsuite {evalsuite.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Evaluate checkpoints, compare them, gate on them, show them."""


app.command("run")(run)
app.add_typer(tasks, name="tasks")
app.add_typer(checkpoint, name="checkpoint")
app.command("fetch")(fetch)
app.command("score")(score)
app.command("show")(show)
app.command("compare")(compare)
app.command("gate")(gate)
app.command("leaderboard")(leaderboard)
app.command("reward")(reward)
app.command("bench")(bench)
app.command("stages")(stages)
app.command("doctor")(doctor)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    _hush()
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else arguments))


def _exit_code(arguments: list[str]) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        result = typer.main.get_command(app).main(arguments, "evalsuite", standalone_mode=False)
    except EvalsuiteError as fault:
        _complain(fault.one_line())
        return fault.exit_code
    except typer.TyperException as fault:
        _complain(" ".join(fault.format_message().split()) or "wrong usage; see --help")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as fault:
        where = f" ({fault.filename})" if fault.filename else ""
        _complain(f"E100 {(fault.strerror or str(fault)).lower()}{where}; check the path")
        return 2
    except Exception:
        traceback.print_exc()
        _complain("this is a fault of evalsuite; what a run had finished is kept")
        return INTERNAL_FAULT
    return result if isinstance(result, int) else 0


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _complain(text: str) -> None:
    from evalsuite.report.visible import visible

    print(f"evalsuite: {visible(text)}", file=sys.stderr)
