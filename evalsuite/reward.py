"""What a reward model says of a finished run's answers.

    RUN/rewards-<fingerprint>.jsonl   the reward model on the first line, then one line an answer

A reward is keyed by its content: the question as the task put it, the answer, and whether the answer
was finished. So a second start computes only what is missing, and an answer that was asked again
since is never matched with its old reward. The file appears as a whole once every answer has its
reward; until then the work lies in a hidden file beside it, and a killed start goes on from there.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from evalsuite import lines
from evalsuite.errors import DataMissing, RunDamaged, RunIncomplete, RunLocked
from evalsuite.files import write_atomically, writing
from evalsuite.record import Record
from evalsuite.request import Failure, Generated
from evalsuite.store import Run

T = TypeVar("T")

PATTERN = "rewards-*.jsonl"
_NAME = "rewards-{}.jsonl"
_FINGERPRINT = 12
"""Hexadecimal digits of the fingerprint that are in the file's name."""


class RewardSource(msgspec.Struct, frozen=True, kw_only=True):
    """The reward model, on the first line of its file.

    Attributes:
        fingerprint: of weights, tokenizer and configuration.
        template: name of the chat template that its conversations are written in.
        template_sha256: of that template's text, which the fingerprint need not cover.
        engine: what may change a reward's digits.
    """

    name: str
    source: str
    fingerprint: str
    template: str
    template_sha256: str
    engine: str = ""

    @property
    def file(self) -> str:
        """The name of its file in a run's folder."""
        return _NAME.format(self.fingerprint[:_FINGERPRINT])


class Conversation(msgspec.Struct, frozen=True):
    """One question as the task put it to the model, before any template, and the answer.

    Attributes:
        finished: the answer ended by itself, so the reward model reads its end-of-sequence token.
    """

    question: str
    answer: str
    finished: bool = True

    @property
    def key(self) -> str:
        """The content key of its reward under one reward model."""
        content = [ascii(self.question), ascii(self.answer), self.finished]
        return hashlib.sha256(lines.encode(content)).hexdigest()[:32]


