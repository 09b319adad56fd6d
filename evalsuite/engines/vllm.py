"""vLLM, on a GPU, or on a processor with its CPU build; in a process of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._local import window
from evalsuite.engines._preflight import Preflight
from evalsuite.engines._tokens import Tokens
from evalsuite.engines._vllm_checkpoint import choose_dtype, embedding_rows, parameters
from evalsuite.engines._vllm_frames import Declined, Job, Load, Measured, Written
from evalsuite.engines._vllm_installation import choose_device, installed
from evalsuite.engines._vllm_options import arguments, environment, parse_options
from evalsuite.engines._vllm_process import Worker
from evalsuite.engines._vllm_scoring import NOT_NUMBERS, Portion
from evalsuite.engines._vllm_spare import Spare
from evalsuite.engines._weights import check_files
from evalsuite.engines.base import Asked, Engine, Prepared, apart
from evalsuite.engines.options import DEFAULT, ModelOptions
from evalsuite.errors import EngineFailed
from evalsuite.request import Failure, Generate, Request, Response

_PORTION = 2048
"""Questions that are scored together; between two portions the prefix cache is emptied."""

_WINDOW = 4096
"""Jobs that are given to the worker ahead."""


class VllmEngine(Engine):
    """Log-likelihoods and greedy texts of the transformers engine, by vLLM.

    The checkpoint is loaded while requests are prepared; whether it loads, :meth:`ready` tells. A seed
    gives the same text again, but another one than in the transformers engine.

    Args:
        options: the dtype ``auto`` is float32 on a processor and the checkpoint's own on a GPU; a
            checkpoint that is quantised decides itself. The device ``auto`` is what the installed vLLM
            was built for. ``engine_options`` go to vLLM's ``EngineArgs``, values as JSON or text; see
            :mod:`evalsuite.engines._vllm_options`.
        spare: keeps the worker of one checkpoint for the next.

    Raises:
        BadCheckpoint: weights or tokenizer are missing or damaged.
        BadOption: an unknown dtype or device, or an option that the engine decides itself.
        EngineUnavailable: vLLM is not here, too old, or built for another device.
    """

    name = "vllm"

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: ModelOptions = DEFAULT,
        *,
        spare: Spare | None = None,
    ) -> None:
        version, cpu = installed()
        given = parse_options(options.engine_options)
        device = choose_device(options.device, cpu=cpu)
        dtype = choose_dtype(options.dtype, checkpoint, cpu=cpu)
        check_files(checkpoint.path)
        self._spare = spare or Spare()
        self._worker: Worker | None = self._spare.take(environment(given, device), cpu=cpu)
        try:
            tokens = Tokens(checkpoint, trust_remote_code=options.trust_remote_code)
            self.context = window(checkpoint, tokens)
            if isinstance(wanted := given.get("max_model_len"), int):
                self.context = min(wanted, self.context or wanted)
            self._worker.load(
                Load(
                    os.fsencode(checkpoint.path),
                    dtype,
                    self.context,
                    options.trust_remote_code,
                    arguments(given, cpu=cpu, batch_tokens=options.batch_tokens),
                    tuple(given),
                ),
                checkpoint.source,
            )
            if self.context is None:
                self.context = self._worker.loaded().context
        except BaseException:
            self.close()
            raise
        self._tokens = tokens
        self._parameters = parameters(checkpoint)
        self._description: dict[str, Any] = {"dtype": dtype, "device": device}
        self._description["version"] = version
        if checkpoint.quantization:
            self._description["quantization"] = checkpoint.quantization
        if given:
            self._description["options"] = given
        self.template_name = options.template_name
        self._numbers = itertools.count()
        self._preflight = Preflight(
            tokens,
            options.template,
            force_template=options.force_template,
            context=self.context,
            rows=embedding_rows(checkpoint, tokens),
            identity=[
                checkpoint.fingerprint,
                self.name,
                dtype,
                *sorted(f"{k}={v}" for k, v in given.items()),
            ],
        )

    def ready(self) -> None:
        """Wait until vLLM has loaded the checkpoint; see :meth:`evalsuite.engines.base.Engine.ready`."""
        self._running().loaded()

    @property
    def parameters(self) -> int | None:
        """Number of weights; unknown where they are packed."""
        return self._parameters

    @property
    def description(self) -> dict[str, Any]:
        """What may change an answer's digits."""
        return {"name": self.name, **self._description}

    def prepare(self, names: Sequence[str], requests: Sequence[Request]) -> list[Prepared]:
        """Render, tokenise and check; see :class:`evalsuite.engines._preflight.Preflight`.

        Raises:
            BadOption: sampling parameters that make no sense.
            BadCheckpoint: the chat template fails.
        """
        return self._preflight.prepare(names, requests)

    def answer(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Response | Failure]]:
        """Answer what was prepared: choices and scores first, then texts.

        Raises:
            EvalsuiteError: the checkpoint does not load, or vLLM broke; what was yielded stays.
        """
        worker = self._running()
        known, scored, generated = apart(prepared)
        yield from known
        scored.sort(key=lambda asked: asked[1].prompt)
        generated.sort(key=lambda asked: asked[1].prompt)
        for start in range(0, len(scored), _PORTION):
            yield from self._score(worker, scored[start : start + _PORTION])
        if generated:
            yield from self._generate(worker, generated)

    def _running(self) -> Worker:
        if self._worker is None or not self._worker.alive:
            raise EngineFailed("the engine was closed", hint="open another one")
        return self._worker

    def _score(self, worker: Worker, asked: Asked) -> Iterator[tuple[int, Response | Failure]]:
        portion = Portion(
            asked, context=self.context, block=worker.loaded().block, numbers=self._numbers
        )
        worker.forget()
        for answer in worker.ask(portion.jobs, len(portion.jobs)):
            if isinstance(answer, Declined):
                yield from portion.decline(answer)
            elif isinstance(answer, Measured):
                yield from portion.take(answer)

    def _generate(self, worker: Worker, asked: Asked) -> Iterator[tuple[int, Response | Failure]]:
        worker.loaded()
        worker.forget()
        index_of: dict[int, int] = {}

        def jobs() -> Iterator[Job]:
            for index, item in asked:
                assert isinstance(item.request, Generate)
                number = next(self._numbers)
                index_of[number] = index
                sampling = item.request.sampling
                stop = tuple(text for text in sampling.stop if _encodes(text))
                yield Job(
                    number,
                    item.prompt,
                    sampling=msgspec.structs.replace(sampling, stop=stop),
                    endless=self.ignore_ends,
                )

        for answer in worker.ask(jobs(), _WINDOW):
            index = index_of.pop(answer.number)
            if isinstance(answer, Declined):
                yield index, Failure("engine_failed", answer.message)
            elif isinstance(answer, Written):
                yield index, answer.answer or NOT_NUMBERS

    def shown_prompt(self, prepared: Prepared) -> str:
        """The prompt's tokens as text, special tokens spelled out; what failed as it was asked."""
        if not prepared.prompt:
            return super().shown_prompt(prepared)
        return self._tokens.spelled(prepared.prompt)

    def close(self) -> None:
        """End vLLM's process, unless the next checkpoint may use it."""
        if self._worker is not None:
            self._spare.give_back(self._worker)
            self._worker = None


def _encodes(text: str) -> bool:
    """Whether a text may occur in an answer at all; one with a lone surrogate never does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
