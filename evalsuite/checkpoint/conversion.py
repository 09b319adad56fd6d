"""A checkpoint of any form, written anew as a plain folder or for TencentPretrain."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from evalsuite.checkpoint.forms import find_form, plain_folder
from evalsuite.checkpoint.identity import copy_companions
from evalsuite.checkpoint.shards import ShardWriter
from evalsuite.checkpoint.staging import new_folder
from evalsuite.checkpoint.tencentpretrain import from_huggingface
from evalsuite.checkpoint.tensors import TensorFolder
from evalsuite.errors import BadCheckpoint


def convert(
    source: str,
    out: Path,
    *,
    to: Literal["huggingface", "tencentpretrain"] = "huggingface",
    base: str | None = None,
) -> None:
    """Write ``source`` into the new folder ``out``.

    Raises:
        BadCheckpoint: it cannot be opened, or the layout has no room for it.
        BadOption: ``out`` holds something already.
        CannotWrite: no space or no permission.
    """
    form = find_form(source, base=base)
    if form.kind == "gguf":
        raise BadCheckpoint(
            "a GGUF file is not converted back", where=source, hint="convert what it was made from"
        )
    with new_folder(out) as folder:
        if to == "tencentpretrain":
            from_huggingface(plain_folder(form), folder)
        elif form.merge is not None:
            form.merge(folder)
        else:
            tensors = TensorFolder(form.path)
            with ShardWriter(folder) as writer:
                for name in tensors.names:
                    writer.add(name, tensors.read(name))
            copy_companions(form.path, folder, card=True)
