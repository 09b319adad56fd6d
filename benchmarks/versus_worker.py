"""lm-eval's own command line in a process of its own, with a stopwatch.

    python benchmarks/versus_worker.py MARK.json ARGUMENTS OF lm-eval…

Writes down how long it took until the model was first asked anything, as ``run.json`` says it of
evalsuite.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalsuite.clock import now, process_start


def main() -> None:
    """Run lm-eval, and note the first forward pass on the way."""
    mark = Path(sys.argv[1])
    sys.argv = ["lm-eval", *sys.argv[2:]]
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.models.huggingface import HFLM

    for name in ("_model_call", "_model_generate"):
        setattr(HFLM, name, _noted(getattr(HFLM, name), mark))
    cli_evaluate()


def _noted(method: Callable[..., Any], mark: Path) -> Callable[..., Any]:
    """The method, which writes ``mark`` when it is called for the first time."""

    def noted(*arguments: Any, **named: Any) -> Any:
        if not mark.exists():
            begun, called = process_start(), now()
            mark.write_text(
                json.dumps({"wall": called.wall - begun.wall, "cpu": called.cpu - begun.cpu})
            )
        return method(*arguments, **named)

    return noted


if __name__ == "__main__":
    main()
