"""What a run took, in words."""

from __future__ import annotations

from evalsuite.record import Cost, RunManifest


def cost_line(manifest: RunManifest) -> str:
    """One line for a terminal; empty for a run that was never measured."""
    if not manifest.seconds:
        return ""
    parts = [shown_seconds(manifest.seconds), shown_tokens(manifest.cost, "asked", "computed")]
    if memory := shown_memory(manifest.cost):
        parts.append(f"peak memory {memory}")
    return "cost: " + "; ".join(part for part in parts if part)


def shown_seconds(seconds: dict[str, float]) -> str:
    """``load 3.1 s, plan 0.2 s, …``."""
    return ", ".join(f"{phase} {taken:.1f} s" for phase, taken in seconds.items())


def shown_tokens(cost: Cost, asked: str, computed: str) -> str:
    """``106,000 tokens asked (9,120/s), 17,700 computed (prefill 8,200/s, decode 900/s)``.

    Args:
        asked, computed: the two words.
    """
    if not cost.asked_tokens:
        return ""
    text = f"{cost.asked_tokens:,} tokens {asked}"
    if cost.asked_per_second:
        text += f" ({cost.asked_per_second:,.0f}/s)"
    if cost.prefill_tokens is not None and cost.decode_tokens is not None:
        text += f", {cost.prefill_tokens + cost.decode_tokens:,} {computed}"
        rates = {"prefill": cost.prefill_per_second, "decode": cost.decode_per_second}
        shown = [f"{phase} {rate:,.0f}/s" for phase, rate in rates.items() if rate]
        text += f" ({', '.join(shown)})" if shown else ""
    return text


def shown_memory(cost: Cost) -> str:
    """``557 MiB, GPU 1.2 GiB``."""
    shown = [shown_bytes(cost.peak_bytes)] if cost.peak_bytes else []
    shown += [f"GPU {shown_bytes(cost.device_peak_bytes)}"] if cost.device_peak_bytes else []
    return ", ".join(shown)


def shown_bytes(count: float) -> str:
    """In the largest binary unit of which there is one at least."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if (amount := count / 1024**power) >= 1:
            return f"{amount:,.{1 if amount < 100 else 0}f} {unit}"
    return f"{count:.0f} B"
