"""What tasks share that give the head and the docstring of a function, in the manner of HumanEval."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from evalsuite.code import CodeTask
from evalsuite.metrics.code_answer import code_in, cut, fenced, preamble
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.sandbox import Program
from evalsuite.task import Sample, Variant


class FunctionTask(CodeTask):
    """A function to be completed.

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


def _body(answer: str) -> str | None:
    """A function's body that stands alone, in a fence or bare, indented as under its head."""
    blocks = fenced(answer)
    body = textwrap.dedent(blocks[0] if blocks else answer.strip("\n"))
    indented = textwrap.indent(body, "    ")
    return indented if code_in(f"def body():\n{indented}", "body") and body.strip() else None
