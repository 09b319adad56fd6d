"""Candidate replies: several sampled for each prompt, judged, and the best kept.

Sampling is journalled portion by portion, so that a stage that was killed samples nothing twice.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evalsuite_train.errors import BadData
from evalsuite_train.feedback.rows import Asked
from evalsuite_train.files import write_whole
from evalsuite_train.generation import check_room, generate, reply_text
from evalsuite_train.processes import ALONE, Processes
from evalsuite_train.rules import Rule, score
from evalsuite_train.templates import Unusable, encode_prompt

PORTION = 256
"""Prompts that are sampled between two writes of the journal."""

Scores = Callable[[Sequence[tuple[str, str]]], list[float]]
"""(prompt, reply) pairs → one score each, such as :meth:`RewardModel.scores`."""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How candidates are sampled: ``samples`` replies to each prompt."""

    template: str
    samples: int
    max_new_tokens: int
    temperature: float
    top_p: float


class Candidate(msgspec.Struct, frozen=True):
    """One reply to one prompt.

    Attributes:
        finished: whether it ended with EOS; a truncated reply is never rewarded or kept.
    """

    id: str
    task: str
    prompt: str
    reply: str
    finished: bool


class Judged(msgspec.Struct, frozen=True):
    """A candidate and what it is worth: higher is better, None is vetoed or truncated."""

    candidate: Candidate
    value: tuple[float, ...] | None
    fault: str = ""


