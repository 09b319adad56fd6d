"""Checkpoints that tests share: tiny LLaMAs with random weights and a real tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoint_factory import write_tokenizer, write_weights
from hypothesis import settings


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Benchmarks measure and do not test: they are collected with --benchmark-only alone."""
    measured = config.getoption("benchmark_only", default=False)
    return True if collection_path.parent.name == "benchmarks" and not measured else None


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Archives hold the time they were made at, and workers that collect a second apart must agree."""
    return f"{argname}-{len(val)}-bytes" if isinstance(val, bytes) and len(val) > 40 else None


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory) -> Path:
    """A tiny LLaMA checkpoint: 256 tokens of context, 420 tokens in 448 rows."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    write_tokenizer(folder)
    write_weights(folder, seed=1)
    return folder


@pytest.fixture(scope="session")
def other_checkpoint_path(tmp_path_factory) -> Path:
    """The same with other weights."""
    folder = tmp_path_factory.mktemp("checkpoints") / "other"
    write_tokenizer(folder)
    write_weights(folder, seed=2)
    return folder


@pytest.fixture(scope="session")
def roomy_checkpoint_path(tmp_path_factory) -> Path:
    """The same with room for every sample prompt: 8,192 tokens of context."""
    folder = tmp_path_factory.mktemp("checkpoints") / "roomy"
    write_tokenizer(folder)
    write_weights(folder, seed=3, max_position_embeddings=8192)
    return folder


# How long an example takes depends on what else the machine does; a hang is caught by other means.
settings.register_profile("evalsuite", deadline=None)
# The same examples every time, so that a verdict is about a change; other runs look further.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("evalsuite")
