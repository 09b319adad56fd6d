"""What code tasks share: an answer becomes a program, and running it in the sandbox is its score."""

from __future__ import annotations

from abc import abstractmethod

from evalsuite.metrics.metric import Metric
from evalsuite.request import Response
from evalsuite.sandbox import Program, Verdict
from evalsuite.task import Outcome, Sample, Task

PASSED = "passed"


class CodeTask(Task):
    """A task whose answers are run: :mod:`evalsuite.scoring` does it, while others are generated.

    The score ``passed`` is 1 for a program whose checks ran to their end and 0 for every other, also
    where no program was found. With several answers a problem (``--sampling samples=20``) pass@k is
    estimated for each k of 1, 10 and 100 up to their number.
    """

    metrics: tuple[Metric, ...] = (Metric("pass@1", statistic=PASSED),)

    def metrics_of_several(self, answers: int) -> tuple[Metric, ...]:
        return pass_at(answers)

    @abstractmethod
    def program(self, sample: Sample, response: Response, variant: str) -> Program | None:
        """What is to be run, or None where the answer holds no program. Pure; nothing is executed."""

    def score(self, sample: Sample, response: Response) -> Outcome:
        """Not without a sandbox: see :meth:`judged`."""
        raise TypeError(f"{self.meta.name} is scored by running programs: evalsuite.scoring.Scorer")


def judged(program: Program | None, verdict: Verdict | None) -> Outcome:
    """The score of an answer from what its program did."""
    if program is None or verdict is None:
        return Outcome({PASSED: 0.0}, None, "no program in the answer")
    return Outcome({PASSED: float(verdict.passed)}, program.solution, described(verdict))


def described(verdict: Verdict) -> str:
    """A verdict in one line: ``failed: AssertionError (checks line 2: assert double(2) == 4)``."""
    detail = f": {verdict.detail}" if verdict.detail else ""
    where = f" ({verdict.where})" if verdict.where else ""
    return f"{verdict.outcome}{detail}{where}"


def pass_at(samples: int) -> tuple[Metric, ...]:
    """pass@k for k of 10 and 100 up to the number of answers a problem (Chen et al. 2021, eq. 1)."""
    return tuple(
        Metric(f"pass@{k}", formula=f"pass@{k}", statistic=PASSED, per_cluster=True)
        for k in (10, 100)
        if k <= samples
    )
