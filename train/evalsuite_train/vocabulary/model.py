"""A SentencePiece model file, read and checked for the conventions that LLaMA's has."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sentencepiece import sentencepiece_model_pb2 as pb

from evalsuite_train.errors import TrainError

NORMAL = pb.ModelProto.SentencePiece.NORMAL
BYTE = pb.ModelProto.SentencePiece.BYTE
CONTROL = pb.ModelProto.SentencePiece.CONTROL
UNKNOWN = pb.ModelProto.SentencePiece.UNKNOWN
BPE = pb.TrainerSpec.BPE
SPECIAL = {0: "<unk>", 1: "<s>", 2: "</s>"}


def read(path: Path) -> bytes:
    """The model's bytes, checked.

    Raises:
        TrainError: no such file, or not a LLaMA-like SentencePiece model.
    """
    try:
        model = path.read_bytes()
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise TrainError(
            f"cannot read the SentencePiece model: {reason}",
            where=str(path),
            hint="give the path of a tokenizer.model",
        ) from fault
    parsed(model, str(path))
    return model


def parsed(model: bytes, where: str = "the SentencePiece model") -> pb.ModelProto:
    """The pieces and settings, with what this package relies on proved.

    Raises:
        TrainError: not a SentencePiece file, or one whose settings rule out exact round trips.
    """
    try:
        proto = pb.ModelProto.FromString(model)
    except DecodeError as fault:
        raise TrainError(
            "not a SentencePiece model", where=where, hint="give a tokenizer.model"
        ) from fault
    kinds = [p.type for p in proto.pieces]
    normalizer = proto.normalizer_spec
    first = {i: p.piece for i, p in enumerate(proto.pieces[:3])}
    for holds, what in (
        (len(kinds) > 0, "it holds no pieces"),
        (proto.trainer_spec.model_type == BPE, "it is no byte-pair (BPE) model"),
        (first == SPECIAL, f"its first pieces are {list(first.values())}, not <unk>, <s>, </s>"),
        (kinds.count(BYTE) == 256, "it has no byte fallback, so text would be lost"),
        (
            set(kinds) <= {NORMAL, BYTE, CONTROL, UNKNOWN},
            "it has user-defined or unused pieces, which a converted tokenizer cannot follow",
        ),
        (len({p.piece for p in proto.pieces}) == len(kinds), "it holds a piece twice"),
        (normalizer.add_dummy_prefix, "it adds no dummy prefix"),
        (not normalizer.remove_extra_whitespaces, "it removes spaces, so text would be lost"),
        (not normalizer.precompiled_charsmap, "it normalises text, so text would be lost"),
        (not proto.trainer_spec.treat_whitespace_as_suffix, "it writes spaces as suffixes"),
    ):
        if not holds:
            raise TrainError(
                f"not a LLaMA-like SentencePiece model: {what}",
                where=where,
                hint="start from LLaMA's tokenizer.model, or train a base with `base: train`",
            )
    return proto
