"""What a comparison runs on: random LLaMAs of a stated size, and questions shaped like CMMLU's.

Everything is drawn from a seed, so two machines measure the same thing. Texts are strings of pieces
of the shipped ladder's vocabulary: a prefix of five solved questions has some 440 tokens, a question
some 90, a full-text choice some 6.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import yaml

SHIPPED = Path(__file__).resolve().parent.parent / "train" / "checkpoints" / "tiny-pt"
"""Whose tokenizer is used."""

SIZES: dict[str, dict[str, int]] = {
    "5M": {"vocab_size": 8192, "hidden_size": 192, "intermediate_size": 640, "layers": 6},
    "30M": {"vocab_size": 20000, "hidden_size": 512, "intermediate_size": 1408, "layers": 6},
    "120M": {"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2048, "layers": 14},
}
"""Size → shape. Most rows of the vocabulary are padding, as wide as real models' are."""

_HEAD = 64
"""Width of an attention head."""

SHOTS = 5
NEW_TOKENS = 64
LETTERS = "ABCD"

FULL_TASK, TEXT_TASK = "versus_full", "versus_text"

_PLUGIN = '''
"""{name}: written by benchmarks/versus_lm_eval.py."""

from evalsuite import (
    Choose, Chosen, DataSource, Generate, Generated, Metric, Outcome, Prompt, Sample, Sampling, Task,
    TaskMeta, Variant,
)

QUESTION = "题目：{{}}\\n答案："


class Versus(Task):
    meta = TaskMeta(
        name="{name}", title="{name}", description="a benchmark", languages=("zh",),
        domain="knowledge", licence="Apache-2.0", citation="none",
        source=DataSource(layout="questions.jsonl and dev.jsonl", url="https://example.org"),
        main_metric="accuracy", version=1, sample_data="none",
    )
    variants = (Variant("only", num_fewshot={shots}),)
    metrics = (Metric("accuracy"),)

    def samples(self, data):
        return self._read(data, "questions.jsonl")

    def examples(self, data):
        return self._read(data, "dev.jsonl")

    def _read(self, data, name):
        for number, row in data.jsonl(name, ("id", "question", "options", "answer")):
            yield Sample(row["id"], row, row["answer"])

    def request(self, sample, shots, variant):
        solved = (QUESTION.format(s.fields["question"]) + s.fields["options"][s.target] for s in shots)
        prompt = Prompt(
            QUESTION.format(sample.fields["question"]), "".join(f"{{s}}\\n\\n" for s in solved), plain=True
        )
        if "{name}" == "{text}":
            return Generate(prompt, Sampling(max_tokens={new_tokens}, stop=("\\n\\n题目",)))
        return Choose(prompt, tuple(sample.fields["options"]))

    def score(self, sample, response):
        picked = response.picked if isinstance(response, Chosen) else response.text
        return Outcome({{"accuracy": float(picked == sample.target)}}, str(picked))

    def gold(self, sample):
        if "{name}" == "{text}":
            return Generated(sample.fields["options"][sample.target])
        return Chosen(sample.target)


TASK = Versus()
'''


def write_model(folder: Path, size: str, seed: int = 0) -> Path:
    """A LLaMA of random float32 weights with grouped queries left out, and its tokenizer.

    Weights are larger than an initialisation's, so that predictions differ from place to place. Rows
    of the vocabulary that are no token, and the one that ends a text, are zero: they count in every
    sum, but are never the likeliest, so every text has its full length.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if (folder / "config.json").is_file():
        return folder
    shape = dict(SIZES[size])
    torch.manual_seed(seed)
    config = LlamaConfig(
        num_hidden_layers=shape.pop("layers"),
        num_attention_heads=shape["hidden_size"] // _HEAD,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.05,
        **shape,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for file in SHIPPED.glob("tokenizer*"):
        shutil.copyfile(file, folder / file.name)
    model = LlamaForCausalLM(config)
    vocabulary = json.loads((SHIPPED / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = 1 + max(vocabulary["model"]["vocab"].values())
    tokens = max(tokens, *(1 + token["id"] for token in vocabulary["added_tokens"]))
    with torch.no_grad():
        model.get_input_embeddings().weight[tokens:] = 0
        model.get_input_embeddings().weight[config.eos_token_id] = 0
    model.save_pretrained(folder)
    return folder


class Writer:
    """Draws texts of a given number of tokens, about, and questions made of them."""

    def __init__(self, seed: int = 0) -> None:
        vocabulary = json.loads((SHIPPED / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        self._pieces = [p for p in vocabulary["vocab"] if all("一" <= c <= "鿿" for c in p)]
        self._random = random.Random(seed)

    def text(self, tokens: int) -> str:
        """Some ``tokens`` tokens of Chinese characters."""
        return "".join(self._random.choices(self._pieces, k=tokens))

    def question(self, tokens: int, option_tokens: int) -> dict[str, Any]:
        """A question of so many tokens, four different options, and the answer's index."""
        options: list[str] = []
        while len(options) < len(LETTERS):
            option = self.text(option_tokens)
            if option not in options:
                options.append(option)
        answer = self._random.randrange(len(LETTERS))
        return {"question": self.text(tokens), "options": options, "answer": answer}


def write_letters(folder: Path, subjects: list[str], questions: int) -> Path:
    """CMMLU's own layout: dev/SUBJECT.csv and test/SUBJECT.csv, ``questions`` a subject."""
    writer = Writer()
    for split, count in (("dev", SHOTS), ("test", questions)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for subject in subjects:
            with (folder / split / f"{subject}.csv").open("w", encoding="utf-8", newline="") as f:
                rows = csv.writer(f)
                rows.writerow(["", "Question", *LETTERS, "Answer"])
                for number in range(count):
                    drawn = writer.question(38, 5)
                    answer = LETTERS[drawn["answer"]]
                    rows.writerow([number, drawn["question"], *drawn["options"], answer])
    return folder


def write_texts(folder: Path, name: str, questions: int) -> Path:
    """Questions with full-text choices, or to be answered freely, for one of the two plugins."""
    writer = Writer()
    folder.mkdir(parents=True, exist_ok=True)
    for file, count in (("dev", SHOTS), ("questions", questions)):
        rows = [{"id": f"{file}/{at}", **writer.question(72, 6)} for at in range(count)]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{file}.jsonl").write_text(lines, encoding="utf-8")
    source = _PLUGIN.format(name=name, text=TEXT_TASK, shots=SHOTS, new_tokens=NEW_TOKENS)
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    _write_lm_eval_task(folder, name)
    return folder


def _write_lm_eval_task(folder: Path, name: str) -> None:
    """The same questions as lm-eval's own kind of task, with the same prompts to the letter."""
    config: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {
                "dev": str(folder / "dev.jsonl"),
                "test": str(folder / "questions.jsonl"),
            }
        },
        "test_split": "test",
        "fewshot_split": "dev",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": SHOTS,
        "doc_to_text": "题目：{{question}}\n答案：",
        "target_delimiter": "",
        "fewshot_delimiter": "\n\n",
    }
    if name == TEXT_TASK:
        config |= {
            "output_type": "generate_until",
            "doc_to_target": "{{options[answer]}}",
            "generation_kwargs": {
                "until": ["\n\n题目"],
                "max_gen_toks": NEW_TOKENS,
                "do_sample": False,
            },
            "metric_list": [{"metric": "exact_match"}],
        }
    else:
        config |= {
            "output_type": "multiple_choice",
            "doc_to_choice": "{{options}}",
            "doc_to_target": "{{answer}}",
            "metric_list": [{"metric": "acc"}],
        }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
