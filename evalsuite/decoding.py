"""How replies are drawn where the user wants it otherwise than a task does: ``--sampling``."""

from __future__ import annotations

import msgspec

from evalsuite.errors import BadOption, nearest
from evalsuite.request import Generate, Request

OPTION = "--sampling"


class Decoding(msgspec.Struct, frozen=True, omit_defaults=True):
    """Settings that replace those of :class:`evalsuite.request.Sampling`; None leaves a task's own.

    Attributes:
        samples: answers drawn to each question, each a sample of its own; one by default.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    samples: int | None = None

    def apply(self, request: Request) -> Request:
        """The request with these settings; one that generates nothing stays as it is."""
        changes = msgspec.structs.asdict(self)
        changes = {
            name: value
            for name, value in changes.items()
            if value is not None and name != "samples"
        }
        if not isinstance(request, Generate) or not changes:
            return request
        sampling = msgspec.structs.replace(request.sampling, **changes)
        return msgspec.structs.replace(request, sampling=sampling)

    def __str__(self) -> str:
        """``temperature=1,top_p=0.85``, as the option is written; empty for no change."""
        changes = msgspec.structs.asdict(self).items()
        return ",".join(f"{name}={value:.12g}" for name, value in changes if value is not None)


def parse_decoding(text: str) -> Decoding:
    """Read ``greedy`` or ``NAME=VALUE,…``; empty changes nothing.

    Raises:
        BadOption: no such setting, or a value out of its range.
    """
    if text.strip() == "greedy":
        return Decoding(temperature=0.0)
    settings: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or name not in Decoding.__struct_fields__:
            near = nearest(name, Decoding.__struct_fields__)
            known = ", ".join(Decoding.__struct_fields__)
            hint = (f"did you mean {near!r}? " if near else "") + f"NAME=VALUE with {known}"
            raise BadOption(f"not a setting: {part!r}", where=OPTION, hint=hint)
        settings[name] = value
    try:
        decoding = msgspec.convert(settings, Decoding, strict=False)
    except msgspec.ValidationError as fault:
        raise BadOption(str(fault), where=OPTION) from None
    _check(decoding)
    return decoding


def _check(decoding: Decoding) -> None:
    bounds = {
        "max_tokens": (1, 1 << 20),
        "temperature": (0, 100),
        "top_p": (1e-6, 1),
        "top_k": (0, 1 << 20),
        "repetition_penalty": (1e-3, 100),
        "samples": (1, 10_000),
    }
    for name, (low, high) in bounds.items():
        value = getattr(decoding, name)
        if value is not None and not low <= value <= high:
            raise BadOption(f"{name}={value}", where=OPTION, hint=f"from {low:g} to {high:g}")
