"""One run's answers to one task, as arrays and hashes: all that stages are judged by."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from evalsuite.metrics.metric import Metric
from evalsuite.metrics.text_checks import not_refused, not_repetitive
from evalsuite.record import Record, TaskPart
from evalsuite.request import Generated
from evalsuite.reward import RewardTable, conversation, read_rewards
from evalsuite.stages.rungs import Cell, Ladder, Replicate
from evalsuite.stats.sufficient import Statistics, statistics
from evalsuite.summary import is_truncated

REWARD = Metric("reward", unit="points")
FAILURES = ("truncated", "unanswered", "refused", "repetitive", "wrong_language")
"""Kinds of failure that records can show."""

_LANGUAGE = "language_ok"
"""The statistic of a task's own check of the answer's language."""

_CATEGORIES = 20
_SHOWN = 160
_SPACE = re.compile(r"\s+")


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of one replicate of a rung to one task.

    Attributes:
        scores: of the main metric.
        failures: kind → a table of ones where it happened; only kinds that the records can show.
        rewards: (name, fingerprint) of the reward model → rewards of finished answers.
        truncated_rewards: how many answers have no part in ``rewards`` since they were cut off.
        texts: sample → hash of the normalised answer; generated answers only.
        prompts: sample → hash of its whole prompt.
        wordings: hash → the beginning of such an answer, for people.
        options: the few answers that a question of this task can have, such as letters; empty where
            answers are open.
        tag: what tells kinds of questions apart: ``category`` where the task has it.
        categories: sample → its value of that tag.
    """

    part: TaskPart
    scores: Statistics
    failures: dict[str, Statistics]
    rewards: dict[tuple[str, str], Statistics]
    truncated_rewards: int
    texts: dict[str, bytes]
    prompts: dict[str, bytes]
    wordings: dict[bytes, str]
    options: frozenset[bytes] = frozenset()
    tag: str
    categories: dict[str, str]

    @property
    def metric(self) -> Metric:
        """The main metric."""
        return self.scores.metric


def read_answers(ladder: Ladder, notes: list[str]) -> dict[Cell, dict[Replicate, Answers]]:
    """The answers of every cell; each run's records are read once.

    Args:
        notes: told of runs that hold fewer records than they say.

    Raises:
        RunDamaged: records or rewards that cannot be read.
    """
    wanted: dict[str, list[tuple[Cell, Replicate, TaskPart]]] = {}
    runs = {}
    for cell, sources in ladder.cells.items():
        for replicate, source in sources.items():
            key = str(source.run.path)
            runs[key] = source.run
            wanted.setdefault(key, []).append((cell, replicate, source.part))
    found: dict[Cell, dict[Replicate, Answers]] = {}
    for key, run in runs.items():
        records: dict[str, list[Record]] = {part.name: [] for _, _, part in wanted[key]}
        for record in run.records():
            if record.task in records:
                records[record.task].append(record)
        tables, prefixes = read_rewards(run), run.prefixes()
        for cell, replicate, part in wanted[key]:
            if len(records[part.name]) < part.samples:
                some = f"{len(records[part.name])} of {part.samples} records"
                notes.append(f"{run.manifest.run_id}: {some} of {part.name}; start the run again")
            answers = _answers(part, records[part.name], prefixes, tables)
            found.setdefault(cell, {})[replicate] = answers
    return found


def normalised(text: str) -> str:
    """The answer without what does not make it another one: width, case, space, end punctuation."""
    folded = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    return _SPACE.sub(" ", folded.casefold()).strip(" .!。…~")


