"""What computes: threads of the processor, or a GPU and what it holds."""

from __future__ import annotations

import os
import sys


def threads() -> int:
    """Threads that torch computes with; all there are where it was never imported."""
    if "torch" not in sys.modules:
        return os.cpu_count() or 1
    import torch

    return torch.get_num_threads()


def gpus(device: str) -> tuple[str, ...]:
    """Model names of the GPUs that a device stands for."""
    if not device.startswith(("cuda", "gpu")):
        return ()
    import torch

    if not torch.cuda.is_available():
        return ()
    return (torch.cuda.get_device_name(0),)


def allocated(device: str) -> int | None:
    """Bytes that torch holds of a GPU; its peak is counted from now on. None without a GPU."""
    if not gpus(device):
        return None
    import torch

    torch.cuda.reset_peak_memory_stats()
    return int(torch.cuda.memory_allocated())


def reserved(device: str) -> int | None:
    """The most bytes that torch has taken from a GPU, used or not. None without a GPU."""
    if not gpus(device):
        return None
    import torch

    return int(torch.cuda.max_memory_reserved())


def driver() -> int | None:
    """Bytes that the driver counts for this process and its children; None without NVML."""
    try:
        import psutil
        import pynvml

        mine = {os.getpid(), *(c.pid for c in psutil.Process().children(recursive=True))}
        pynvml.nvmlInit()
        held = [
            process.usedGpuMemory
            for index in range(pynvml.nvmlDeviceGetCount())
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(
                pynvml.nvmlDeviceGetHandleByIndex(index)
            )
            if process.pid in mine and process.usedGpuMemory
        ]
    except Exception:
        return None
    return sum(held) or None
