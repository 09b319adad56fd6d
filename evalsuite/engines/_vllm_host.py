"""A checkpoint in vLLM: jobs go in, each step brings out what was finished. Runs in the worker only."""

from __future__ import annotations

import gc
import os
from collections import deque
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Card, Checkpoint
from evalsuite.engines._endings import end_ids
from evalsuite.engines._tokens import Tokens
from evalsuite.engines._vllm_frames import Answer, Declined, Job, Load
from evalsuite.engines._vllm_jobs import Jobs, start
from evalsuite.engines._vllm_trouble import first_line

_WAITING = 2
"""Requests that vLLM has at once, in multiples of those that it computes together."""


class Host:
    """A checkpoint in vLLM.

    Attributes:
        block: tokens of a block of the prefix cache.
        context: tokens that fit, prompt and answer together.
        waiting: jobs that vLLM was not given yet.
    """

    def __init__(self, order: Load) -> None:
        self._engine = start(order)
        config = self._engine.vllm_config
        model = config.model_config
        self.block = int(config.cache_config.block_size)
        self.context = order.context or int(model.max_model_len) - 1
        tokens = Tokens(_folder(order), trust_remote_code=order.trust_remote_code)
        said = model.try_get_generation_config() or {}
        ends = end_ids(
            said.get("eos_token_id"),
            getattr(model.hf_config, "eos_token_id", None),
            tokens.eos_id,
        )
        self._jobs = Jobs(tokens, ends, context=self.context, columns=int(model.get_vocab_size()))
        self._most = _WAITING * int(config.scheduler_config.max_num_seqs)
        self._running: dict[str, Job] = {}
        self.waiting: deque[Job] = deque()

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self.waiting or self._running)

    def step(self) -> list[Answer]:
        """Let vLLM compute one batch; what it finished."""
        done: list[Answer] = []
        while self.waiting and len(self._running) < self._most:
            job = self.waiting.popleft()
            try:
                self._add(job)
            except Exception as fault:  # vLLM checks a request before it takes it
                done.append(Declined(job.number, first_line(fault)))
        for output in self._engine.step() if self._running else ():
            if output.request_id not in self._running:
                continue
            job = self._running[output.request_id]
            answer = self._jobs.take(job, output)
            if answer is not None:
                self._drop(output)
                done.append(answer)
            elif output.finished and job.shared and not job.sampling:
                self._drop(output)  # the cache was read too far: once more, without it
                self._add(self._jobs.unshared(job))
            elif output.finished:
                raise RuntimeError(f"vLLM ended a request early: {output}")
        return done

    def forget(self) -> None:
        """Drop whatever is under way, and the prefix cache."""
        self.waiting.clear()
        if self._running:
            self._engine.abort_request(list(self._running))
            self._running.clear()
            self._jobs.clear()
            while self._engine.has_unfinished_requests():
                self._engine.step()
        if not self._engine.reset_prefix_cache():
            raise RuntimeError("vLLM does not let go of its prefix cache")

    def close(self) -> None:
        """Let go of the weights and the cache."""
        self._engine.engine_core.shutdown()
        del self._engine
        gc.collect()

    def _add(self, job: Job) -> None:
        name = f"{job.number}" if job.shared else f"{job.number}-alone"
        prompt = {"prompt_token_ids": list(job.tokens)}
        self._engine.add_request(name, prompt, self._jobs.asked(job))
        self._running[name] = job

    def _drop(self, output: Any) -> None:
        self._running.pop(output.request_id)
        if not output.finished:
            self._engine.abort_request([output.request_id])


def _folder(order: Load) -> Checkpoint:
    """The checkpoint as far as its tokenizer is concerned."""
    return Checkpoint(Path(os.fsdecode(order.path)), "", "", "", Card(), {})