def _answers(
    part: TaskPart,
    records: Sequence[Record],
    prefixes: Mapping[str, str],
    tables: Sequence[RewardTable],
) -> Answers:
    main = next(metric for metric in part.metrics if metric.name == part.main_metric)
    generated = [r for r in records if isinstance(r.response, Generated)]
    texts: dict[str, bytes] = {}
    wordings: dict[bytes, str] = {}
    for record in generated:
        texts[record.sample] = _hash(normalised(_text(record)))
        wordings.setdefault(texts[record.sample], _text(record).strip()[:_SHOWN])
    rewards = {}
    for table in tables:
        given = _rewards(part.name, generated, dict(prefixes), table)
        if given:
            rewards[table.source.name, table.source.fingerprint] = flags(REWARD, records, given)
    return Answers(
        part=part,
        scores=statistics(main, records),
        failures=_failures(part, records, generated),
        rewards=rewards,
        truncated_rewards=sum(map(is_truncated, generated)) if rewards else 0,
        texts=texts,
        prompts={r.sample: _hash(prefixes.get(r.prefix, "") + r.prompt) for r in generated},
        wordings=wordings,
        options=_options(generated),
        tag=(tag := telling_tag(records)),
        categories={r.sample: r.tags[tag] for r in records if tag in r.tags},
    )


def _rewards(
    task: str, records: Iterable[Record], prefixes: dict[str, str], table: RewardTable
) -> dict[str, float]:
    """Rewards of answers that ended by themselves and are still the ones that were rewarded."""
    given = {}
    for record in records:
        line = table.rewards.get((task, record.sample))
        if line is None or line.reward is None or is_truncated(record):
            continue
        asked = conversation(record, prefixes)
        if asked is not None and asked.key == line.key:
            given[record.sample] = line.reward
    return given


def _failures(
    part: TaskPart, records: Sequence[Record], generated: Sequence[Record]
) -> dict[str, Statistics]:
    """Where answers failed, so far as the records can tell."""
    found: dict[str, Mapping[str, float]] = {}
    if generated:
        found["truncated"] = {r.sample: float(is_truncated(r)) for r in generated}
        found["unanswered"] = {r.sample: float(r.answer is None) for r in generated if not r.error}
        texts = {r.sample: _text(r) for r in generated}
        found["refused"] = {s: float(not not_refused(text)) for s, text in texts.items()}
        found["repetitive"] = {s: float(not not_repetitive(text)) for s, text in texts.items()}
    if any(metric.source == _LANGUAGE for metric in part.metrics):
        verdicts = {r.sample: r.scores.get(_LANGUAGE) for r in generated if not r.error}
        found["wrong_language"] = {
            s: float(v == 0) for s, v in verdicts.items() if isinstance(v, (int, float))
        }
    return {
        kind: flags(Metric(kind, higher_is_better=False), records, values)
        for kind, values in found.items()
        if values
    }


def _options(records: Sequence[Record]) -> frozenset[bytes]:
    """The answers that are open to a question with a few fixed ones, such as letters; else nothing."""
    targets = {_hash(normalised(r.target)) for r in records if isinstance(r.target, str)}
    return frozenset(targets) if 2 * len(targets) < len(records) else frozenset()


def _text(record: Record) -> str:
    return record.response.text if isinstance(record.response, Generated) else ""


def telling_tag(records: Sequence[Record]) -> str:
    """``category``, or the first tag with a few values that is not just the language."""
    values: dict[str, set[str]] = {}
    for record in records:
        for tag, value in record.tags.items():
            values.setdefault(tag, set()).add(value)
    few = [tag for tag in sorted(values) if 1 < len(values[tag]) <= _CATEGORIES]
    few.sort(key=lambda tag: (tag != "category", tag == "language"))
    return few[0] if few else ""


def flags(metric: Metric, records: Iterable[Record], values: Mapping[str, float]) -> Statistics:
    """A table of one number a sample, with the records' clusters; samples without one are left out."""
    own = [r for r in records if r.sample in values]
    return statistics(
        metric,
        [
            Record(
                task=r.task,
                sample=r.sample,
                cluster=r.cluster,
                scores={metric.source: values[r.sample]},
            )
            for r in own
        ],
    )


def subset(table: Statistics, samples: Iterable[str]) -> Statistics | None:
    """The table of these samples alone; None where there is none of them."""
    wanted = set(samples)
    kept = [i for i, sample in enumerate(table.ids) if sample in wanted]
    if not kept:
        return None
    _, stratum = np.unique(table.stratum[kept], return_inverse=True)
    ids = tuple(table.ids[i] for i in kept)
    return Statistics(table.metric, ids, table.rows[kept], stratum, table.cluster[kept])


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:12]
