"""A reward model of transformers: one number a conversation.

It reads with its own tokenizer and writes conversations in its own template, whatever the model that
answered has: token ids of one vocabulary mean nothing in another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from evalsuite.chat import NONE, ChatTemplate, render_all, resolve_template
from evalsuite.checkpoint import Checkpoint, open_checkpoint
from evalsuite.engines._batching import Budget, attempt, batches
from evalsuite.engines._tokens import Tokens, without_surrogates
from evalsuite.engines._weights import choose_device, quiet
from evalsuite.errors import BadCheckpoint
from evalsuite.request import Failure, Prompt

_BATCH_TOKENS = 8192
_HEAD = "ForSequenceClassification"

Ids = tuple[int, ...]


class _Row(msgspec.Struct):
    index: int
    ids: Ids


class TransformersReward:
    """A folder of ``…ForSequenceClassification`` with one label, opened for scoring.

    Computed in float32 on a processor and in the checkpoint's own precision elsewhere. A configuration
    may hold ``reward_offset`` and ``reward_scale``, such as mean and deviation over SFT's replies.

    Args:
        source: a checkpoint folder or hub id.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        BadCheckpoint: not a reward model, or weights, tokenizer or template that cannot be used.
    """

    def __init__(self, source: str, *, device: str = "auto") -> None:
        self.checkpoint = open_checkpoint(source)
        _require_reward_model(self.checkpoint)
        self.template: ChatTemplate | None = resolve_template(self.checkpoint)
        self._offset, self._scale = _normalisation(self.checkpoint, self.template)
        self._device = choose_device(device)
        self._tokens = Tokens(self.checkpoint)
        self._model = _load(self.checkpoint, self._device)
        self._rows = int(self._model.get_input_embeddings().weight.shape[0])

    @property
    def template_name(self) -> str:
        """The template that conversations are written in, ``none`` for plain text."""
        return self.template.name if self.template else NONE

    @property
    def template_sha256(self) -> str:
        """Checksum of the template's text."""
        text = self.template.source if self.template else ""
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def description(self) -> str:
        """What may change a reward's digits."""
        import torch
        import transformers

        dtype = str(self._model.dtype).removeprefix("torch.")
        kind = torch.device(self._device).type
        return (
            f"transformers {transformers.__version__}, torch {torch.__version__}, {dtype}, {kind}"
        )

    def ids(self, conversations: Sequence[tuple[str, str, bool]]) -> list[Ids]:
        """Token ids of each (question, answer, finished): the question as one user turn, then the
        answer where the assistant speaks, then the end-of-sequence token if the answer is finished.
        """
        questions = [Prompt(without_surrogates(question)) for question, _, _ in conversations]
        texts = [question.text for question in questions]
        if self.template is not None:
            unique = list(dict.fromkeys(questions))
            rendered = render_all(self.template, unique, self._tokens.bos, self._tokens.eos)
            text_of = dict(zip(unique, map(without_surrogates, rendered), strict=True))
            texts = [text_of[question] for question in questions]
        whole = [
            text + without_surrogates(answer)
            for text, (_, answer, _) in zip(texts, conversations, strict=True)
        ]
        encoded = map(self._tokens.with_lead, self._tokens.encode(whole))
        end = () if self._tokens.eos_id is None else (self._tokens.eos_id,)
        return [
            ids + end if finished and ids[-1:] != end else ids
            for ids, (_, _, finished) in zip(encoded, conversations, strict=True)
        ]

    def score(
        self, conversations: Sequence[tuple[str, str, bool]]
    ) -> Iterator[tuple[int, float | Failure]]:
        """Rewards in any order, each with its index; the longest conversations first.

        The reward stands at the last real token of a row padded on its right.
        """
        rows = []
        for index, ids in enumerate(self.ids(conversations)):
            fault = self._unreadable(ids)
            if fault is not None:
                yield index, fault
            else:
                rows.append(_Row(index, ids))
        rows.sort(key=lambda row: -len(row.ids))
        budget = Budget(_BATCH_TOKENS)
        for batch in batches(rows, lambda row: len(row.ids), budget):
            for row, reward in attempt(batch, self._rewards, budget):
                yield row.index, self._normalised(reward)

    def _rewards(self, batch: list[_Row]) -> Iterator[tuple[_Row, float]]:
        import torch

        longest = max(len(row.ids) for row in batch)
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(batch):
            ids[place, : len(row.ids)] = torch.tensor(row.ids)
            mask[place, : len(row.ids)] = 1
        last = mask.sum(dim=1) - 1
        with torch.no_grad():
            # transformers would look for the padding token instead, which an answer may hold too.
            hidden = self._model.base_model(
                input_ids=ids.to(self._device), attention_mask=mask.to(self._device)
            ).last_hidden_state
            ends = hidden[torch.arange(len(batch)), last.to(hidden.device)]
            values = self._model.score(ends)[:, 0].float().tolist()
        for row, value in zip(batch, values, strict=True):
            yield row, value

    def _normalised(self, output: float | Failure) -> float | Failure:
        if isinstance(output, Failure):
            return output
        if not math.isfinite(output):
            return Failure("engine_failed", f"the model's output is {output}")
        return (output - self._offset) / self._scale

    def _unreadable(self, ids: Ids) -> Failure | None:
        context = self.checkpoint.context
        if not ids:
            return Failure("engine_failed", "the conversation has no token")
        if max(ids) >= self._rows:
            return Failure("engine_failed", f"token {max(ids)} has no embedding of {self._rows}")
        if context is not None and len(ids) > context:
            message = f"{len(ids)} tokens; the reward model's context is {context}"
            return Failure("prompt_too_long", message)
        return None


