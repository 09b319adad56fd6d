"""A checkpoint in words, for ``evalsuite checkpoint info``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from evalsuite.checkpoint.forms import Form, Part, find_form
from evalsuite.checkpoint.plain import quantization
from evalsuite.checkpoint.tensors import TensorFolder
from evalsuite.errors import BadCheckpoint

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def describe(source: str, *, base: str | None = None) -> Iterator[tuple[str, str]]:
    """Lines of ``(what, value)``; nothing is merged or loaded.

    Raises:
        BadCheckpoint: see :func:`evalsuite.checkpoint.open_checkpoint`.
    """
    form = find_form(source, trust_remote_code=True, base=base)
    yield "name", form.name
    yield "kind", form.kind
    card = form.card
    for key in ("family", "stage", "step", "parent", "chat_template"):
        value = getattr(card, key)
        if value not in ("", None):
            yield key.replace("_", " "), str(value)
    if form.config:
        yield "architecture", str(form.config.get("model_type", "unknown"))
        if quantization(form.config):
            yield "quantised", str(quantization(form.config))
    yield from _weights(form)
    for part in form.parts:
        yield "part", f"{part.role}: {part.path} ({part.fingerprint[:16]}, {_size(part)})"
    yield "fingerprint", form.fingerprint


def _weights(form: Form) -> Iterator[tuple[str, str]]:
    if form.kind not in ("huggingface", "delta"):
        return
    try:
        tensors = TensorFolder(form.path, mapped=True)
    except BadCheckpoint as fault:
        yield "weights", f"unreadable: {fault.what} ({fault.where})"
        return
    numbers: Counter[str] = Counter()
    for name in tensors.names:
        size = 1
        for rows in tensors.shape(name):
            size *= rows
        numbers[_DTYPES.get(tensors.dtype(name), tensors.dtype(name))] += size
    dtypes = ", ".join(f"{count:,} {dtype}" for dtype, count in numbers.most_common())
    yield "weights", f"{len(tensors.names)} tensors, {dtypes}"


def _size(part: Part) -> str:
    files = [part.path] if part.path.is_file() else [p for p in part.path.iterdir() if p.is_file()]
    return _in_words(sum(Path(file).stat().st_size for file in files))


def _in_words(size: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
