"""New pieces at the end of a SentencePiece model; every old piece keeps id, score and type."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from sentencepiece import sentencepiece_model_pb2 as pb

from evalsuite_train.errors import TrainError
from evalsuite_train.vocabulary.model import NORMAL, parsed

LONGEST_PIECE = 16  # characters, as in LLaMA's own model; longer pieces are boilerplate


def extend(base: bytes, characters: Iterable[str]) -> bytes:
    """Append single characters that ``base`` lacks, in the order given.

    A single character needs no merge rule: SentencePiece starts from characters, so the piece is
    used from then on wherever the character stood as bytes.

    Raises:
        TrainError: an entry that is not one visible character, or a base that is not LLaMA-like.
    """
    model = parsed(base)
    wanted = list(characters)
    for entry in wanted:
        if len(entry) != 1 or unicodedata.category(entry)[0] in "CZ" or entry == "▁":
            raise TrainError(
                f"{entry!r} is not one visible character",
                where="the characters to add",
                hint="give characters; for longer pieces use a second model",
            )
    _append(model, wanted)
    return bytes(model.SerializeToString())


def merge(base: bytes, second: bytes) -> bytes:
    """Append the pieces of a second SentencePiece BPE model that ``base`` lacks, in its order.

    Characters come before longer pieces, so that each new piece can be built from parts that
    exist; control, byte and user-defined pieces of the second model are left out.
    """
    model, other = parsed(base), parsed(second)
    pieces = [p.piece for p in other.pieces if p.type == NORMAL and len(p.piece) <= LONGEST_PIECE]
    parts = dict.fromkeys(character for piece in pieces for character in piece)
    _append(model, [*parts, *pieces])
    return bytes(model.SerializeToString())


def added(base: bytes, extended: bytes) -> list[str]:
    """The new pieces; proves on the way that no old piece changed.

    Raises:
        TrainError: an old piece lost its id, score or type.
    """
    old, new = parsed(base).pieces, parsed(extended).pieces
    for index, (before, after) in enumerate(zip(old, new, strict=False)):
        if before.SerializeToString() != after.SerializeToString():
            raise TrainError(
                f"piece {index} was {before.piece!r} and became {after.piece!r}",
                where="the extended vocabulary",
                hint="extend the very model that the weights were trained with",
            )
    if len(new) < len(old):
        raise TrainError(f"{len(old) - len(new)} pieces were lost", where="the extended vocabulary")
    return [p.piece for p in new[len(old) :]]


def _append(model: pb.ModelProto, pieces: Iterable[str]) -> None:
    known = {p.piece for p in model.pieces}
    # A lower score is a later merge: below all old ones, the old merges still happen first.
    score = min(p.score for p in model.pieces)
    for piece in pieces:
        if piece in known:
            continue
        known.add(piece)
        score -= 1.0
        model.pieces.add(piece=piece, score=score, type=NORMAL)
    model.trainer_spec.vocab_size = len(model.pieces)
