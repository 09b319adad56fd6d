"""Every error that evalsuite raises on purpose.

    EvalsuiteError
    ├── UsageError             E1xx  exit 2   the command or call cannot be carried out as written
    │   ├── UnknownName        E101           a name that does not exist; carries the nearest that does
    │   ├── BadOption          E102           a value out of range, or options that exclude each other
    │   ├── DataMissing        E111           a data file or folder is not there
    │   ├── BadRow             E112           a malformed row, with its file and row number
    │   ├── BadTask            E113           a task plugin that breaks the contract
    │   ├── BadCheckpoint      E121           weights, tokenizer or config missing, unsafe or inconsistent
    │   └── BadDefinition      E131           a leaderboard or gate definition with unknown or missing keys
    ├── RunError               E2xx  exit 3   a run that cannot be trusted, continued or compared
    │   ├── RunLocked          E201           another process is writing it
    │   ├── RunDamaged         E202           its files contradict each other
    │   ├── RunIncomplete      E203           samples are missing or failed
    │   ├── RunsIncomparable   E204           two runs that did not answer the same questions
    │   └── CannotWrite        E211           full disk, or a folder without permission
    ├── EngineError            E3xx  exit 4   the engine could not start or died
    │   ├── EngineUnavailable  E301           a package, device or server that it needs is missing
    │   └── EngineFailed       E302           it broke while answering
    └── SandboxError           E4xx  exit 4   programs that a model wrote cannot be run
        └── SandboxUnavailable E401           this machine cannot isolate them

The failure of one sample is not an exception: it is a :class:`evalsuite.request.Failure` in that
sample's record, with one of the codes in :data:`SAMPLE_CODES`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

SAMPLE_CODES: dict[str, str] = {
    "prompt_too_long": "the prompt and its answer do not fit the checkpoint's context",
    "empty_continuation": "a choice or continuation has no token of its own after the prompt",
    "no_answer": "the replay file has no answer for this sample",
    "no_logprobs": "the server does not give the log-probabilities that the sample needs",
    "server_refused": "the server refused this request, or held its answer back",
    "unanswered": "the server gave no usable answer in all attempts",
    "out_of_memory": "the sample did not fit in memory even alone",
    "engine_failed": "the engine raised while answering this sample",
    "scorer_failed": "the task's scorer raised on this answer",
    "sandbox_failed": "the sandbox failed while it ran the answer's program",
}

ENGINE_CODES = frozenset({"out_of_memory", "engine_failed", "unanswered", "sandbox_failed"})
"""Sample codes for which the engine or the sandbox is to blame: `evalsuite run` then exits with 4."""


class EvalsuiteError(Exception):
    """Base of all errors: *what* was wrong, *where*, and *what to do*.

    Args:
        what: the fault in one line.
        where: the file, row, option or sample it was found in.
        hint: the next step for the user.
    """

    code: ClassVar[str] = "E000"
    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(self.one_line())

    def one_line(self) -> str:
        """The whole message on one line: ``E101 what (where); hint``."""
        where = f" ({self.where})" if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return " ".join(f"{self.code} {self.what}{where}{hint}".split())


class UsageError(EvalsuiteError):
    code = "E100"
    exit_code = 2


class UnknownName(UsageError):
    """A name that does not exist.

    Args:
        noun: what kind of thing was asked for, such as ``"task"``.
        name: the name as written.
        known: the names that exist; the nearest one goes into the hint.
    """

    code = "E101"

    def __init__(
        self, noun: str, name: str, known: Iterable[str], *, where: str = "", hint: str = ""
    ) -> None:
        self.name = name
        self.nearest = nearest(name, known)
        advice = [f"did you mean {self.nearest!r}?"] if self.nearest else []
        if hint:
            advice.append(hint)
        super().__init__(f"no {noun} named {name!r}", where=where, hint=" ".join(advice))


class BadOption(UsageError):
    code = "E102"


class DataMissing(UsageError):
    code = "E111"


class BadRow(UsageError):
    code = "E112"


class BadTask(UsageError):
    code = "E113"


class BadCheckpoint(UsageError):
    code = "E121"


class BadDefinition(UsageError):
    code = "E131"


class RunError(EvalsuiteError):
    code = "E200"
    exit_code = 3


class RunLocked(RunError):
    code = "E201"


class RunDamaged(RunError):
    code = "E202"


class RunIncomplete(RunError):
    code = "E203"


class RunsIncomparable(RunError):
    code = "E204"


class CannotWrite(RunError):
    code = "E211"


class EngineError(EvalsuiteError):
    code = "E300"
    exit_code = 4


class EngineUnavailable(EngineError):
    code = "E301"


class EngineFailed(EngineError):
    code = "E302"


class SandboxError(EvalsuiteError):
    code = "E400"
    exit_code = 4


class SandboxUnavailable(SandboxError):
    code = "E401"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None where nothing is near."""
    names = list(known)
    matches = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    return next((n for n in names if matches and n.lower() == matches[0]), None)
