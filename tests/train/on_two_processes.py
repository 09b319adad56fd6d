"""Starting a program, or a section of a recipe, on two real processes of this machine, as torchrun does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from free_port import free_port


def run_on_two(*program: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with its arguments, or with ``--no-python`` before it a command."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    return subprocess.run(
        [*command, *map(str, program)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_section_on_two(recipe: Path, section: str) -> subprocess.CompletedProcess[str]:
    """The command as train/README.md gives it."""
    evalsuite_train = Path(sys.executable).with_name("evalsuite-train")
    return run_on_two("--no-python", evalsuite_train, section, "--recipe", recipe)
