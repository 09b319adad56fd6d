"""One reply, token by token, as text that can be shown while it grows."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from evalsuite_train.chat.settings import Sampling

_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Piece(NamedTuple):
    """The next part of a reply.

    Attributes:
        text: what is new; the texts of all pieces together are the reply.
        tokens: how many tokens there are so far.
        finish: empty until the last piece: ``stop`` at EOS, ``length`` at the limit.
    """

    text: str
    tokens: int
    finish: Literal["", "stop", "length"]


def answer(
    model: Any,
    tokenizer: Any,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    seed: int | None,
    cancelled: threading.Event,
) -> Iterator[Piece]:
    """Generate a reply; ends without a last piece once ``cancelled`` is set.

    Ids beyond the tokenizer (embedding rows that pad to a multiple of 128) are never chosen.

    Args:
        prompt: ids up to where the reply starts.
        seed: None draws anew each time.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device)
    if seed is not None:
        generator.manual_seed(seed)
    else:
        generator.seed()
    context = int(getattr(model.config, "max_position_embeddings", 1 << 30))
    limit = min(sampling.max_new_tokens, context - len(prompt))
    warp, cache = _processors(sampling), DynamicCache()
    ids, said = torch.tensor([list(prompt)], device=device), Text(tokenizer)
    fresh = ids
    for count in range(1, limit + 1):
        if cancelled.is_set():
            return
        with torch.inference_mode():
            output = model(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits = warp(ids, output.logits[:, -1, : len(tokenizer)].float())
            if sampling.temperature == 0:
                fresh = logits.argmax(-1, keepdim=True)
            else:
                fresh = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        if int(fresh) == tokenizer.eos_token_id:
            yield Piece(said.rest(), count, "stop")
            return
        ids = torch.cat([ids, fresh], 1)
        text = said.add(int(fresh))
        if text and count < limit:
            yield Piece(text, count, "")
    yield Piece(said.rest(), limit, "length")


def _processors(sampling: Sampling) -> Any:
    """transformers' processors, in the order in which ``generate`` applies them."""
    processors: list[Any] = []
    if sampling.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature not in (0.0, 1.0):
        processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.temperature > 0 and sampling.top_k > 0:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.temperature > 0 and sampling.top_p < 1.0:
        processors.append(TopPLogitsWarper(sampling.top_p))
    return LogitsProcessorList(processors)


class Text:
    """The text of a growing row of ids, handed out as far as it will not change any more.

    Bytes are held back until something else follows them: a byte too many turns a whole run of
    them into replacement characters. So is white space at the end, which is dropped if nothing
    follows.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._sent = ""

    def add(self, token: int) -> str:
        """Take one more token; returns what can be shown now, often nothing."""
        self._ids.append(token)
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if _BYTE.fullmatch(piece):
            return ""
        return self._send(self._decoded().rstrip("\ufffd").rstrip())

    def rest(self) -> str:
        """What was held back, at the end."""
        return self._send(self._decoded().rstrip())

    def _decoded(self) -> str:
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return str(text).lstrip()

    def _send(self, text: str) -> str:
        fresh, self._sent = text[len(self._sent) :], text
        return fresh
