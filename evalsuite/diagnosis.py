"""What of evalsuite works on this machine, found out by trying."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from evalsuite.files import home

State = Literal["works", "absent", "broken"]


class Finding(msgspec.Struct, frozen=True):
    """One part: ``works``, ``absent`` (optional and not installed) or ``broken`` (needed)."""

    part: str
    state: State
    detail: str
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Try every part once; nothing here raises."""
    probes: list[Callable[[], Finding]] = [
        _transformers,
        _gpu,
        _vllm,
        _openai,
        _sandbox,
        _browser,
        _cache,
        _tasks,
        _fetched,
    ]
    findings = []
    for probe in probes:
        try:
            findings.append(probe())
        except Exception as fault:
            part = probe.__name__.removeprefix("_")
            findings.append(Finding(part, "broken", f"{type(fault).__name__}: {fault}"))
    return findings


def _transformers() -> Finding:
    import torch
    import transformers

    product = (torch.eye(8) @ torch.ones(8, 8)).sum().item()
    detail = f"transformers {transformers.__version__}, torch {torch.__version__}"
    if product != 64:
        return Finding("engine transformers", "broken", detail, "reinstall torch")
    return Finding("engine transformers", "works", detail)


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "GPU", "absent", "no CUDA device seen by torch; the CPU is used", "install a CUDA torch"
        )
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("GPU", "works", ", ".join(names))


def _vllm() -> Finding:
    from evalsuite.engines._vllm_installation import installed
    from evalsuite.errors import EngineUnavailable

    try:
        version, cpu = installed()
    except EngineUnavailable as fault:
        return Finding("engine vllm", "absent", fault.what, fault.hint)
    return Finding("engine vllm", "works", f"{version}, for {'processors' if cpu else 'GPUs'}")


def _openai() -> Finding:
    return _package("judge and servers", "openai", "pip install 'evalsuite[openai]'")


def _package(part: str, package: str, remedy: str) -> Finding:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(part, "absent", f"{package} is not installed", remedy)
    return Finding(part, "works", f"{package} {version} is installed")


def _sandbox() -> Finding:
    from evalsuite.errors import SandboxUnavailable
    from evalsuite.sandbox import open_sandbox

    try:
        with open_sandbox(workers=1) as sandbox:
            return Finding("sandbox", "works", f"a program tried to get out: {sandbox.description}")
    except SandboxUnavailable as fault:
        remedy = "install bubblewrap (Debian: apt install bubblewrap) and allow user namespaces"
        return Finding("sandbox", "absent", fault.what, f"{remedy}; only code tasks need it")


def _browser() -> Finding:
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        remedy = "install chromium; only the tests of the pages need it"
        return Finding("browser", "absent", "no Chromium", remedy)
    return Finding("browser", "works", found)


def _cache() -> Finding:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as fault:
        remedy = "set EVALSUITE_HOME to a folder that you may write to"
        return Finding("cache", "broken", f"{folder}: {fault.strerror}", remedy)
    file = folder / "answers.sqlite"
    count = 0
    if file.is_file():
        source = f"{file.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(source, uri=True)) as database:
            count = database.execute("SELECT count(*) FROM answers").fetchone()[0]
    free = shutil.disk_usage(folder).free / 2**30
    return Finding("cache", "works", f"{folder}, {count} answers, {free:.0f} GiB free")


def _tasks() -> Finding:
    from evalsuite.registry import load_task, task_names

    names = task_names()
    for name in names:
        load_task(name)
    return Finding("tasks", "works", f"{len(names)}: {', '.join(names)}")


def _fetched() -> Finding:
    folders = sorted(p.parent.name for p in (home() / "data").glob("*/source.json"))
    if not folders:
        remedy = "evalsuite fetch TASK, or --data TASK=PATH; the sample sets need nothing"
        return Finding("real data", "absent", "none fetched", remedy)
    offline = " (offline mode)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return Finding(
        "real data", "works", f"{', '.join(folders)} in {Path(home() / 'data')}{offline}"
    )
