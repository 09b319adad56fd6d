"""``precision: auto``: bfloat16 where it is fast, float32 elsewhere, a named format as it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from evalsuite_train import precision
from evalsuite_train.alternatives.dpo import Config as DpoConfig
from evalsuite_train.cohft import Config as CohftConfig
from evalsuite_train.hfft import Config as HfftConfig
from evalsuite_train.ppo.config import Config as PpoConfig
from evalsuite_train.pt.stage import Config as PtConfig
from evalsuite_train.rm.config import Config as RmConfig
from evalsuite_train.sft.config import Config as SftConfig

NEEDED = {"steps": 1, "learning_rate": 1e-3}
STAGES = [
    partial(PtConfig, **NEEDED),
    partial(SftConfig, **NEEDED),
    RmConfig,
    partial(HfftConfig, **NEEDED),
    partial(CohftConfig, **NEEDED),
    PpoConfig,
    DpoConfig,
]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_the_processor_multiplies_fast(
    stage: Callable, fast: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_fast_on_the_cpu", lambda: fast)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert stage().precision == expected


@pytest.mark.parametrize("stage", STAGES)
def test_a_format_that_is_named_stays(stage: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_fast_on_the_cpu", lambda: False)
    assert stage(precision="bf16").precision == "bf16"


@pytest.mark.parametrize("capable", [True, False])
def test_a_gpu_is_asked_unless_the_cpu_is_named(
    capable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: capable)
    monkeypatch.setattr(precision, "_fast_on_the_cpu", lambda: not capable)
    assert PpoConfig().precision == ("bf16" if capable else "fp32")
    assert PpoConfig(device="cpu").precision == ("fp32" if capable else "bf16")
