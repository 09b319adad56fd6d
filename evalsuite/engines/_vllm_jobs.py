"""Jobs as vLLM understands them, and its outputs as answers to jobs. Runs in the worker only."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import msgspec

from evalsuite.engines._endings import Answer
from evalsuite.engines._tokens import Tokens
from evalsuite.engines._vllm_frames import Job, Load, Measured, Written
from evalsuite.request import Sampling

_ROWS = 1024
"""Tokens of one prompt in one step: ``prompt_logprobs`` makes as many rows of logits."""


class UnknownArgument(ValueError):
    """vLLM has no option of this name."""


def start(order: Load) -> Any:
    """vLLM's ``LLMEngine`` with a checkpoint loaded, in this process where one device is enough.

    Raises:
        UnknownArgument: it has no option of a name.
    """
    from vllm import EngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    known = {field.name for field in dataclasses.fields(EngineArgs)}
    if unknown := sorted(order.arguments.keys() - known):
        raise UnknownArgument(f"vLLM has no option {', '.join(unknown)}")
    chosen = dict(order.arguments)
    if chosen.get("tensor_parallel_size", 1) == chosen.get("pipeline_parallel_size", 1) == 1:
        chosen.setdefault("distributed_executor_backend", "uni")
    if order.context is not None:  # the last token is predicted, not read: one more fits
        chosen["max_model_len"] = order.context + 1
        chosen.setdefault("long_prefill_token_threshold", min(_ROWS, order.context + 1))
    return LLMEngine.from_engine_args(
        EngineArgs(
            model=os.fsdecode(order.path),
            skip_tokenizer_init=True,
            dtype=order.dtype,
            trust_remote_code=order.trust_remote_code,
            enable_prefix_caching=True,
            disable_log_stats=True,
            **chosen,
        ),
        usage_context=UsageContext.LLM_CLASS,
    )


class Jobs:
    """What is asked of vLLM and how far each answer has come.

    Args:
        ends: ids that end an answer.
        context: tokens that fit, prompt and answer together.
        columns: columns of the logits; those that are no token are never generated.
    """

    def __init__(self, tokens: Tokens, ends: frozenset[int], *, context: int, columns: int) -> None:
        self._tokens = tokens
        self._ends = ends
        self._context = context
        self._answers: dict[int, Answer] = {}
        padded = range(tokens.size, columns)
        self._masked: dict[str, Any] = {}
        if len(padded) > tokens.size:
            self._masked["allowed_token_ids"] = list(range(tokens.size))
        elif padded:
            self._masked["logit_bias"] = dict.fromkeys(padded, -math.inf)

    def asked(self, job: Job) -> Any:
        """The job as ``SamplingParams``."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if job.sampling is None:
            return SamplingParams(
                max_tokens=1,
                temperature=0.0,
                logprob_token_ids=list(job.wanted),
                prompt_logprobs=0 if job.rows else None,
                skip_reading_prefix_cache=not job.shared,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        answer = Answer(job.tokens, job.sampling, self._context)
        params = SamplingParams(
            max_tokens=answer.budget,
            stop_token_ids=[] if job.endless else sorted(self._ends),
            ignore_eos=job.endless,
            repetition_penalty=job.sampling.repetition_penalty,
            logprobs=0,  # of the token chosen: whether the logits are numbers
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            **_drawing(job.sampling),
            **self._masked,
        )
        self._answers[job.number] = answer
        return params

    def take(self, job: Job, output: Any) -> Measured | Written | None:
        """The job's answer, or None while it is not complete."""
        result = output.outputs[0]
        if job.sampling is not None:
            return self._write(job, result)
        if not output.finished:
            return None
        before = len(job.tokens) - job.rows
        if job.rows and (output.num_cached_tokens or 0) >= before:
            return None
        found = result.logprobs[0]
        rows = (
            tuple(
                (_number(row[token]), row[token].rank == 1)
                for token, row in zip(
                    job.tokens[before:],
                    (output.prompt_logprobs or [])[before:],
                    strict=bool(job.rows),
                )
            )
            if job.rows
            else ()
        )
        return Measured(
            job.number, result.token_ids[0], tuple(_number(found[i]) for i in job.wanted), rows
        )

    def unshared(self, job: Job) -> Job:
        """The same job, computed from its first token on."""
        return msgspec.structs.replace(job, shared=False)

    def clear(self) -> None:
        """Forget all answers that are not complete."""
        self._answers.clear()

    def _write(self, job: Job, result: Any) -> Written | None:
        chosen = zip(result.token_ids, result.logprobs, strict=True)
        if any(math.isnan(found[token].logprob) for token, found in chosen):
            del self._answers[job.number]
            return Written(job.number, None)
        ends: frozenset[int] = frozenset() if job.endless else self._ends
        answer = self._answers[job.number].grow(result.token_ids, self._tokens, ends)
        if answer is None:
            return None
        del self._answers[job.number]
        return Written(job.number, answer)


def _drawing(sampling: Sampling) -> dict[str, Any]:
    if sampling.temperature == 0:
        return {"temperature": 0.0}
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed % (1 << 63),
    }


def _number(found: Any) -> float:
    return float(found.logprob)