def sample(
    asked: Sequence[Asked],
    model: Any,
    tokenizer: Any,
    sampling: Sampling,
    journal: Path,
    *,
    seed: int,
    identity: str,
    processes: Processes = ALONE,
) -> list[Candidate]:
    """Sample candidates for every prompt, going on from the journal of an earlier start.

    Args:
        processes: those that sample together; the first keeps the journal.
        identity: what the candidates depend on besides ``sampling`` and the prompts (the parent's
            fingerprint); a journal of another identity is begun anew.
    """
    head = {
        "sampling": msgspec.to_builtins(sampling),
        "seed": seed,
        "of": identity,
        "ids": [a.id for a in asked],
    }
    prompts = {a.id: _encoded(a, model, tokenizer, sampling) for a in asked}
    found = _resume(journal, head, sampling.samples, write=processes.first)
    processes.wait()
    for start in range(len(found) // sampling.samples, len(asked), PORTION):
        portion = [a for a in asked[start : start + PORTION] for _ in range(sampling.samples)]
        replies = generate(
            model,
            [prompts[a.id] for a in portion],
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed + start,
            eos=tokenizer.eos_token_id,
            allowed=len(tokenizer),
            processes=processes,
        )
        fresh = [
            Candidate(a.id, a.task, a.prompt, reply_text(tokenizer, r), r.finished)
            for a, r in zip(portion, replies, strict=True)
        ]
        found += fresh
        if not processes.first:
            continue
        with journal.open("ab") as stream:  # one write a portion; a torn one is cut off on resuming
            stream.write(b"".join(msgspec.json.encode(c) + b"\n" for c in fresh))
        print(
            f"  sampled {len(found):,} of {len(asked) * sampling.samples:,} candidates", flush=True
        )
    return found


def check_sampling(config: Any) -> None:
    """Check the settings of a section that samples: the numbers of :class:`Sampling`, and ``asked``.

    Raises:
        ValueError: names the setting.
    """
    for name in ("asked", "samples", "max_new_tokens"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}, it must be at least 1")
    if not (0 < config.temperature < math.inf and 0 < config.top_p <= 1):
        raise ValueError("temperature must be above 0, top_p above 0 and at most 1")


def _encoded(asked: Asked, model: Any, tokenizer: Any, sampling: Sampling) -> list[int]:
    """A prompt's ids; one that cannot be asked is named before anything is sampled."""
    try:
        ids = encode_prompt(tokenizer, asked.prompt, sampling.template)
    except Unusable as fault:
        raise BadData(fault.what, where=asked.where, hint="leave this prompt out") from None
    check_room(model, ids, sampling.max_new_tokens, where=asked.where)
    return ids


def _resume(journal: Path, head: dict[str, Any], samples: int, *, write: bool) -> list[Candidate]:
    first = json.dumps(head, ensure_ascii=False, sort_keys=True).encode() + b"\n"
    lines = journal.read_bytes().splitlines(keepends=True) if journal.is_file() else []
    if not lines or lines[0] != first:
        if write:
            journal.write_bytes(first)
        return []
    size = samples * PORTION
    total = samples * len(head["ids"])
    whole = lines[1:] if lines[-1].endswith(b"\n") else lines[1:-1]
    kept = whole if len(whole) == total else whole[: len(whole) // size * size]
    if write:
        write_whole(journal, first + b"".join(kept))
    return _decoded(kept, journal)


def _decoded(lines: Sequence[bytes], journal: Path) -> list[Candidate]:
    found = []
    for number, line in enumerate(lines, 2):
        try:
            found.append(msgspec.json.decode(line, type=Candidate))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise BadData(
                f"not a candidate: {fault}",
                where=f"{journal}:{number}",
                hint="remove the file: everything is sampled again",
            ) from None
    return found


def judge(
    candidates: Sequence[Candidate], asked: Sequence[Asked], scores: Scores | None, *, rules: bool
) -> list[Judged]:
    """What each candidate is worth by its prompt's rules, by a reward model, or by the rules first.

    Raises:
        BadData: the rules are to judge and a prompt has none, or nothing is to judge at all.
    """
    if not rules and scores is None:
        raise BadData("neither rules nor a reward model judge", hint="set 'reward' and 'rm'")
    by_id = {a.id: a for a in asked}
    whole = [c for c in candidates if c.finished and c.reply]
    given = iter(scores([(c.prompt, c.reply) for c in whole]) if scores else ())
    judged = []
    for candidate in candidates:
        value: list[float] = []
        fault = "" if candidate.reply else "empty"
        fault = fault if candidate.finished else "truncated"
        if rules:
            verdict = score(candidate.reply, _rules(by_id[candidate.id]))
            fault = fault or ("vetoed" if verdict.vetoed else "")
            value.append(verdict.score)
        if scores and candidate.finished and candidate.reply:
            value.append(next(given))
        judged.append(Judged(candidate, None if fault else tuple(value), fault))
    return judged


def _rules(asked: Asked) -> tuple[Rule, ...]:
    if not asked.rules:
        raise BadData(
            f"prompt {asked.id!r} has no rules, and they are to judge",
            where=asked.where,
            hint="give each prompt rules, or set reward: rm",
        )
    return asked.rules


def best(
    judged: Sequence[Judged], *, bar: float, keep: int
) -> tuple[list[Candidate], dict[str, Any]]:
    """The best ``keep`` different replies of each prompt whose value reaches ``bar``, and the ledger.

    The ledger says how many were sampled, kept and dropped for which reason; it sums up.
    """
    dropped: Counter[str] = Counter()
    by_prompt: dict[str, list[Judged]] = {}
    for one in judged:
        fault = one.fault or ("below the bar" if one.value is None or one.value[0] < bar else "")
        if fault:
            dropped[fault] += 1
        else:
            by_prompt.setdefault(one.candidate.id, []).append(one)
    kept: list[Candidate] = []
    for group in by_prompt.values():
        ranked = sorted(group, key=lambda one: one.value or (), reverse=True)
        different = list({one.candidate.reply: one.candidate for one in reversed(ranked)}.values())[
            ::-1
        ]
        kept += different[:keep]
        dropped["the same reply again"] += len(ranked) - len(different)
        dropped["not the best"] += len(different[keep:])
    ledger = {
        "sampled": len(judged),
        "kept": len(kept),
        "dropped": {reason: count for reason, count in sorted(dropped.items()) if count},
        "prompts": len({one.candidate.id for one in judged}),
        "prompts with a kept reply": len({candidate.id for candidate in kept}),
        "kept by task": dict(sorted(Counter(candidate.task for candidate in kept).items())),
    }
    return kept, ledger