class Reward(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer's reward; None, with the fault, where the model could not read the conversation.

    Attributes:
        truncated: the answer was cut off at the token limit: its reward says little.
    """

    task: str
    sample: str
    key: str
    reward: float | None
    truncated: bool = False
    fault: str = ""


class RewardTable(msgspec.Struct, frozen=True):
    """All rewards that one reward model gave to a run: (task, sample) → reward."""

    source: RewardSource
    rewards: dict[tuple[str, str], Reward]


Scorer = Callable[[Sequence[Conversation]], Iterator[tuple[int, float | Failure]]]
"""Rewards of conversations, in any order, each with its index; see :mod:`evalsuite.engines.reward`."""


def conversation(record: Record, prefixes: dict[str, str]) -> Conversation | None:
    """The conversation of a record; None where nothing was generated."""
    response = record.response
    if not isinstance(response, Generated):
        return None
    question = prefixes.get(record.prefix, "") + record.prompt
    return Conversation(question, response.text, response.finish_reason == "stop")


def reward_run(
    run: Run,
    model: Scorer,
    source: RewardSource,
    progress: Callable[[int, int], None] = lambda done, total: None,
    tasks: Sequence[str] = (),
) -> Path:
    """Write the rewards of every generated answer of a run.

    Args:
        tasks: names or patterns such as ``ladder_*``; only answers to these; empty is all.
        progress: told how many conversations are done, of how many.

    Returns:
        The file in the run's folder.

    Raises:
        RunIncomplete: the run is not finished.
        DataMissing: it has no generated answer.
        RunLocked: another process is writing these rewards.
        CannotWrite: full disk or no permission; what was computed is kept.
    """
    if run.manifest.status != "complete":
        raise RunIncomplete(
            f"the run is {run.manifest.status}", where=str(run.path), hint="resume it first"
        )
    file = run.path / source.file
    with _Part(file, source) as part:
        before = list(_read(file, source))
        known = _good([*before, *part.lines])
        waiting, wanted = _waiting(run, known, tasks)
        part.compute(waiting, model, progress)
        known |= {line.key: line for line in part.lines}
        every = [_own(line, known[line.key]) for line in wanted]
        every += [line for line in before if not _asked(line.task, tasks)]
        whole = [lines.encode(source), *map(lines.encode, every)]
        write_atomically(file, b"\n".join(whole) + b"\n")
        part.discard()
    return file


def read_rewards(run: Run) -> list[RewardTable]:
    """The rewards beside a run's records, by the reward model's name.

    Raises:
        RunDamaged: a file of rewards that cannot be read.
    """
    tables = []
    for file in sorted(run.path.glob(PATTERN)):
        with file.open("rb") as stream:
            head, rest = stream.readline(), stream.readlines()
        source: RewardSource = _decode(head, RewardSource, file, 1)
        found = [_decode(line, Reward, file, n) for n, line in enumerate(rest, 2)]
        tables.append(RewardTable(source, {(line.task, line.sample): line for line in found}))
    return sorted(tables, key=lambda table: (table.source.name, table.source.fingerprint))


def _asked(task: str, tasks: Sequence[str]) -> bool:
    return not tasks or any(fnmatch.fnmatchcase(task, pattern) for pattern in tasks)


def _waiting(
    run: Run, known: dict[str, Reward], tasks: Sequence[str]
) -> tuple[dict[str, Conversation], list[Reward]]:
    """Key → conversation without a reward, each once; and a line for every generated answer."""
    prefixes = run.prefixes()
    waiting: dict[str, Conversation] = {}
    wanted = []
    for record in run.records():
        found = conversation(record, prefixes) if _asked(record.task, tasks) else None
        if found is None:
            continue
        key = found.key
        wanted.append(Reward(record.task, record.sample, key, None, not found.finished))
        if key not in known:
            waiting[key] = found
    if not wanted:
        raise DataMissing(
            "the run has no generated answer to reward",
            where=str(run.path),
            hint="multiple choice by likelihood writes no text; choose a generation task or variant,"
            " and check --tasks",
        )
    return waiting, sorted(wanted, key=lambda line: (line.task, line.sample))


def _own(line: Reward, known: Reward) -> Reward:
    return msgspec.structs.replace(line, reward=known.reward, fault=known.fault)


class _Part:
    """The hidden file of a start that is not finished: its lines survive a kill."""

    def __init__(self, file: Path, source: RewardSource) -> None:
        self.path = file.with_name(f".{file.name}.part")
        self.source = source
        self.lines: list[Reward] = []
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> _Part:
        with writing(self.path):
            self._stream = self.path.open("a+b")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._stream.close()
            raise RunLocked(
                "another process is rewarding this run",
                where=str(self.path.parent),
                hint="wait for it",
            ) from None
        self._recover()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stream is not None
        self._stream.close()

    def _recover(self) -> None:
        """Keep the whole lines that this reward model wrote; cut off everything from a torn one."""
        assert self._stream is not None
        self._stream.seek(0)
        head, size = lines.encode(self.source) + b"\n", 0
        for line in self._stream.readlines():
            if not line.endswith(b"\n") or (size == 0 and line != head):
                break
            if size:
                try:
                    self.lines.append(lines.decode(line, Reward))
                except msgspec.DecodeError:
                    break
            size += len(line)
        with writing(self.path):
            self._stream.truncate(size)
            if not size:
                self._stream.write(head)

    def compute(
        self,
        waiting: dict[str, Conversation],
        model: Scorer,
        progress: Callable[[int, int], None],
    ) -> None:
        assert self._stream is not None
        asked = list(waiting.items())
        progress(0, len(asked))
        for done, (index, answer) in enumerate(model([c for _, c in asked]), 1):
            line = (
                Reward("", "", asked[index][0], None, fault=f"{answer.code}: {answer.message}")
                if isinstance(answer, Failure)
                else Reward("", "", asked[index][0], answer)
            )
            self.lines.append(line)
            with writing(self.path):
                self._stream.write(lines.encode(line) + b"\n")
                self._stream.flush()
            progress(done, len(asked))

    def discard(self) -> None:
        """The work stands in the whole file now."""
        self.path.unlink(missing_ok=True)


def _read(file: Path, source: RewardSource) -> Iterable[Reward]:
    """Lines that an earlier start finished with the very same reward model and template."""
    if not file.is_file():
        return []
    with file.open("rb") as stream:
        head, rest = stream.readline(), stream.readlines()
    earlier: RewardSource = _decode(head, RewardSource, file, 1)
    same = (earlier.fingerprint, earlier.template_sha256, earlier.engine) == (
        source.fingerprint,
        source.template_sha256,
        source.engine,
    )
    return [_decode(line, Reward, file, n) for n, line in enumerate(rest, 2)] if same else []


def _good(found: Iterable[Reward]) -> dict[str, Reward]:
    """Key → line; what failed is tried again."""
    return {line.key: line for line in found if line.reward is not None}


def _decode(line: bytes, kind: type[T], file: Path, number: int) -> T:
    try:
        return lines.decode(line, kind)
    except msgspec.DecodeError as fault:
        raise RunDamaged(
            f"not a line of rewards: {fault}",
            where=f"{file}:{number}",
            hint="remove the file and run `evalsuite reward` again",
        ) from None
