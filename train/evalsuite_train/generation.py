"""Replies from a causal language model, many prompts at once, with a key–value cache."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from evalsuite_train.errors import Diverged, TrainError
from evalsuite_train.processes import ALONE, Processes
from evalsuite_train.sharding import gathered

PAD = 0
"""Fills rows; never EOS, or a row's own end could not be told from filling. Lengths decide, not ids."""


class Reply(NamedTuple):
    """One generated reply.

    Attributes:
        ids: its tokens, without EOS.
        finished: whether the model ended it with EOS; False means cut off at the limit.
        logprobs: log-probability of each token at the temperature used, EOS's last if finished.
    """

    ids: list[int]
    finished: bool
    logprobs: list[float]


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    seed: int = 0,
    eos: int = 2,
    pad: int = PAD,
    allowed: int | None = None,
    batch: int = 128,
    processes: Processes = ALONE,
) -> list[Reply]:
    """One reply to each prompt, in the prompts' order.

    Prompts of like length share a batch, padded on the left; a row leaves it when it ends. Every
    token of every prompt has its own random number, drawn before anything is generated, so a reply
    depends on the seed and the prompt's place and not on the rows that happen to share its batch.

    Args:
        prompts: token ids, each with its BOS and template.
        temperature: 0 is greedy (log-probabilities are then those at temperature 1).
        top_p: sample from the smallest set of tokens with at least this probability in sum.
        allowed: how many ids the tokenizer has; embedding rows beyond are padding and never
            chosen. None allows every row.
        batch: the most rows at once.
        processes: those that share the rows; every one gets all replies.

    Raises:
        TrainError: an empty prompt, a prompt that leaves no room in the model's context, pad = eos.
        Diverged: the model's probabilities are not numbers.
    """
    _check(model, prompts, max_new_tokens, eos, pad)
    draws = torch.rand(
        len(prompts),
        max_new_tokens,
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    own = processes.own(order)
    found: dict[int, Reply] = {}
    choose = _Choice(temperature, top_p, allowed)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), gathered(model, processes) as step:
            for start in range(0, step.most(len(own)), batch):
                rows = own[start : start + batch]
                chunk = _Rows(model, [prompts[i] for i in rows], draws[rows], pad, step)
                for row, reply in chunk.run(choose, max_new_tokens, eos):
                    found[rows[row]] = reply
    finally:
        model.train(was_training)
    replies = dict(zip(order, processes.gather([found[i] for i in own]), strict=True))
    return [replies[i] for i in range(len(prompts))]


def _check(
    model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, eos: int, pad: int
) -> None:
    if pad == eos:
        raise TrainError(
            "the padding token is EOS", where="generation", hint="pad with id 0 (<unk>)"
        )
    for index, prompt in enumerate(prompts):
        check_room(model, prompt, max_new_tokens, where=f"prompt {index}")


def check_room(model: Any, prompt: Sequence[int], max_new_tokens: int, *, where: str) -> None:
    """Refuse a prompt that is empty or leaves its reply no room in the model's context.

    Args:
        where: the prompt's file and line, for the error.

    Raises:
        TrainError: names the prompt.
    """
    context = int(getattr(model.config, "max_position_embeddings", 1 << 30))
    if not prompt or len(prompt) + max_new_tokens > context:
        raise TrainError(
            f"{len(prompt)} tokens and a reply of {max_new_tokens} do not fit 1–{context}",
            where=where,
            hint="shorten the prompts or lower max_new_tokens",
        )


def derived_seed(*parts: int | str) -> int:
    """A seed for one purpose, the same for the same parts on every machine."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def reply_text(tokenizer: Any, reply: Reply) -> str:
    """The reply as text, without control tokens or white space around it."""
    return str(tokenizer.decode(reply.ids, skip_special_tokens=True)).strip()


def left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and position ids, each (rows, longest); positions count real tokens from 0."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask, positions(mask)


def positions(mask: Tensor) -> Tensor:
    """Position ids (rows, length): how many real tokens stand before each; 0 on padding."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


