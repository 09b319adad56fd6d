"""From what the user named to a checkpoint that is ready to load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from evalsuite.checkpoint.card import Card
from evalsuite.checkpoint.forms import find_form, plain_folder
from evalsuite.checkpoint.plain import check_plain, quantization


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint on this disk.

    Attributes:
        path: a folder in Hugging Face layout, ready to load; the file itself for ``gguf``.
        source: as the user named it: a path, or ``org/name@revision``.
        fingerprint: sha256 over weights, base, adapter, tokenizer, chat template and configuration.
        kind: the form it came in: huggingface, delta, adapter, zero, tencentpretrain or gguf.
        quantization: gptq, awq, bitsandbytes, … where its configuration says so.
    """

    path: Path
    source: str
    name: str
    fingerprint: str
    card: Card
    config: dict[str, Any]
    kind: str = "huggingface"
    quantization: str | None = None

    @property
    def context(self) -> int | None:
        """How many tokens fit, prompt and answer together; None where the configuration is silent."""
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "seq_length"):
            value = self.config.get(key)
            if isinstance(value, int) and value > 0:
                return value
        return None


def open_checkpoint(
    source: str, *, trust_remote_code: bool = False, base: str | None = None
) -> Checkpoint:
    """Find, check and fingerprint a checkpoint; one that is not plain is merged, once.

    Args:
        source: a folder or file in any form of docs/checkpoints.md, or a hub id ``org/name`` with
            an optional ``@revision``.
        trust_remote_code: allow a configuration that names its own Python code.
        base: the base of a delta or an adapter, where it does not lie where they say.

    Raises:
        BadCheckpoint: nothing there, not whole, unsafe, a raw delta, or parts that do not fit.
        EngineUnavailable: merging needs a package that is not installed.
        CannotWrite: no room for the merged weights.
    """
    form = find_form(source, trust_remote_code=trust_remote_code, base=base)
    path = plain_folder(form)
    config = form.config if form.merge is None else check_plain(path, source)
    return Checkpoint(
        path=path,
        source=source,
        name=form.name,
        fingerprint=form.fingerprint,
        card=form.card,
        config=config,
        kind=form.kind,
        quantization=quantization(config),
    )
