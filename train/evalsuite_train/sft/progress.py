"""Which stages of an SFT are finished, and for which settings, data and parent that holds."""

from __future__ import annotations

import json
from pathlib import Path

from evalsuite_train.errors import BadData
from evalsuite_train.files import write_whole


class Progress:
    """Finished stages in ``progress.json``; those of another ``key`` are forgotten.

    Args:
        key: names settings, data and parent.
    """

    def __init__(self, file: Path, key: str) -> None:
        self._file, self._key = file, key
        self._finished: list[int] = []
        if not file.is_file():
            return
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            self._finished = list(kept["finished"]) if kept["key"] == key else []
        except (ValueError, KeyError, TypeError) as fault:
            raise BadData(
                f"cannot be read: {fault}", where=str(file), hint="remove the file"
            ) from None

    def finished(self, number: int) -> bool:
        """Whether stage ``number`` was finished before."""
        return number in self._finished

    def finish(self, number: int) -> None:
        """Note that stage ``number`` is written."""
        self._finished.append(number)
        write_whole(self._file, json.dumps({"key": self._key, "finished": self._finished}))
