"""What a server's answers cost."""

from __future__ import annotations

import math

import msgspec

from evalsuite.errors import BadOption

_MILLION = 1_000_000


class Price(msgspec.Struct, frozen=True):
    """Money for a million tokens, in whatever currency the user thinks in.

    Attributes:
        cached: for prompt tokens that the server had in its cache; ``prompt`` if it is not said.
    """

    prompt: float
    completion: float
    cached: float | None = None


def parse_price(text: str) -> Price | None:
    """``IN,OUT`` or ``IN,OUT,CACHED``; nothing for an empty text.

    Raises:
        BadOption: it is not that.
    """
    if not text.strip():
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or not all(0 <= n < math.inf for n in numbers):
        raise BadOption(
            f"{text!r} is not a price",
            where="--price",
            hint="money per million tokens of prompt and answer: --price 0.15,0.60",
        )
    return Price(*numbers)


class Usage(msgspec.Struct):
    """Counted from what the server says of each answer; ``requests`` are those that were answered.

    Attributes:
        cached_tokens: the part of ``prompt_tokens`` that the server did not compute again.
        retries: requests that were sent again.
    """

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def add(self, prompt: int, completion: int, cached: int) -> None:
        """Count one answer."""
        self.requests += 1
        self.prompt_tokens += max(prompt, 0)
        self.completion_tokens += max(completion, 0)
        self.cached_tokens += min(max(cached, 0), max(prompt, 0))

    def numbers(self, price: Price | None) -> dict[str, float]:
        """For ``run.json``; ``cost`` only where there is a price."""
        found: dict[str, float] = msgspec.structs.asdict(self)
        if price is not None:
            cached = price.prompt if price.cached is None else price.cached
            money = (self.prompt_tokens - self.cached_tokens) * price.prompt
            money += self.cached_tokens * cached + self.completion_tokens * price.completion
            found["cost"] = round(money / _MILLION, 6)
        return found
