"""Tokenizers made by hand, so that every piece of a golden mask can be read and checked by eye."""

from __future__ import annotations

import json
import string

from evalsuite_train.recipe import Recipe
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

WORDS = (
    "human",
    "Human",
    "bot",
    "Bot",
    "User",
    "Assistant",
    "System",
    "YaYi",
    "▁Hi",
    "你好",
    "答案",
    ":5",
)
"""Pieces of more than one character; ``:5`` would join a prompt's last colon with a reply."""


def word_rules() -> tuple[list[str], list[tuple[str, str]]]:
    """The pieces on the way to each word, and the rules that join them, left to right."""
    pieces, rules = [], []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            rule = (word[: end - 1], word[end - 1])
            if rule not in rules:
                rules.append(rule)
                pieces.append(word[:end])
    return pieces, rules


def llama_tokenizer(**changes) -> PreTrainedTokenizerFast:
    """In LLaMA's manner: ``▁`` before a text, byte fallback, one BOS in front."""
    pieces, rules = word_rules()
    characters = sorted(
        set(string.printable.strip()) | set("▁你好答案是再见，。：" + "".join(WORDS))
    )
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    vocabulary += [piece for piece in pieces if piece not in vocabulary]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(vocabulary)},
            merges=rules,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    if changes.pop("adds_bos", True):
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | changes
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **settings
    )


def bloom_tokenizer(special=True, **changes) -> PreTrainedTokenizerFast:
    """In BLOOM's manner, as YaYi has it: bytes, no BOS, YaYi's markers as single tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    markers = ["<|System|>", "<|Human|>", "<|YaYi|>", "<|End|>"]
    settings = {"eos_token": "<|End|>", "pad_token": "<|End|>"} | changes
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **settings
    )
    made.add_tokens(
        [AddedToken(m, normalized=False, special=special) for m in markers], special_tokens=special
    )
    return made


def talk(*turns: str, system: str = "") -> dict:
    """A conversation of questions and replies in turn."""
    said = [
        {"from": ("human", "assistant")[i % 2], "value": value} for i, value in enumerate(turns)
    ]
    return {"system": system, "conversations": said} if system else {"conversations": said}


QUESTIONS = {
    "colour": [
        ("天空是什么颜色？", "蓝色"),
        ("What colour is snow?", "white"),
        ("草是什么颜色？", "绿色"),
        ("血？", "红色"),
    ],
    "count": [
        ("一加一？", "二"),
        ("Two plus two?", "four"),
        ("三加三？", "六"),
        ("五减一是多少？", "四"),
    ],
}
"""Two tasks that a tiny model learns by heart in seconds."""


def write_data(work, copies=6) -> None:
    """sft.jsonl with ``copies`` of each question, and the same questions with rules to be asked."""
    data = work / "data"
    data.mkdir(parents=True, exist_ok=True)
    rows, asked = [], []
    for task, pairs in QUESTIONS.items():
        for number, (question, reply) in enumerate(pairs):
            rows += [{"task": task, **talk(question, reply)}] * copies
            asked.append(
                {
                    "id": f"{task}/{number}",
                    "task": task,
                    "prompt": question,
                    "rules": [{"type": "exactly", "value": reply}],
                    "reference": reply,
                }
            )
    for name, content in (("sft", rows), ("validation", asked), ("prompts", asked)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (data / f"{name}.jsonl").write_text(text, encoding="utf-8")


SETTINGS = {
    "batch": 16,
    "steps": 40,
    "learning_rate": 3e-3,
    "warmup": 2,
    "max_length": 96,
    "max_new_tokens": 8,
    "log_every": 10,
    "spike_threshold": 0,
    "precision": "fp32",
}


def sft_recipe(work, parent, **settings) -> Recipe:
    """A recipe with one section, sft."""
    section = {"parent": str(parent), **SETTINGS, **settings}
    return Recipe("toy", 1, work, ("sft",), {"sft": section}, "toy.yaml")
