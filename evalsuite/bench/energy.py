"""Energy, where the machine tells it: RAPL for processors and memory, NVML for GPUs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


class EnergyCounter:
    """Joules since it was made; of the whole machine, whoever uses it.

    Args:
        powercap: where the kernel shows RAPL's counters.
        gpus: indices of the GPUs to count.
    """

    def __init__(self, powercap: Path = POWERCAP, gpus: int = 0) -> None:
        self._domains = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _is_outer(zone)]
        self._before = {zone: _microjoules(zone / "energy_uj") for zone in self._domains}
        self._handles = _handles(gpus)
        self._gpu_before = [_millijoules(handle) for handle in self._handles]

    def joules(self) -> float | None:
        """The energy so far; None where nothing can be read."""
        found: list[float] = []
        for zone in self._domains:
            before, now = self._before[zone], _microjoules(zone / "energy_uj")
            if before is None or now is None:
                continue
            if now < before:  # the counter ran over
                now += _microjoules(zone / "max_energy_range_uj") or 0
            found.append((now - before) / 1e6)
        for handle, before in zip(self._handles, self._gpu_before, strict=True):
            now = _millijoules(handle)
            if before is not None and now is not None:
                found.append((now - before) / 1e3)
        return sum(found) if found else None


def _is_outer(zone: Path) -> bool:
    """A package with all its cores; ``intel-rapl:0:1`` is a part of ``intel-rapl:0``."""
    return zone.name.count(":") == 1


def _microjoules(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _handles(count: int) -> list[Any]:
    if not count:
        return []
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    return []


def _millijoules(handle: Any) -> int | None:
    with contextlib.suppress(Exception):
        import pynvml

        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    return None
