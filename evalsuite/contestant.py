"""Whoever takes the test: a checkpoint with an engine to run it, or a file of answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evalsuite.engines.base import Engine
from evalsuite.errors import BadOption, DataMissing
from evalsuite.record import CheckpointPart

REPLAY = "replay:"


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are computed, as the user asked."""

    engine: str = "auto"
    chat_template: str = "auto"
    dtype: str = "auto"
    device: str = "auto"
    batch_tokens: int | None = None
    trust_remote_code: bool = False
    base: str | None = None


class Contestant(msgspec.Struct, frozen=True):
    """One model of a run.

    Attributes:
        engine: what decides an answer's digits, known before the engine is opened.
        open_engine: loads the model, which may take long.
    """

    part: CheckpointPart
    engine: dict[str, Any]
    open_engine: Callable[[], Engine]


def find_contestants(models: Sequence[str], options: EngineOptions) -> list[Contestant]:
    """Check and fingerprint every model before the first one is run.

    Args:
        models: checkpoint folders, hub ids, or ``replay:FILE``. With ``--engine replay:FILE`` the one
            model is just a name for those answers.
    """
    if options.engine.startswith(REPLAY):
        if len(models) != 1:
            raise BadOption(
                "one file of answers for several models",
                where="--engine",
                hint="give --model replay:FILE for each",
            )
        return [_replayed(_file(options.engine), Path(models[0]).name)]
    from evalsuite.engines.opening import check_engine

    check_engine(options.engine, dtype=options.dtype)
    return [
        _replayed(_file(model), "") if model.startswith(REPLAY) else _checkpoint(model, options)
        for model in dict.fromkeys(models)
    ]


def _file(name: str) -> Path:
    """The file of ``replay:FILE``; a shell leaves a ``~`` after a colon alone."""
    return Path(name.removeprefix(REPLAY)).expanduser()


def _replayed(file: Path, name: str) -> Contestant:
    if not file.is_file():
        raise DataMissing(
            "no such file of answers", where=str(file), hint="expected JSONL, or one line a sample"
        )
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    part = CheckpointPart(
        name=name or file.name.removesuffix(".jsonl"),
        source=f"{REPLAY}{file}",
        fingerprint=content,
        chat_template="none",
    )

    def open_replay() -> Engine:
        from evalsuite.engines.replay import ReplayEngine

        return ReplayEngine(file)

    return Contestant(part, {"name": "replay"}, open_replay)


def _checkpoint(model: str, options: EngineOptions) -> Contestant:
    from evalsuite.chat import NONE, resolve_template
    from evalsuite.checkpoint import open_checkpoint
    from evalsuite.engines.opening import check_engine, open_engine

    checkpoint = open_checkpoint(
        model, trust_remote_code=options.trust_remote_code, base=options.base
    )
    name = check_engine(options.engine, dtype=options.dtype, checkpoint=checkpoint)
    template = resolve_template(checkpoint, options.chat_template)
    part = CheckpointPart(
        name=checkpoint.name,
        source=checkpoint.source,
        fingerprint=checkpoint.fingerprint,
        family=checkpoint.card.family,
        stage=checkpoint.card.stage,
        step=checkpoint.card.step,
        seed=checkpoint.card.seed,
        parent=checkpoint.card.parent,
        chat_template=template.name if template else NONE,
    )

    def load() -> Engine:
        return open_engine(
            name,
            checkpoint,
            template=template,
            dtype=options.dtype,
            device=options.device,
            batch_tokens=options.batch_tokens,
            trust_remote_code=options.trust_remote_code,
            force_template=options.chat_template not in ("auto", NONE),
        )

    return Contestant(part, {"name": name, "dtype": options.dtype}, load)
