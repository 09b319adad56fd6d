"""What code tasks share: an answer becomes a program, and running it in the sandbox is its score."""

from __future__ import annotations

import textwrap
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from evalsuite.metrics.code_answer import code_in, fenced, preamble
from evalsuite.metrics.metric import Metric
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.sandbox import Program, Verdict
from evalsuite.task import Outcome, Sample, Task, Variant

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


class FunctionTask(CodeTask):
    """A function whose head and docstring are given, in the manner of HumanEval.

    Samples hold ``prompt`` and ``entry_point`` in their fields, the checks as ``test`` and the rest of
    the function as ``target``. A base model's answer is a continuation of the prompt, cut where the
    next thing on the top level begins. Of a chat model's, it is the code that defines the function,
    with the prompt's imports and helpers, or else the function's body.
    """

    ends: ClassVar[tuple[str, ...]] = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    """Chen et al. 2021, section 2.2: where a continuation ends."""
    variants = (
        Variant("complete", "the function's head, to be continued by a base model"),
        Variant("instruct", "an instruction for chat models; the code is taken from the answer"),
    )

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        prompt = sample.fields["prompt"]
        if variant == "complete":
            return Generate(Prompt(prompt, plain=True), Sampling(max_tokens=512, stop=self.ends))
        asked = (
            f"Complete this Python function. Answer with all of its code.\n```python\n{prompt}\n```"
        )
        return Generate(Prompt(asked), Sampling(max_tokens=1024))

    def program(self, sample: Sample, response: Response, variant: str) -> Program | None:
        answer = response.text if isinstance(response, Generated) else ""
        if not answer.strip():
            return None
        prompt, entry = sample.fields["prompt"], sample.fields["entry_point"]
        if variant == "complete":
            solution = prompt + cut(answer, self.ends)
        elif (code := code_in(answer, entry)) is not None:
            solution = preamble(prompt, entry, code) + code
        elif (body := _body(answer)) is not None:
            solution = prompt + body
        else:
            return None
        return Program(
            solution=solution, checks=sample.fields["test"], entry=entry, preamble=prompt
        )

    def gold(self, sample: Sample) -> Response:
        return Generated(sample.target)


def cut(text: str, ends: Sequence[str]) -> str:
    """Text up to where the first of these begins, as an engine stops there."""
    return text[: min((at for end in ends if (at := text.find(end)) >= 0), default=len(text))]


def _body(answer: str) -> str | None:
    """A function's body that stands alone, in a fence or bare, indented as under its head."""
    blocks = fenced(answer)
    body = textwrap.dedent(blocks[0] if blocks else answer.strip("\n"))
    indented = textwrap.indent(body, "    ")
    return indented if code_in(f"def body():\n{indented}", "body") and body.strip() else None


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
