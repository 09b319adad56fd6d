"""The names that users may rely on. A change here is a change of the version."""

from __future__ import annotations

import subprocess
import sys

import evalsuite

NAMES = [
    "Choose", "Chosen", "DataSource", "EvalsuiteError", "Failure", "Generate", "Generated", "Metric",
    "Outcome", "Prompt", "Record", "RunFrames", "RunManifest", "Sample", "Sampling", "Score",
    "Scored", "Task", "TaskMeta", "Variant", "__version__", "load_run",
]  # fmt: skip


def test_exported_names_are_locked():
    assert sorted(evalsuite.__all__) == NAMES
    for name in NAMES:
        assert getattr(evalsuite, name) is not None


def test_importing_evalsuite_loads_nothing_heavy():
    code = (
        "import sys, evalsuite, evalsuite.cli.main\n"
        "heavy = {'torch', 'transformers', 'pandas', 'scipy', 'numpy', 'sacrebleu', 'jieba'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
