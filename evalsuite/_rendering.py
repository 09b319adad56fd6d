"""Jinja chat templates in the conventions of Hugging Face; also a program of its own.

A template that comes with a checkpoint is a stranger's program. The sandbox keeps it from reaching
Python, but not from looping or growing without end, so :mod:`evalsuite.chat` runs such templates
through this file as a separate process, whose memory and processor time the system limits. It
therefore imports nothing of evalsuite.

As a program: standard input is ``{"source", "conversations", "bos", "eos"}``, standard output
``{"texts"}`` or ``{"error"}``, all JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

MEMORY = 1 << 30
"""Bytes of address space that a separate process may use."""

CPU_SECONDS = 60
"""Processor time that a separate process may use."""

TODAY = datetime(2025, 1, 1)
"""What ``strftime_now`` says. Fixed, so that a checkpoint is asked the same thing every day."""

_SPARE = 1 << 20


def render_conversations(
    source: str, conversations: Sequence[Sequence[dict[str, str]]], bos: str, eos: str
) -> list[str]:
    """Render each conversation with a generation prompt at its end.

    Follows ``apply_chat_template(tokenize=False, add_generation_prompt=True)`` of transformers,
    except that the date is fixed.

    Raises:
        jinja2.TemplateError: the template is malformed, refuses the conversation, or reaches for
            what the sandbox forbids.
        ValueError: a rendered text is out of all proportion to what was put in.
    """
    template = _environment().from_string(source)
    texts = []
    for messages in conversations:
        text = template.render(
            messages=list(messages),
            tools=None,
            documents=None,
            add_generation_prompt=True,
            bos_token=bos,
            eos_token=eos,
        )
        if len(text) > _SPARE + 4 * sum(len(message["content"]) for message in messages):
            raise ValueError(f"the rendered text has {len(text)} characters")
        texts.append(text)
    return texts


def _environment() -> Any:
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks the assistant's words for training; here it does nothing."""

        tags = {"generation"}  # noqa: RUF012 (jinja2 declares it as an instance's own)

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = TODAY.strftime
    return environment


def main() -> None:
    """Answer one request from standard input within the limits above."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    except (ImportError, ValueError, OSError):
        pass  # no such limits on this system; the caller's time limit remains
    try:
        asked = json.load(sys.stdin)
        answer: dict[str, Any] = {"texts": render_conversations(**asked)}
    except BaseException as fault:
        answer = {"error": f"{type(fault).__name__}: {fault}"[:500]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