def _normalisation(checkpoint: Checkpoint, template: ChatTemplate | None) -> tuple[float, float]:
    """``reward_offset`` and ``reward_scale`` of the configuration; a reward is (output − offset)/scale.

    Raises:
        BadCheckpoint: they are no numbers, or the configuration names a template of the model's own
            (``reward_template``) and the folder does not hold it: plain text would mislead it.
    """
    config = checkpoint.config
    if template is None and config.get("reward_template"):
        raise BadCheckpoint(
            f"its own template {config['reward_template']!r} is not in the folder",
            where=checkpoint.source,
            hint="write it there as chat_template.jinja, or name a built-in one on the card",
        )
    offset, scale = config.get("reward_offset", 0.0), config.get("reward_scale", 1.0)
    numbers = all(isinstance(n, (int, float)) and math.isfinite(n) for n in (offset, scale))
    if not numbers or scale <= 0:
        raise BadCheckpoint(
            f"reward_offset {offset!r} and reward_scale {scale!r} do not normalise a reward",
            where=str(checkpoint.path / "config.json"),
            hint="give a number and a positive number, or leave both out",
        )
    return float(offset), float(scale)


def _require_reward_model(checkpoint: Checkpoint) -> None:
    """Raise :class:`BadCheckpoint` unless the configuration is that of a reward model."""
    names = checkpoint.config.get("architectures")
    architectures = [str(name) for name in names] if isinstance(names, list) else []
    labels = checkpoint.config.get("id2label", checkpoint.config.get("num_labels"))
    count = len(labels) if isinstance(labels, dict) else labels
    if not any(name.endswith(_HEAD) for name in architectures):
        stage = f" of stage {checkpoint.card.stage!r}" if checkpoint.card.stage else ""
        raise BadCheckpoint(
            f"not a reward model: a {', '.join(architectures) or 'nameless architecture'}{stage}",
            where=checkpoint.source,
            hint=f"--rm takes a folder of …{_HEAD} with one label",
        )
    if count != 1:
        raise BadCheckpoint(
            f"a classifier of {2 if count is None else count} labels, not a reward model",
            where=checkpoint.source,
            hint="a reward model has num_labels 1",
        )


def _load(checkpoint: Checkpoint, device: str) -> Any:
    """The model in evaluation mode, every weight of it from the checkpoint."""
    import torch
    from transformers import AutoModelForSequenceClassification

    dtype = torch.float32 if torch.device(device).type == "cpu" else "auto"
    try:
        with quiet():
            model, report = AutoModelForSequenceClassification.from_pretrained(
                str(checkpoint.path),
                dtype=dtype,
                local_files_only=True,
                weights_only=True,
                output_loading_info=True,
            )
    except Exception as fault:
        first = (str(fault).strip().splitlines() or [""])[0][:200]
        raise BadCheckpoint(
            f"its weights do not load: {type(fault).__name__}: {first}",
            where=checkpoint.source,
            hint="compare config.json with the weights, or copy the checkpoint again",
        ) from None
    missing = sorted(report["missing_keys"])
    if missing or not hasattr(model, "score"):
        raise BadCheckpoint(
            f"the reward head or other weights are missing: {', '.join(missing[:3]) or 'score'}",
            where=checkpoint.source,
            hint="save the reward model again, with its head",
        )
    return model.to(device).eval()
