"""Where programs that a model wrote are run and judged."""

from evalsuite.sandbox.pool import Batch, Kind, Sandbox, open_sandbox
from evalsuite.sandbox.program import Limits, Outcome, Program, Verdict

__all__ = ["Batch", "Kind", "Limits", "Outcome", "Program", "Sandbox", "Verdict", "open_sandbox"]
