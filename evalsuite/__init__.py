"""evalsuite: is this checkpoint better, worse or the same as that one, and how sure are we?

The names below are the public API. They are imported when first used, so that ``import evalsuite``
and the command line start at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from evalsuite.errors import EvalsuiteError as EvalsuiteError
    from evalsuite.frames import RunFrames as RunFrames
    from evalsuite.frames import load_run as load_run
    from evalsuite.metrics.metric import Metric as Metric
    from evalsuite.record import Record as Record
    from evalsuite.record import RunManifest as RunManifest
    from evalsuite.request import Choose as Choose
    from evalsuite.request import Chosen as Chosen
    from evalsuite.request import Failure as Failure
    from evalsuite.request import Generate as Generate
    from evalsuite.request import Generated as Generated
    from evalsuite.request import Prompt as Prompt
    from evalsuite.request import Sampling as Sampling
    from evalsuite.request import Score as Score
    from evalsuite.request import Scored as Scored
    from evalsuite.task import DataSource as DataSource
    from evalsuite.task import Outcome as Outcome
    from evalsuite.task import Sample as Sample
    from evalsuite.task import Task as Task
    from evalsuite.task import TaskMeta as TaskMeta
    from evalsuite.task import Variant as Variant

_HOMES = {
    "EvalsuiteError": "errors",
    "RunFrames": "frames",
    "load_run": "frames",
    "Metric": "metrics.metric",
    "Record": "record",
    "RunManifest": "record",
    "Choose": "request",
    "Chosen": "request",
    "Failure": "request",
    "Generate": "request",
    "Generated": "request",
    "Prompt": "request",
    "Sampling": "request",
    "Score": "request",
    "Scored": "request",
    "DataSource": "task",
    "Outcome": "task",
    "Sample": "task",
    "Task": "task",
    "TaskMeta": "task",
    "Variant": "task",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evalsuite' has no attribute {name!r}")
    return getattr(importlib.import_module(f"evalsuite.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
