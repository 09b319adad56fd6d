"""Answers kept across runs, by content: same checkpoint, same tokens, same sampling, same answer.

One SQLite file that any number of processes may use. It only ever saves time: when it cannot be
read or written, runs go on without it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from evalsuite import lines
from evalsuite.request import Response

_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer BLOB) WITHOUT ROWID"


_PATIENCE = 30.0
"""Seconds to wait for other processes."""


def _prepare(database: sqlite3.Connection) -> None:
    """Make the file ready; while several processes make it at once, SQLite refuses without waiting."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_TABLE)
            return
        except sqlite3.OperationalError as fault:
            if "locked" not in str(fault) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class AnswerCache:
    """A dictionary from content key to response.

    Args:
        file: the SQLite file; None for a cache that forgets.

    Attributes:
        problem: why it is not working, or empty.
    """

    def __init__(self, file: Path | None) -> None:
        self.problem = ""
        self._database: sqlite3.Connection | None = None
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)
            _prepare(self._database)
        except (OSError, sqlite3.Error) as fault:
            self._give_up(file, fault)

    def get(self, keys: Iterable[str]) -> dict[str, Response]:
        """The known answers among these keys."""
        found: dict[str, Response] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, answer FROM answers WHERE key IN ({marks})"
            for key, answer in self._execute(query, part):
                with contextlib.suppress(msgspec.DecodeError, TypeError):
                    found[key] = lines.decode(answer, Response)  # type: ignore[arg-type]
        return found

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of these keys whose answers are known."""
        wanted, found = list(keys), set[str]()
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            rows = self._execute(f"SELECT key, '' FROM answers WHERE key IN ({marks})", part)
            found.update(key for key, _ in rows)
        return found

    def put(self, answers: dict[str, Response]) -> None:
        """Keep answers, all or none."""
        if self._database is None or not answers:
            return
        rows = [(key, lines.encode(answer)) for key, answer in answers.items()]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as fault:
            self._give_up(None, fault)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _execute(self, query: str, values: list[str]) -> list[tuple[str, Any]]:
        if self._database is None:
            return []
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as fault:
            self._give_up(None, fault)
            return []

    def _give_up(self, file: Path | None, fault: Exception) -> None:
        where = f" ({file})" if file else ""
        self.problem = f"the answer cache is off: {fault}{where}"
        self.close()
