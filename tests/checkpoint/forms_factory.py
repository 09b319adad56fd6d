"""Tiny LLaMAs in several forms, and their logits by transformers itself."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
from checkpoint_factory import write_tokenizer, write_weights


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A cache of its own for one test."""
    folder = tmp_path / "home"
    monkeypatch.setenv("EVALSUITE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A base in float16."""
    return write_model(tmp_path_factory.mktemp("forms") / "base", seed=11, dtype="float16")


@pytest.fixture(scope="session")
def target(base, tmp_path_factory):
    """What was trained from it."""
    return nudged(base, tmp_path_factory.mktemp("forms") / "target")


TASKS = Path(__file__).parent.parent.parent / "tasks"
TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
IDS = [[1, 17, 300, 5, 9, 411, 88, 2, 63, 120, 7]]


def write_model(folder: Path, seed: int, dtype: str = "float32", shard: str = "1GB", **changes):
    """A tiny LLaMA with its tokenizer; returns the folder."""
    write_tokenizer(folder)
    write_weights(folder, seed, **TINY | changes)
    if dtype != "float32" or shard != "1GB":
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from transformers import AutoModelForCausalLM

            model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
            for file in folder.glob("model*.safetensors*"):
                file.unlink()
            model.save_pretrained(folder, max_shard_size=shard)
    return folder


def nudged(source: Path, folder: Path, seed: int = 7, scale: float = 1e-3):
    """A copy whose every weight moved a little, as training moves them; the same dtype."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    generator = torch.Generator().manual_seed(seed)
    for file in folder.glob("model*.safetensors"):
        moved = {
            name: (t.float() + scale * torch.randn(t.shape, generator=generator)).to(t.dtype)
            for name, t in load_file(file).items()
        }
        save_file(moved, file, metadata={"format": "pt"})
    return folder


def logits(folder: Path):
    """What transformers computes from a plain folder, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits


def state(folder: Path):
    """Every tensor of a plain folder, by safetensors itself."""
    from safetensors.torch import load_file

    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def same_bits(one, other) -> bool:
    """Names, dtypes, shapes and bits are equal."""
    import torch

    return one.keys() == other.keys() and all(
        one[n].dtype == other[n].dtype
        and one[n].shape == other[n].shape
        and torch.equal(
            one[n].reshape(-1).view(torch.uint8), other[n].reshape(-1).view(torch.uint8)
        )
        for n in one
    )
