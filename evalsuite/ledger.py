"""What a run costs while it goes on: seconds by phase, tokens asked and computed, memory."""

from __future__ import annotations

from evalsuite import memory
from evalsuite.clock import Moment, now
from evalsuite.engines.base import Prepared, Work
from evalsuite.record import Cost
from evalsuite.request import Failure, Generated, Response

PHASES = ("start", "load", "plan", "prefill", "decode", "answer", "score")


class Ledger:
    """One start of a run.

    Args:
        begun: when the user's waiting for it began.

    Weights may load while requests are planned. Then ``load`` is opening the engine, and what of the
    loading planning did not hide; ``plan`` is all of planning, the slower for sharing the processor
    with it. So the phases add up to the time that passed, and ``load`` is not how long weights take.

    Attributes:
        seconds: phase → seconds so far.
        asked_tokens: see :class:`evalsuite.record.Cost`.
    """

    def __init__(self, begun: Moment) -> None:
        self.seconds: dict[str, float] = {}
        self.asked_tokens = 0
        self._begun = begun
        self._mark = begun.wall
        memory.forget_peak()

    def lap(self, phase: str) -> None:
        """Add the time since the last lap to a phase."""
        wall = now().wall
        self.seconds[phase] = self.seconds.get(phase, 0.0) + wall - self._mark
        self._mark = wall

    def elapsed(self) -> dict[str, float]:
        """Seconds since the beginning: ``wall``, and ``cpu`` of this process."""
        moment = now()
        return {
            "wall": round(moment.wall - self._begun.wall, 3),
            "cpu": round(moment.cpu - self._begun.cpu, 3),
        }

    def finish(self, prepared: Prepared, answer: Response | Failure) -> None:
        """A sample has its answer."""
        if not isinstance(answer, Failure):
            self.asked_tokens += alone(prepared, answer)

    def phases(self, work: Work) -> dict[str, float]:
        """Seconds by phase, with the time for answers split where the engine knows how."""
        seconds = dict(self.seconds)
        if work.prefill_seconds is not None and work.decode_seconds is not None:
            rest = seconds.pop("answer", 0.0) - work.prefill_seconds - work.decode_seconds
            seconds["prefill"] = work.prefill_seconds + max(0.0, rest)
            seconds["decode"] = work.decode_seconds
        return {phase: seconds[phase] for phase in PHASES if phase in seconds}

    def cost(self, work: Work) -> Cost:
        """All but the seconds."""
        return Cost(
            asked_tokens=self.asked_tokens,
            prefill_tokens=work.prefill_tokens,
            decode_tokens=work.decode_tokens,
            peak_bytes=memory.peak(),
            device_peak_bytes=work.device_peak_bytes,
        )


def alone(prepared: Prepared, answer: Response) -> int:
    """Tokens that a sample takes when nothing is shared: each choice of several tokens on its own.

    The last token of a choice or an answer is predicted and never read, so it does not count.
    """
    prompt = len(prepared.prompt)
    if isinstance(answer, Generated):
        return prompt + max(0, len(answer.token_ids) - 1)
    apart = [len(tail) - 1 for tail in prepared.tails if len(tail) > 1]
    letters = len(apart) < len(prepared.tails)
    return len(apart) * prompt + sum(apart) + (prompt if letters else 0)
