"""The device of a recipe, found in one place."""

from __future__ import annotations

import pytest
import torch
from evalsuite_train.errors import BadRecipe
from evalsuite_train.processes import device_of, join


@pytest.mark.parametrize("name", ["banana", "", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_here_is_named(name):
    with pytest.raises(BadRecipe, match=f"device: no device '{name}' here\n  hint: ."):
        join(name)


def test_each_process_has_its_own_device(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "77")
    with pytest.raises(BadRecipe, match="no device 'cuda:77' here"):
        device_of("cuda")
    assert device_of("cpu") == torch.device("cpu")
