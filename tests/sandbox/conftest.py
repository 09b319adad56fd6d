"""The sandbox that the tests of this folder share, and the host that they watch."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from corpus import LIMITS

from evalsuite.sandbox import open_sandbox


@pytest.fixture(scope="session", autouse=True)
def outside_tmp():
    if Path(sys.prefix).resolve().is_relative_to("/tmp"):
        pytest.skip("Python is in /tmp, where programs have a folder of their own")


@pytest.fixture(scope="session")
def bubblewrap():
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")


@pytest.fixture(scope="session")
def sandbox(bubblewrap):
    with open_sandbox(limits=LIMITS, workers=2) as opened:
        yield opened
