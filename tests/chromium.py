"""Chromium without a window, a network of its own, or anything it remembers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-sync", "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


def command(profile: Path, *arguments: str) -> list[str]:
    """The command line of a Chromium with a profile of its own."""
    return [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *arguments]


def dom(address: str, profile: Path) -> str:
    """The document as it stands after its scripts have run."""
    done = subprocess.run(
        command(profile, "--dump-dom", address), capture_output=True, timeout=120, check=True
    )
    return done.stdout.decode("utf-8")
