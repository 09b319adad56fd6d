"""Direct preference optimisation (DPO; Rafailov et al., arXiv 2305.18290) through trl.

Neither a reward model nor sampling: the pairs themselves say what is better, and the policy's own
log-probabilities against the reference's are the reward.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from evalsuite_train.alternatives.training import (
    Settings,
    arguments,
    claim,
    configurations,
    open_tokenizer,
    seed_of,
    train,
    write,
)
from evalsuite_train.errors import BadData
from evalsuite_train.files import write_whole
from evalsuite_train.model import load_model
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.pairs import Pair, read_pairs
from evalsuite_train.sft.parent import load_parent
from evalsuite_train.templates import Unusable, encode_conversation, encode_prompt


class Config(Settings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of DPO.

    Attributes:
        data: preference pairs.
        beta: how dear it is to leave the reference.
        max_length: of a question and its reply; a longer pair is left out, never cut.
    """

    data: str = "data/preferences.jsonl"
    beta: float = 0.1
    max_length: int = 256


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Train on the pairs; writes ``ledger.json``, ``log.jsonl`` and the checkpoint."""
    parent = recipe.parent(config.parent)
    tokenizer = open_tokenizer(parent)
    rows, ledger = encoded_pairs(tokenizer, read_pairs(recipe.file(config.data)), config)
    write_whole(out / "ledger.json", json.dumps(ledger, indent=2) + "\n")
    if not rows:
        raise BadData(f"no pair can be learnt from: {ledger['dropped']}", where=config.data)
    claim(config, recipe, out, rows)
    model = load_parent(parent, len(tokenizer), config.max_length)
    original = configurations(model)
    trainer = make_trainer(
        model, load_model(parent), tokenizer, rows, config, out, seed_of(recipe, out)
    )
    step = train(trainer, out)
    write(trainer, model, original, config, recipe, out, step=step)


def make_trainer(
    model: Any,
    reference: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    config: Config,
    out: Path,
    seed: int,
) -> DPOTrainer:
    """trl's trainer over rows of :func:`encoded_pairs`."""
    return DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            **arguments(config, out, seed), beta=config.beta, loss_type=["sigmoid"], max_length=None
        ),
        data_collator=_Collator(tokenizer.pad_token_id),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def encoded_pairs(
    tokenizer: Any, pairs: Sequence[Pair], config: Config
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Question, better and worse reply as ids in the template of training, and the ledger.

    trl would tokenize the joined text itself, with another template and, where a text holds the
    name of a control token, with that token; so it gets ids.
    """
    rows = []
    dropped: Counter[str] = Counter()
    for pair in pairs:
        try:
            asked = encode_prompt(tokenizer, pair.prompt, config.template)
            good, bad = (
                _reply(tokenizer, pair.prompt, said, asked, config)
                for said in (pair.chosen, pair.rejected)
            )
        except Unusable as fault:
            dropped[fault.reason] += 1
            continue
        ids = {"asked_ids": asked, "good_ids": good, "bad_ids": bad}
        # trl looks at these three whatever the collator reads.
        rows.append(
            {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, **ids}
        )
    ledger = {"pairs": len(pairs), "kept": len(rows), "dropped": dict(sorted(dropped.items()))}
    return rows, ledger


def _reply(tokenizer: Any, prompt: str, reply: str, asked: list[int], config: Config) -> list[int]:
    """The reply's ids with its EOS, where they follow the question's."""
    turns = [{"from": "human", "value": prompt}, {"from": "assistant", "value": reply}]
    ids = encode_conversation(
        tokenizer, {"conversations": turns}, config.template, max_length=config.max_length
    ).ids
    return ids[len(asked) :]


class _Collator:
    """trl's own collator, over the ids from :func:`encoded_pairs`."""

    def __init__(self, pad: int) -> None:
        self._collate = DataCollatorForPreference(pad_token_id=pad)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        named = (
            ("prompt_ids", "asked_ids"),
            ("chosen_ids", "good_ids"),
            ("rejected_ids", "bad_ids"),
        )
        batch: dict[str, Any] = self._collate([{to: row[of] for to, of in named} for row in rows])
        return batch
