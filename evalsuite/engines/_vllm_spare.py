"""The worker of one checkpoint, kept for the next."""

from __future__ import annotations

from evalsuite.engines._vllm_process import Worker


class Spare:
    """Keeps the worker of one checkpoint for the next: what was imported stays.

    Only on a processor: on a GPU a process that ends is what surely frees its memory. (vLLM can also
    put new weights into the same model, ``reload_weights``, but its CPU build then computes with
    some of the old ones.)

    Args:
        uses: how many engines will be opened, one after the other.
    """

    def __init__(self, uses: int = 1) -> None:
        self._uses = uses
        self._kept: Worker | None = None
        self._kind: tuple[str, ...] | None = None

    def take(self, environment: dict[str, str], *, cpu: bool) -> Worker:
        """The kept worker where it fits, else a new one."""
        settings = sorted(f"{k}={v}" for k, v in environment.items() if k.startswith("VLLM_"))
        kept, kind = self._kept, tuple(settings) if cpu else None
        self._kept = None
        if kept is not None:
            if kept.alive and kind is not None and kind == self._kind:
                return kept
            kept.close()
        self._kind = kind
        return Worker(environment)

    def give_back(self, worker: Worker) -> None:
        """Keep a worker that did its work, or end it where no other checkpoint follows."""
        self._uses -= 1
        if self._uses > 0 and self._kind is not None and worker.idle:
            self._kept = worker
        else:
            worker.close()

    def close(self) -> None:
        """End the kept worker; nothing is kept any more."""
        self._uses = 0
        if self._kept is not None:
            self._kept.close()
            self._kept = None
