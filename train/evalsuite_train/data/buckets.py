"""Putting scored records into buckets by quality; the worst are dropped."""

from __future__ import annotations

from collections.abc import Iterator

from evalsuite_train.data.record import Dropped, Outcome, Records

HIGH, MIDDLE = 0.6, 0.35


def bucket(records: Records, lowest: float) -> Iterator[Outcome]:
    """Mark each record ``high``, ``middle`` or ``low``; drop those that score below ``lowest``.

    A mixture is read by language and bucket together, so a bucket is the same score in every language.
    """
    for record in records:
        if record.score < lowest:
            yield Dropped(record, "low quality")
            continue
        record.bucket = (
            "high" if record.score >= HIGH else "middle" if record.score >= MIDDLE else "low"
        )
        yield record
