"""A checkpoint that replies: its weights, its template and how it samples."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from evalsuite.checkpoint import open_checkpoint
from evalsuite_train.chat.answer import Piece, answer
from evalsuite_train.chat.prompt import Prompter, TooLong, Turn
from evalsuite_train.chat.queue import Work
from evalsuite_train.chat.settings import Sampling
from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.errors import TrainError
from evalsuite_train.model import load_model

LEAST_REPLY = 16
"""Tokens of the context that a prompt has to leave to its reply."""


class Speaker:
    """Replies to questions.

    Args:
        chat_template: name of a built-in template, where the folder holds none.
        seed: the same replies for the same questions; None draws anew.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        chat_template: str | None,
        sampling: Sampling,
        seed: int | None = None,
    ) -> None:
        self.name = name
        self._model, self._tokenizer = model, tokenizer
        self._prompter = Prompter(tokenizer, chat_template)
        self._sampling, self._seed = sampling, seed

    @property
    def description(self) -> dict[str, Any]:
        """What ``GET /model`` says."""
        settings = {k: getattr(self._sampling, k) for k in self._sampling.__struct_fields__}
        return {"model": self.name, "template": self._prompter.name, "settings": settings}

    def reply(self, history: Sequence[Turn], question: str) -> Work:
        """The work of one reply.

        Raises:
            TooLong: the question leaves the reply no room.
        """
        context = int(getattr(self._model.config, "max_position_embeddings", 1 << 20))
        prompt = self._prompter.ids(history, question, context - LEAST_REPLY)

        def work(cancelled: threading.Event) -> Iterator[Piece]:
            return answer(
                self._model,
                self._tokenizer,
                prompt,
                self._sampling,
                seed=self._seed,
                cancelled=cancelled,
            )

        return work


def open_speaker(source: str, sampling: Sampling, seed: int | None = None) -> Speaker:
    """A speaker from a checkpoint in any form that evalsuite merges into plain weights.

    Raises:
        EvalsuiteError: no such checkpoint, a raw delta, or parts that do not fit.
        TrainError: a form that only evalsuite's own engines run.
    """
    checkpoint = open_checkpoint(source)
    if checkpoint.kind == "gguf" or checkpoint.quantization:
        form = checkpoint.quantization or checkpoint.kind
        hint = "give the unquantised checkpoint; a llama.cpp server chats with GGUF"
        raise TrainError(f"{form} is not served here", where=source, hint=hint)
    model = load_model(checkpoint.path)
    if torch.cuda.is_available():
        model = model.to("cuda", torch.bfloat16)
    speaker = Speaker(
        model,
        load_tokenizer(checkpoint.path),
        name=checkpoint.name,
        chat_template=checkpoint.card.chat_template,
        sampling=sampling,
        seed=seed,
    )
    try:
        speaker.reply([], "你好")
    except TooLong:
        pass  # a very small context; the service says so
    except Exception as fault:  # the checkpoint's own template is a program
        raise TrainError(
            f"its chat template breaks: {type(fault).__name__}: {str(fault)[:200]}",
            where=str(checkpoint.path),
            hint="mend chat_template.jinja, or remove it",
        ) from None
    return speaker
