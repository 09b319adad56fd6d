"""A run as pandas DataFrames, and as Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from evalsuite import lines
from evalsuite.files import writing
from evalsuite.record import Interval, Record, RunManifest
from evalsuite.request import Chosen, Generated, Scored
from evalsuite.store import open_run

if TYPE_CHECKING:
    import pandas as pd


class RunFrames(msgspec.Struct, frozen=True):
    """A run in memory.

    Attributes:
        records: one row a sample: task, sample, ``tag.NAME``…, prefix, prompt, target, output, answer,
            finish_reason, prompt_tokens, output_tokens, logprobs, error, cached, ``score.NAME``….
        scores: one row a task, metric and group: task, metric, tag, group (both empty for the
            whole task), value, low, high, n. Fractions in 0..1, points as they are.
        prefixes: ``prefix`` of a record → the text before its ``prompt``: instruction and examples.
    """

    manifest: RunManifest
    records: pd.DataFrame
    scores: pd.DataFrame
    prefixes: dict[str, str] = {}

    def to_parquet(self, folder: Path | str) -> list[Path]:
        """Write ``records.parquet`` and ``scores.parquet``; raises :class:`CannotWrite`."""
        target = Path(folder)
        written = []
        with writing(target):
            target.mkdir(parents=True, exist_ok=True)
            for name, frame in (("records", self.records), ("scores", self.scores)):
                file = target / f"{name}.parquet"
                scratch = target / f".{name}.parquet.new"
                frame.to_parquet(scratch, index=False)
                scratch.replace(file)
                written.append(file)
        return written


def load_run(path: Path | str) -> RunFrames:
    """Load a run's records and scores.

    Lone surrogates, which neither Arrow nor UTF-8 can hold, are shown as ``\\udXXX``.

    Raises:
        DataMissing: no run there.
        RunDamaged: its files cannot be read.
    """
    import pandas as pd

    run = open_run(path)
    records = pd.DataFrame(_alike([_row(record) for record in run.records()]))
    scores = pd.DataFrame(_score_rows(run.manifest))
    return RunFrames(run.manifest, records, scores, run.prefixes())


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"task": record.task, "sample": _safe(record.sample)}
    row |= {f"tag.{tag}": _safe(value) for tag, value in record.tags.items()}
    row["prefix"] = record.prefix
    row |= {"prompt": _safe(record.prompt), "target": _safe(_text(record.target))}
    row |= _response(record)
    row["answer"] = None if record.answer is None else _safe(record.answer)
    row["error"] = record.error.code if record.error else None
    row["cached"] = record.cached
    row |= {f"score.{name}": value for name, value in record.scores.items()}
    return row


def _alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in which each score is a number everywhere or its statistics everywhere.

    A column of a Parquet file has one type; a plain number v stands for the statistics ``[v, 1]``.
    """
    statistics = {
        name
        for row in rows
        for name, value in row.items()
        if name.startswith("score.") and isinstance(value, list)
    }
    for row in rows:
        for name in statistics & row.keys():
            if not isinstance(row[name], list):
                row[name] = [row[name], 1.0]
    return rows


def _response(record: Record) -> dict[str, Any]:
    response = record.response
    row: dict[str, Any] = {"output": None, "finish_reason": None, "prompt_tokens": None}
    row["output_tokens"] = None
    row["logprobs"] = None
    if response is not None:
        row["prompt_tokens"] = response.prompt_tokens
    if isinstance(response, Generated):
        row["output"] = _safe(response.text)
        row["finish_reason"] = response.finish_reason
        row["output_tokens"] = len(response.token_ids)
    elif isinstance(response, Chosen):
        row["output"] = None if response.picked is None else str(response.picked)
        row["logprobs"] = list(response.logprobs)
    elif isinstance(response, Scored):
        row["logprobs"] = [response.logprob]
    return row


def _score_rows(manifest: RunManifest) -> list[dict[str, Any]]:
    rows = []
    for task, result in manifest.results.items():
        for metric, interval in result.metrics.items():
            rows.append(_score_row(task, metric, "", "", interval))
        for metric, tags in result.by_tag.items():
            for tag, groups in tags.items():
                rows += [_score_row(task, metric, tag, g, i) for g, i in groups.items()]
    return rows


def _score_row(task: str, metric: str, tag: str, group: str, i: Interval) -> dict[str, Any]:
    place = {"task": task, "metric": metric, "tag": tag, "group": _safe(group)}
    return place | {"value": i.value, "low": i.low, "high": i.high, "n": i.n}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else lines.encode(value).decode()


def _safe(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
