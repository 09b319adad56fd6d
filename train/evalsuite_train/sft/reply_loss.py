"""Loss and next-token accuracy of each sample's replies; positions that are not learnt do not count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from evalsuite_train.sft.batches import pack
from evalsuite_train.sft.samples import Sample
from evalsuite_train.trainer import IGNORED

_TOKENS = 16_384
_POSITIONS = 2_048


class ReplyLoss(NamedTuple):
    """One entry a sample.

    Attributes:
        loss: mean cross entropy of the learnt tokens in nats, float64.
        correct: learnt tokens that the model would have chosen itself, int64.
        learnt: learnt tokens, int64.
    """

    loss: NDArray[np.float64]
    correct: NDArray[np.int64]
    learnt: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Next-token accuracy over all learnt tokens."""
        return float(self.correct.sum() / max(1, self.learnt.sum()))


def reply_loss(
    model: Any, samples: Sequence[Sample], *, dtype: torch.dtype = torch.float32
) -> ReplyLoss:
    """Measure every sample; the logits of a whole batch never exist at once.

    Args:
        dtype: of the matrix products.
    """
    device = next(model.parameters()).device
    sums = np.zeros(len(samples))
    correct, learnt = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
    training = model.training
    model.eval()
    with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for chosen in _portions(samples):
            packed = pack([samples[i] for i in chosen])
            batch, owner_of = packed.batch, packed.owner.flatten().to(device)
            targets = batch.targets.flatten().to(device)
            hidden = model.get_decoder()(
                input_ids=batch.inputs.to(device),
                position_ids=None if batch.positions is None else batch.positions.to(device),
                use_cache=False,
            ).last_hidden_state.flatten(0, 1)
            places = (targets != IGNORED).nonzero()[:, 0]
            owners = owner_of[places]
            for part, owner in zip(
                torch.split(places, _POSITIONS), torch.split(owners, _POSITIONS), strict=True
            ):
                wanted = targets[part]
                logits = model.get_output_embeddings()(hidden[part]).float()
                loss = functional.cross_entropy(logits, wanted, reduction="none")
                right = (logits.argmax(1) == wanted).long()
                index = np.array(chosen)[owner.cpu().numpy()]
                np.add.at(sums, index, loss.double().cpu().numpy())
                np.add.at(correct, index, right.cpu().numpy())
                np.add.at(learnt, index, 1)
    model.train(training)
    return ReplyLoss(sums / np.maximum(1, learnt), correct, learnt)


def _portions(samples: Sequence[Sample]) -> Iterator[list[int]]:
    """Samples of like length together, about ``_TOKENS`` tokens at a time."""
    portion: list[int] = []
    size = 0
    for index in sorted(range(len(samples)), key=lambda i: len(samples[i].ids)):
        portion.append(index)
        size += len(samples[index].ids)
        if size >= _TOKENS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
