"""The model card of a checkpoint made from human feedback: what was kept, what it can't do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalsuite_train.curves import read_log, shipped_log

TEXT = """---
license: apache-2.0
language: [zh, en]
---

# {name}

{what} Trained from {parent}.

* {steps:,} steps, learning rate {rate:g}; loss {loss:.3f} nats a learnt token at the end.
* Samples: {ledger}.

## Limits

It answers what its parent answers, in the manner of its samples, and is wrong on everything else, often confidently. Loss is on
the training data.

Licence: Apache-2.0. The curve of the training is in `train_log.jsonl`.
"""


def feedback_files(
    name: str, what: str, parent: str, ledger: dict[str, Any], out: Path, *, steps: int, rate: float
) -> dict[str, str]:
    """``README.md`` and ``train_log.jsonl`` for a checkpoint whose section is ``out``.

    Args:
        what: a sentence on the method.
        ledger: what was sampled, kept and dropped; nested counts are written as they are.
    """
    rows = [row for row in read_log(out / "log.jsonl") if "loss" in row]
    counted = ", ".join(
        f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in ledger.items()
    )
    text = TEXT.format(
        name=name,
        what=what,
        parent=parent,
        steps=steps,
        rate=rate,
        loss=rows[-1]["loss"] if rows else float("nan"),
        ledger=counted,
    )
    return {"README.md": text, "train_log.jsonl": shipped_log(out / "log.jsonl")}
