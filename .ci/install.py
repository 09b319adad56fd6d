"""Make a virtual environment and install evalsuite and evalsuite-train into it with pinned versions.

Usage: python .ci/install.py FOLDER [EXTRA,…]   (extras: test,train by default)

Where there is no NVIDIA GPU, the small CPU build of torch is taken rather than gigabytes of CUDA.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CONSTRAINTS = HERE / "constraints.txt"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> None:
    """Create the environment, then torch, then everything else."""
    if sys.version_info < (3, 11):  # noqa: UP036  (this file runs before anything is installed)
        sys.exit(f"evalsuite needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".venv")
    extras = sys.argv[2] if len(sys.argv) > 2 else "test,train"
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True, symlinks=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    install_torch(pip)
    print("installing evalsuite and its dependencies", flush=True)
    run(
        [
            *pip,
            "install",
            "--quiet",
            "-c",
            str(CONSTRAINTS),
            "-e",
            f"{HERE}[{extras}]",
            "-e",
            str(HERE / "train"),
        ]
    )


def install_torch(pip: list[str]) -> None:
    pins = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    wanted = next(line for line in pins if line.startswith("torch=="))
    if subprocess.run([*pip, "show", "torch"], capture_output=True, check=False).returncode == 0:
        return
    print(f"installing {wanted}", flush=True)
    if shutil.which("nvidia-smi") is None and sys.platform == "linux":
        for source in ([], ["--index-url", TORCH_CPU_INDEX]):
            install = [*pip, "install", "--quiet", *source, f"{wanted}+cpu"]
            if subprocess.run(install, capture_output=True, check=False).returncode == 0:
                return
        print("the CPU build was not found; taking the default one", flush=True)
    run([*pip, "install", "--quiet", wanted])


def run(command: list[str]) -> None:
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
