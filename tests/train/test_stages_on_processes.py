"""PT, SFT, HFFT and COHFT under ZeRO, DPO under accelerate: two real processes learn what one does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.curves import read_log
from evalsuite_train.errors import TrainError
from evalsuite_train.ladder import run_section
from evalsuite_train.recipe import open_recipe
from on_two_processes import run_section_on_two
from safetensors.torch import load_file
from test_sharding import write_rows

TOGETHER = 4
"""Rows of a step, of all processes."""
TRAINING = {
    "steps": 6,
    "warmup": 1,
    "learning_rate": 1e-3,
    "precision": "fp32",
    "device": "cpu",
    "save_every": 3,
    "log_every": 1,
    "peak_tflops": 1.0,
}
SECTIONS = {
    "pt": ("zero3.json", {"data": "pt.jsonl", "length": 32}),
    "sft": ("zero3.json", {"data": "sft.jsonl", "validation": None, "training": None}),
    "sft-lora": (
        "zero2.json",
        {
            "data": "sft.jsonl",
            "validation": None,
            "training": None,
            "method": "lora",
            "steps": 0,
            "epochs": 1.5,
        },
    ),
    "sft-stages": (
        "zero2.json",
        {"data": "sft.jsonl", "validation": None, "training": None, "stages": 2},
    ),
    "hfft": (
        "zero3.json",
        {"prompts": "prompts.jsonl", "data": "sft.jsonl", "samples": 2, "max_new_tokens": 12},
    ),
    "cohft": ("zero2.json", {"data": "preferences.jsonl", "pt": "pt.jsonl", "sft": "sft.jsonl"}),
    "dpo": (None, {"data": "preferences.jsonl"}),
}


@pytest.fixture(scope="module")
def folder(checkpoint_path, tmp_path_factory):
    """Data of every stage, and a recipe of one process and of two whose steps hold the same rows."""
    pytest.importorskip("deepspeed")
    folder = tmp_path_factory.mktemp("stages")
    rule = {"type": "max_characters", "value": 40}
    asked = [f"说{i}句话" for i in range(16)]
    rows = {
        "pt": [{"text": f"今天天气很好，有{i}个人。"} for i in range(60)],
        "sft": [
            {
                "task": "chat" if i % 2 else "sums",
                "conversations": [
                    {"from": "human", "value": f"你好，{i}"},
                    {"from": "assistant", "value": f"好，{i}。"},
                ],
            }
            for i in range(16)
        ],
        "prompts": [
            {"id": f"q{i}", "task": "wishes", "prompt": text, "rules": [rule]}
            for i, text in enumerate(asked)
        ],
        "preferences": [
            {"task": "wishes", "prompt": text, "chosen": "好的，请说。", "rejected": "不"}
            for text in asked
        ],
    }
    load_tokenizer(checkpoint_path).save_pretrained(folder / "tokenizer")
    for name, content in rows.items():
        write_rows(folder / f"{name}.jsonl", content)
    for name, processes in (("one", 1), ("two", 2)):
        sections = {}
        for section, (zero, own) in SECTIONS.items():
            values = {"stage": section.partition("-")[0], **TRAINING, **own}
            values["parent"] = str(checkpoint_path)
            if section == "pt":
                values["tokenizer"] = str(folder / "tokenizer")
            else:
                values["max_length"] = 128
            for key in ("data", "prompts", "pt", "sft"):
                if key in own:
                    values[key] = str(folder / own[key])
            values |= {"batch": TOGETHER // 2, "accumulation": 2 // processes}
            if processes > 1 and zero:
                values["zero"] = zero
            if section == "dpo":
                del values["peak_tflops"]
            sections[section] = values
        content = {"name": "toy", "seed": 1, "work": str(folder / name), **sections}
        (folder / f"{name}.yaml").write_text(json.dumps(content))
    return folder


def losses(folder: Path) -> list[float]:
    """Of every step, as the stage logged them; the checkpoint carries the log but for trl's stages."""
    shipped = folder / "checkpoint" / "train_log.jsonl"
    rows = read_log(shipped if shipped.is_file() else folder / "log.jsonl")
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.slow
@pytest.mark.parametrize("section", list(SECTIONS))
def test_a_stage_on_two_processes_learns_what_one_does(folder, section):
    one, two = (open_recipe(str(folder / f"{name}.yaml")) for name in ("one", "two"))
    run_section(one, section)
    if section == "hfft":  # its replies are sampled by one process
        refused = run_section_on_two(folder / "two.yaml", section)
        assert "run this section once without torchrun until it trains" in refused.stderr
        with pytest.raises(TrainError, match="zero is for several processes"):
            run_section(two, section)
    done = run_section_on_two(folder / "two.yaml", section)
    assert done.returncode == 0, done.stderr[-3000:]
    if section == "sft-stages":
        assert "stage 1 of 2 is written; run the same again" in done.stdout
        done = run_section_on_two(folder / "two.yaml", section)
        assert done.returncode == 0, done.stderr[-3000:]
    places = [recipe.folder(section) for recipe in (one, two)]
    logs = [losses(place) for place in places]
    assert len(logs[0]) == TRAINING["steps"]
    assert logs[0] == pytest.approx(logs[1], rel=1e-3)
    weights = [load_file(place / "checkpoint" / "model.safetensors") for place in places]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():  # written as bfloat16: its last bit may differ
        torch.testing.assert_close(weights[1][name].float(), tensor.float(), rtol=2**-7, atol=2e-4)
