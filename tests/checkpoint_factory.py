"""Tiny LLaMAs with random weights and a real tokenizer, written to folders."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

SENTENCES = (
    "今天天气很好，我们去公园散步。",
    "以下是关于农学的单项选择题，请直接给出正确答案的选项。",
    "题目：水稻的起源地是哪里？\nA. 中国\nB. 印度\nC. 埃及\nD. 希腊\n答案是：A",
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "Question: What is 2 + 3?\nAnswer: The answer is 5.\n\n",
    "User: 你好\nBot: 你好，有什么可以帮你？",
)
VOCABULARY = 420
ROWS = 448
"""Rows of the embedding, a multiple of 64 as in training: more than there are tokens."""

CONTEXT = 256


def write_tokenizer(folder: Path) -> None:
    """A SentencePiece BPE tokenizer with byte fallback, trained here, with LLaMA's settings."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 10),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.98,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        minloglevel=2,
        num_threads=1,
    )
    (folder / "tokenizer.vocab").unlink()
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_weights(folder: Path, seed: int, **changes) -> None:
    """A LLaMA of two layers with grouped-query attention, float32 safetensors.

    Weights are larger than an initialisation's, so that predictions differ from place to place.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
    settings = {
        "vocab_size": ROWS,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.2,
    }
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**settings | changes)).save_pretrained(folder)
    torch.set_rng_state(state)