class _Choice:
    """How the next token is chosen from the last logits."""

    def __init__(self, temperature: float, top_p: float, allowed: int | None) -> None:
        self.temperature, self.top_p, self.allowed = temperature, top_p, allowed

    def __call__(self, logits: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and their log-probabilities (rows,) from logits (rows, vocabulary)."""
        logits = logits[:, : self.allowed].float()
        logprobs = (logits / (self.temperature or 1.0)).log_softmax(-1)
        if self.temperature == 0:
            tokens = logits.argmax(-1)
        else:
            # The inverse of the distribution function: the first token whose running sum
            # exceeds the draw. The sum is taken in float64, so the last token is reachable.
            weights = self._kept(logprobs.double().exp())
            sums = weights.cumsum(-1)
            tokens = torch.searchsorted(sums, draws[:, None] * sums[:, -1:], right=True)[:, 0]
            tokens = tokens.clamp(max=logits.shape[-1] - 1)
        return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]

    def _kept(self, weights: Tensor) -> Tensor:
        if self.top_p >= 1:
            return weights
        ranked, order = weights.sort(-1, descending=True)
        # A token stays when the ones before it do not yet sum up to top_p.
        ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= self.top_p, 0.0)
        return torch.zeros_like(weights).scatter(-1, order, ranked)


class _Rows:
    """A batch under way: the rows still open, their cache and what they have said so far.

    Args:
        step: whom to keep in step with: a model that is gathered anew for every call must be called
            by all processes equally often.
    """

    def __init__(
        self, model: Any, prompts: list[Sequence[int]], draws: Tensor, pad: int, step: Processes
    ) -> None:
        self.model, self.step = model, step
        self.device = next(model.parameters()).device
        if prompts:
            ids, mask, place = left_padded(prompts, pad)
            self.ids, self.mask = ids.to(self.device), mask.to(self.device)
            self.place = place.to(self.device)
        self.draws = draws.to(self.device)
        self.cache = DynamicCache()
        self.open = torch.arange(len(prompts))
        self.said: list[list[int]] = [[] for _ in prompts]
        self.logprobs: list[list[float]] = [[] for _ in prompts]

    def run(self, choose: _Choice, max_new_tokens: int, eos: int) -> Iterator[tuple[int, Reply]]:
        """Generate until every row has ended or reached the limit; yields (row, reply)."""
        for step in range(max_new_tokens):
            if not self.step.any(len(self.open) > 0):
                return
            if not len(self.open):
                self._idle()
                continue
            tokens, logprobs = choose(self._logits(), self.draws[:, step])
            if bool(logprobs.isnan().any()):
                hint = "the checkpoint is damaged or diverged: take an earlier one"
                raise Diverged("the model's probabilities are not numbers", hint=hint)
            going = []
            for slot, (row, token, logprob) in enumerate(
                zip(self.open.tolist(), tokens.tolist(), logprobs.tolist(), strict=True)
            ):
                self.logprobs[row].append(logprob)
                if token == eos:
                    yield row, Reply(self.said[row], True, self.logprobs[row])
                else:
                    self.said[row].append(token)
                    going.append(slot)
            if step + 1 == max_new_tokens or not going:
                self.open = self.open[going]
            else:
                self._advance(tokens, going)
        for row in self.open.tolist():
            yield row, Reply(self.said[row], False, self.logprobs[row])

    def _logits(self) -> Tensor:
        logits: Tensor = self.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.place,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits

    def _idle(self) -> None:
        """Call the model for the others' sake."""
        self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.device))

    def _advance(self, tokens: Tensor, going: list[int]) -> None:
        """Let the ended rows leave; the others' last tokens are the next input."""
        slots = torch.tensor(going, device=tokens.device)
        if len(going) < len(tokens):
            self.cache.batch_select_indices(slots)
            self.open, self.draws = self.open[going], self.draws[slots]
        self.ids = tokens[slots][:, None]
        self.mask = torch.nn.functional.pad(self.mask[slots], (0, 1), value=1)
        self.place = self.place[slots][:, -1:] + 1
