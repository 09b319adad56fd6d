"""The two forward passes of the transformers engine, which the same tests hold to the same numbers."""

from __future__ import annotations

import pytest
import torch
import transformers


@pytest.fixture(scope="module", params=[True, False], ids=["native", "modules"])
def native(request):
    """Whether the engine uses its own forward pass, or transformers' modules."""
    return request.param


@pytest.fixture(scope="module")
def module(checkpoint_path):
    """The checkpoint as transformers has it: what both are compared with."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint_path, dtype=torch.float32
    ).eval()
