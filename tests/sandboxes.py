"""Whether programs can be isolated on this machine, for tests that run some."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None or Path(sys.prefix).resolve().is_relative_to("/tmp"),
    reason="bubblewrap is not installed, or Python is in /tmp, where programs have their own folder",
)
