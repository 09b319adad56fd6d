"""What a task asks of an engine, and what the engine answers.

An engine sees these types and nothing of the task behind them. All are immutable, and they are
the JSON of the journal.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Truncate = Literal["error", "left"]
FinishReason = Literal["stop", "length"]


class Prompt(msgspec.Struct, frozen=True, omit_defaults=True):
    """The text that comes before the answer.

    Attributes:
        text: the part that belongs to this sample.
        prefix: instruction and few-shot examples, shared by many samples; it comes first.
        system: a system message; only chat templates use it.
        plain: the protocol fixes this very text, so the checkpoint's chat template is left out
            unless the user names a template.
        truncate: what to do when the prompt does not fit: an error record, or drop tokens on the
            left.
    """

    text: str
    prefix: str = ""
    system: str = ""
    plain: bool = False
    truncate: Truncate = "error"

    @property
    def full(self) -> str:
        """Prefix and text together, as the model reads them without a chat template."""
        return self.prefix + self.text


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are drawn. ``temperature`` 0 is greedy.

    ``seed`` belongs to this one request, so an answer does not depend on its neighbours in a batch.
    """

    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    """Continue the prompt freely."""

    prompt: Prompt
    sampling: Sampling = Sampling()


class Choose(msgspec.Struct, frozen=True, tag="choose"):
    """Log-likelihood of each choice as the continuation of the prompt."""

    prompt: Prompt
    choices: tuple[str, ...]


class Score(msgspec.Struct, frozen=True, tag="score"):
    """Log-likelihood of one text after the prompt (which may be empty)."""

    prompt: Prompt
    continuation: str


Request = Generate | Choose | Score


class Generated(msgspec.Struct, frozen=True, tag="generated"):
    """A generated text, without the stop string that ended it.

    Attributes:
        finish_reason: ``stop`` for the end-of-sequence token or a stop string, ``length`` when
            ``max_tokens`` or the context ran out, i.e. the answer is truncated.
        prompt_tokens: tokens of the prompt; 0 where the engine cannot know.
        token_ids: the generated ids, end-of-sequence included.
    """

    text: str
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    token_ids: tuple[int, ...] = ()


class Chosen(msgspec.Struct, frozen=True, tag="chosen"):
    """What the engine knows of each choice.

    Attributes:
        picked: index of the most likely choice; None when the answer names none of them.
        logprobs: natural-log likelihood of each choice, summed over its tokens; empty when the
            engine only knows which one was picked (replayed text).
        token_counts: tokens of each choice.
    """

    picked: int | None
    logprobs: tuple[float, ...] = ()
    token_counts: tuple[int, ...] = ()
    prompt_tokens: int = 0


class Scored(msgspec.Struct, frozen=True, tag="scored"):
    """Natural-log likelihood of the continuation, summed over its tokens.

    Attributes:
        greedy: whether greedy decoding would have produced exactly this continuation.
    """

    logprob: float
    token_count: int
    greedy: bool
    prompt_tokens: int = 0


Response = Generated | Chosen | Scored


class Failure(msgspec.Struct, frozen=True):
    """Why one sample has no answer or no score; ``code`` is one of ``errors.SAMPLE_CODES``."""

    code: str
    message: str


def most_likely(logprobs: tuple[float, ...]) -> int | None:
    """Index of the greatest log-likelihood; the first one wins a tie, None if there are none."""
    return max(range(len(logprobs)), key=logprobs.__getitem__) if logprobs else None
