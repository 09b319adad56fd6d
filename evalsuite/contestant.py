"""Whoever takes the test: a checkpoint with an engine to run it, a server, or a file of answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from evalsuite.engines._serving import ServerOptions

from evalsuite.engines.base import Engine
from evalsuite.errors import BadOption, DataMissing
from evalsuite.record import CheckpointPart

if TYPE_CHECKING:
    from evalsuite.engines._vllm_spare import Spare

REPLAY = "replay:"


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are computed, as the user asked.

    Attributes:
        server: where the models are served; None for models that are run here.
        engine_options: handed through to the engine, by name.
    """

    engine: str = "auto"
    chat_template: str = "auto"
    dtype: str = "auto"
    device: str = "auto"
    batch_tokens: int | None = None
    trust_remote_code: bool = False
    base: str | None = None
    server: ServerOptions | None = None
    engine_options: dict[str, str] = {}


class Contestant(msgspec.Struct, frozen=True):
    """One model of a run.

    Attributes:
        engine: what decides an answer's digits, known before the engine is opened.
        open_engine: loads the model, or begins to; :meth:`Engine.ready` waits for it.
    """

    part: CheckpointPart
    engine: dict[str, Any]
    open_engine: Callable[[], Engine]


def find_contestants(models: Sequence[str], options: EngineOptions) -> list[Contestant]:
    """Check and fingerprint every model before the first one is run.

    Args:
        models: checkpoint folders, hub ids, or ``replay:FILE``. With ``--engine replay:FILE`` the one
            model is just a name for those answers, with a server each is the name it is served by.
    """
    if options.server is not None:
        return [_served(model, options, options.server) for model in dict.fromkeys(models)]
    if options.engine.startswith(REPLAY):
        if len(models) != 1:
            raise BadOption(
                "one file of answers for several models",
                where="--engine",
                hint="give --model replay:FILE for each",
            )
        return [_replayed(_file(options.engine), Path(models[0]).name)]
    from evalsuite.engines.opening import check_engine

    check_engine(options.engine, dtype=options.dtype, options=options.engine_options)
    distinct = list(dict.fromkeys(models))
    spare = _spare(options, len(distinct))
    return [
        _replayed(_file(model), "")
        if model.startswith(REPLAY)
        else _checkpoint(model, options, spare)
        for model in distinct
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


def _served(model: str, options: EngineOptions, server: ServerOptions) -> Contestant:
    from evalsuite.engines._serving import probe_server, template_name
    from evalsuite.engines.openai import OpenAIEngine
    from evalsuite.files import home
    from evalsuite.served import SEEN, fingerprint

    abilities = probe_server(model, server)
    template = template_name(abilities, options.chat_template)
    part = CheckpointPart(
        name=model.rstrip("/").rpartition("/")[2],
        source=f"openai:{model}",
        fingerprint=fingerprint(abilities.model, abilities.likely, home() / SEEN),
        chat_template=template,
        choices="" if server.choices == "logprobs" else server.choices,
    )

    def connect() -> Engine:
        return OpenAIEngine(
            model, server, abilities, template=template, fingerprint=part.fingerprint
        )

    return Contestant(part, {"name": "openai", "model": abilities.model}, connect)


def _spare(options: EngineOptions, uses: int) -> Spare | None:
    if options.engine != "vllm":
        return None
    from evalsuite.engines._vllm_spare import Spare

    return Spare(uses)


def _checkpoint(model: str, options: EngineOptions, spare: Spare | None) -> Contestant:
    from evalsuite.chat import NONE, resolve_template
    from evalsuite.checkpoint import open_checkpoint
    from evalsuite.engines.opening import check_engine, open_engine
    from evalsuite.engines.options import ModelOptions

    checkpoint = open_checkpoint(
        model, trust_remote_code=options.trust_remote_code, base=options.base
    )
    name = check_engine(
        options.engine, dtype=options.dtype, checkpoint=checkpoint, options=options.engine_options
    )
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
            ModelOptions(
                template=template,
                force_template=options.chat_template not in ("auto", NONE),
                dtype=options.dtype,
                device=options.device,
                batch_tokens=options.batch_tokens,
                trust_remote_code=options.trust_remote_code,
                engine_options=options.engine_options,
            ),
            spare=spare,
        )

    engine: dict[str, Any] = {"name": name, "dtype": options.dtype}
    if options.engine_options:
        engine["options"] = options.engine_options
    return Contestant(part, engine, load)
