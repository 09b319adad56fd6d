"""The process that measures one configuration in one round: ``python -m evalsuite.bench.worker``.

A job comes as one line of JSON on standard input, its answer goes to standard output. When standard
input ends, whoever asked is gone, and so is the worker.
"""

from __future__ import annotations

import os
import sys
import threading

from evalsuite import lines
from evalsuite.bench.measuring import measure
from evalsuite.bench.sample import Answer, Job
from evalsuite.errors import EvalsuiteError


def _leave_when_alone() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Read the job, measure, write the answer."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    job = lines.decode(sys.stdin.buffer.readline(), Job)
    threading.Thread(target=_leave_when_alone, daemon=True).start()
    try:
        answer = Answer(round=measure(job))
    except EvalsuiteError as fault:
        answer = Answer(error=fault.one_line(), exit_code=fault.exit_code)
    answers.write(lines.encode(answer))
    answers.close()


if __name__ == "__main__":
    main()
