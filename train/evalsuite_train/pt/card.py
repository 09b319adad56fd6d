"""The model card of a PT checkpoint: what it is, what it was trained on, what it can't do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalsuite_train.curves import read_log
from evalsuite_train.model import count_parameters
from evalsuite_train.packing import Packed

TEXT = """---
license: apache-2.0
language: [zh, en]
---

# {name}

A Chinese–English language model, {origin}. It continues text; it was not taught to follow instructions.

* {parameters:,} parameters: {kind}, {layers} layers, width {width}, {rows:,} embedding rows, context {context:,} (trained on rows of {length}).
* {steps:,} steps, {learnt:,} learnt tokens ({epochs:.2f} epochs).
* At the end: loss {loss:.3f} nats a token, next-token accuracy {accuracy:.3f}, over the last {over} logged steps.{spikes}

## Data

{documents:,} documents, {tokens:,} tokens, from `{data}` (content key `{key}`). Every document begins with `<s>` and ends with `</s>`.

## Limits

It repeats the patterns of its data, is wrong on everything else, often confidently, and has had no safety training. Loss and
accuracy above are on the training data, not on held-out text.

Licence: Apache-2.0. The curve of the training is in `train_log.jsonl`.
"""


def card(
    *, name: str, model: Any, packed: Packed, data: str, parent: str | None, log: Path, length: int
) -> str:
    """``README.md`` of a PT checkpoint, with its numbers from the log and the packed documents."""
    rows = read_log(log)
    measured = [row for row in rows if "loss" in row]
    tail = measured[-5:]
    weights = [row["tokens"] - before for row, before in zip(tail, _before(measured), strict=True)]
    spikes = sum(row.get("event") == "spike" for row in rows)
    shape = model.config
    learnt = measured[-1]["tokens"]
    return TEXT.format(
        name=name,
        origin=f"trained further from {parent}" if parent else "trained from scratch",
        parameters=count_parameters(model),
        kind=shape.model_type,
        layers=shape.num_hidden_layers,
        width=shape.hidden_size,
        rows=shape.vocab_size,
        context=shape.max_position_embeddings,
        length=length,
        steps=measured[-1]["step"],
        learnt=learnt,
        epochs=learnt / max(1, packed.learnt),
        loss=_mean([row["loss"] for row in tail], weights),
        accuracy=_mean([row["accuracy"] for row in tail], weights),
        over=measured[-1]["step"] - (measured[-6]["step"] if len(measured) > 5 else 0),
        spikes=f"\n* {spikes} loss spikes were rolled back." if spikes else "",
        documents=len(packed),
        tokens=int(packed.offsets[-1]),
        data=Path(data).name,
        key=packed.key,
    )


def _before(measured: list[dict[str, Any]]) -> list[int]:
    tokens = [0, *(row["tokens"] for row in measured)]
    return tokens[max(0, len(tokens) - 6) : -1]


def _mean(values: list[float], weights: list[int]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / max(1, sum(weights))
