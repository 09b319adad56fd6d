"""Two processes train a tiny LLaMA with DeepSpeed on the processor, and save what ZeRO saves.

Run as ``zero_training.py OUT``; needs RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Makes
OUT/stage1, OUT/stage2 and OUT/stage3, and in OUT/empty what stage 3 saves without gathering.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import deepspeed
import torch
from transformers import LlamaConfig, LlamaForCausalLM

SETTINGS = {
    "vocab_size": 448,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}


def train(stage: int, out: Path) -> None:
    torch.manual_seed(stage)
    config = LlamaConfig(**SETTINGS, tie_word_embeddings=stage == 1)
    model = LlamaForCausalLM(config)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)  # ZeRO saves frozen ones apart
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
        "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "torch_adam": True}},
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(model=model, config=settings, model_parameters=trained)
    for _ in range(2):
        ids = torch.randint(0, SETTINGS["vocab_size"], (1, 16))
        engine.backward(engine(input_ids=ids, labels=ids).loss)
        engine.step()
    engine.save_checkpoint(str(out / f"stage{stage}"))
    if int(os.environ["RANK"]) == 0:
        config.save_pretrained(out / f"stage{stage}")
        if stage == 3:
            config.save_pretrained(out / "empty")
            state = {name: p.data.clone() for name, p in model.named_parameters()}
            torch.save(state, out / "empty" / "pytorch_model.bin")
    engine.destroy()


if __name__ == "__main__":
    deepspeed.init_distributed("gloo")
    for number in (1, 2, 3):
        train(number, Path(sys.argv[1]))
