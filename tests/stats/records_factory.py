"""Records of one task with a score each, and the metrics that read them."""

from __future__ import annotations

from evalsuite.metrics.metric import Metric
from evalsuite.record import Record

MEAN = Metric("x")
F1 = Metric("x", formula="f1")
MACRO = Metric("x", macro_over="subject")


def records(scores, tags=None, clusters=None):
    return [
        Record(
            task="t",
            sample=f"{i:06}",
            scores={"x": score},
            tags={"subject": tags[i]} if tags is not None else {},
            cluster=str(clusters[i]) if clusters is not None else "",
        )
        for i, score in enumerate(scores)
    ]
