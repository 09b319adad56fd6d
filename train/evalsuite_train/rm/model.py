"""A reward model as a folder and in use: a LLaMA with one output, its own tokenizer and template."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.errors import BadRecipe
from evalsuite_train.generation import PAD
from evalsuite_train.processes import ALONE, Processes
from evalsuite_train.sharding import gathered, inside, read_once
from evalsuite_train.templates import encode_conversation

TEMPLATE = "rm"


class RewardModel:
    """Scores replies from their text: they are always encoded anew, in the model's own way.

    The policy's token ids mean nothing here: the template is another one, and the vocabulary may
    be (Ziya's reward model keeps LLaMA's 32,000 pieces beside a policy of 39,410).

    Attributes:
        model: a ``LlamaForSequenceClassification`` with one label.
        processes: those that score together; every one gets all scores.
        offset, scale: mean and standard deviation of the raw scores of the SFT model's replies.
    """

    def __init__(self, model: Any, tokenizer: Any, processes: Processes = ALONE) -> None:
        self.model, self.tokenizer, self.processes = model, tokenizer, processes
        self.offset = float(getattr(model.config, "reward_offset", 0.0))
        self.scale = float(getattr(model.config, "reward_scale", 1.0))

    @classmethod
    def open(cls, folder: Path, processes: Processes = ALONE) -> RewardModel:
        """Read a folder that the stage ``rm`` wrote, in float32.

        Raises:
            BadRecipe: the folder holds another kind of model.
        """

        tokenizer = load_tokenizer(folder)
        model = read_once(lambda: _read(folder), processes)
        if "ForSequenceClassification" not in str(model.config.architectures):
            raise BadRecipe(
                "not a reward model", where=str(folder), hint="name a section of stage rm"
            )
        return cls(model, tokenizer, processes)

    def encode(self, prompt: str, reply: str) -> list[int]:
        """The ids of a question and a finished reply, EOS last, in this model's template.

        Raises:
            BadData: an empty reply, or one that does not fit the model's context.
        """
        turns = [{"from": "human", "value": prompt}, {"from": "assistant", "value": reply}]
        context = int(self.model.config.max_position_embeddings)
        return encode_conversation(
            self.tokenizer, {"conversations": turns}, TEMPLATE, max_length=context
        ).ids

    def scores(self, asked: Sequence[tuple[str, str]], *, batch: int = 64) -> list[float]:
        """Normalised scores of (prompt, reply) pairs: SFT replies have mean 0 and deviation 1."""
        return [(raw - self.offset) / self.scale for raw in self.raw_scores(asked, batch=batch)]

    def raw_scores(self, asked: Sequence[tuple[str, str]], *, batch: int = 64) -> list[float]:
        """The model's outputs for (prompt, reply) pairs, in their order."""
        encoded = [self.encode(prompt, reply) for prompt, reply in asked]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        own = self.processes.own(order)
        found: list[float] = []
        with torch.no_grad(), gathered(self.model, self.processes) as step:
            for start in range(0, step.most(len(own)), batch):
                rows = [encoded[i] for i in own[start : start + batch]]
                scores = pooled(self.model, rows or [[PAD]]).tolist()  # in step with the others
                found += scores[: len(rows)]
        by_row = dict(zip(order, self.processes.gather(found), strict=True))
        return [by_row[row] for row in range(len(encoded))]


def _read(folder: Path) -> Any:
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
        ).eval()
    except Exception as fault:
        reason = f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''}"
        raise BadRecipe(
            f"the reward model cannot be loaded: {reason[:300]}",
            where=str(folder),
            hint="copy or save it again",
        ) from None


def pooled(
    model: Any, rows: Sequence[Sequence[int]], *, autocast: torch.dtype | None = None
) -> Tensor:
    """Scores (rows,) at each row's last token, as the model's own ``forward`` gives them.

    The backbone may run in a lower precision; the head is float32, since it is small differences
    of scores that are learnt.
    """
    device = next(model.parameters()).device
    lengths = torch.tensor([len(row) for row in rows])
    # A multiple of 8: every new shape costs a CPU another prepared matrix product, which it keeps.
    ids = torch.full((len(rows), -(-int(lengths.max()) // 8) * 8), PAD)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    scores: Tensor = inside(
        model, _pooled, ids.to(device), mask.to(device), (lengths - 1).to(device), autocast
    )
    return scores


def _pooled(
    model: Any, ids: Tensor, mask: Tensor, last: Tensor, autocast: torch.dtype | None
) -> Tensor:
    cast = torch.autocast(ids.device.type, autocast) if autocast else contextlib.nullcontext()
    with cast:
        hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    ends = hidden[torch.arange(len(ids), device=ids.device), last]
    return torch.nn.functional.linear(ends.float(), model.score.weight)[:, 0]


def new_reward_model(parent: Path, own_tokenizer: Path | None, seed: int) -> RewardModel:
    """A reward model with the backbone of ``parent``, its head drawn anew.

    Args:
        own_tokenizer: the folder of another tokenizer than the parent's, such as the one before
            the vocabulary was extended; embedding rows follow their pieces.

    Raises:
        BadRecipe: a piece of that tokenizer is unknown to the parent.
    """
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        str(parent), num_labels=1, pad_token_id=PAD, dtype=torch.float32, local_files_only=True
    ).eval()
    tokenizer = load_tokenizer(own_tokenizer or parent)
    if own_tokenizer is not None:
        _take_rows(model, load_tokenizer(parent), tokenizer, own_tokenizer)
    # N(0, 1/√(d+1)), after Stiennon et al. 2020 and Huang et al. (arXiv 2403.17031, section 3).
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        width = model.config.hidden_size
        model.score.weight.copy_(torch.randn(1, width, generator=generator) / (width + 1) ** 0.5)
    model.config.reward_template = TEMPLATE
    return RewardModel(model, tokenizer)


def _take_rows(model: Any, old: Any, new: Any, folder: Path) -> None:
    """Give ``model`` the embedding of tokenizer ``new``: each piece keeps its row."""
    pieces, known = new.get_vocab(), old.get_vocab()
    missing = sorted(set(pieces) - set(known))
    if missing:
        raise BadRecipe(
            f"{len(missing)} pieces, such as {missing[0]!r}, are unknown to the parent",
            where=str(folder),
            hint="the reward model's tokenizer must be the parent's, or one it was extended from",
        )
    weight = model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(len(pieces), mean_resizing=False)
    rows = torch.tensor([known[piece] for piece, _ in sorted(pieces.items(), key=lambda p: p[1])])
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(weight[rows])
