"""DeepSpeed ZeRO ``global_stepN`` folders: every process saved a slice of the float32 weights.

Written after the layout that deepspeed's own ``zero_to_fp32`` reads. That reader executes pickles
and needs deepspeed; here files are read with ``weights_only``, and deepspeed's own classes in them
(enumerations and settings, never weights) become inert stand-ins.

Stages 1 and 2 cut one long vector of all weights into as many slices as there are processes.
Stage 3 cuts each tensor: every process holds a slice of each, padded to equal length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.checkpoint.identity import copy_companions
from evalsuite.checkpoint.shards import ShardWriter
from evalsuite.checkpoint.tensors import TensorFolder
from evalsuite.errors import BadCheckpoint

if TYPE_CHECKING:
    import torch

GATHER = "stage3_gather_16bit_weights_on_model_save"
_STEP = re.compile(r"[\w.-]+")
_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_(\d+)_(optim|model)_states\.pt$")


class Inert:
    """Stands in for a class of deepspeed's; takes whatever a pickle gives it and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        pass


def step_folder(path: Path) -> Path | None:
    """The ``global_stepN`` folder that ``path`` is or holds; None where there is none.

    Raises:
        BadCheckpoint: several, and ``latest`` names none of them.
    """
    if any(path.glob("*_optim_states.pt")):
        return path
    steps = sorted(p for p in path.glob("global_step*") if any(p.glob("*_optim_states.pt")))
    latest = path / "latest"
    if latest.is_file() and steps:
        tag = latest.read_text(encoding="utf-8", errors="replace").strip()
        if _STEP.fullmatch(tag) and path / tag in steps:
            return path / tag
        raise BadCheckpoint(
            f"names no step that is here: {tag[:80]!r}",
            where=str(latest),
            hint=f"there are {', '.join(step.name for step in steps)}",
        )
    if len(steps) > 1:
        names = ", ".join(step.name for step in steps)
        raise BadCheckpoint("several steps", where=str(path), hint=f"name one of {names}")
    return steps[0] if steps else None


def settings_folder(step: Path) -> Path:
    """Where the configuration and the tokenizer lie: in the step's folder or its parent."""
    for folder in (step, step.parent):
        if (folder / "config.json").is_file():
            return folder
    raise BadCheckpoint(
        "no config.json in the step's folder, nor in its parent",
        where=str(step),
        hint="copy config.json and the tokenizer of the model that was trained there",
    )


def state_files(step: Path) -> list[Path]:
    """The files of a step that hold its weights."""
    return sorted(step.glob("*_states.pt"))


def check_is_not_empty(tensors: TensorFolder, source: str) -> None:
    """Refuse weights that ZeRO-3 saved without gathering: names without numbers.

    Raises:
        BadCheckpoint: a tensor of shape [0].
    """
    empty = [name for name in tensors.names if tensors.shape(name) == (0,)]
    if not empty:
        return
    step = step_folder(tensors.path)
    instead = f"give {step}, or train" if step else "train"
    raise BadCheckpoint(
        f"{len(empty)} weights are empty, such as {empty[0]}: ZeRO-3 saved them ungathered",
        where=source,
        hint=f'{instead} and save again with "{GATHER}": true',
    )


def merge_zero(step: Path, folder: Path) -> None:
    """Write the float32 weights of a step, its configuration and tokenizer into ``folder``.

    Raises:
        BadCheckpoint: a process's file is missing or damaged, holds more than data, or the model
            was cut in ways other than ZeRO's (tensor parallel, experts).
    """
    with ShardWriter(folder) as writer:
        for name, tensor in zero_tensors(step):
            writer.add(name, tensor)
    copy_companions(settings_folder(step), folder, card=True)


def zero_tensors(step: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Name → whole tensor: float32 for what was trained, as saved for what was frozen."""
    optimisers = _by_rank(step, "optim")
    states = [_read(file)["optimizer_state_dict"] for file in optimisers]
    try:
        stage = _number(states[0]["zero_stage"])
        counts = states[0]["partition_count"]
        world = max(counts) if isinstance(counts, list) else int(counts)
    except (KeyError, TypeError, ValueError, IndexError) as fault:
        raise _malformed(optimisers[0], fault) from None
    if world != len(states):
        raise BadCheckpoint(
            f"{len(states)} of {world} processes' *_optim_states.pt are here",
            where=str(step),
            hint="copy the files of all processes",
        )
    models = _by_rank(step, "model") if stage == 3 else [_single_model(step)]
    if stage == 3 and len(models) != world:
        raise BadCheckpoint(
            f"{len(models)} of {world} processes' *_model_states.pt are here",
            where=str(step),
            hint="copy the files of all processes",
        )
    saved = [_read(file) for file in models]
    try:
        trained = _stage3(states, saved[0]) if stage == 3 else _stage2(states, saved[0])
        yield from _whole(saved, stage, trained)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as fault:
        raise _malformed(models[0], fault) from None


def _whole(
    saved: list[dict[str, Any]], stage: int, trained: Iterator[tuple[str, torch.Tensor]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Buffers, frozen weights, trained weights, and second names of shared ones."""
    import torch

    first = saved[0]
    left = {} if stage == 3 else dict(first["module"])  # what stage 1 froze is only here
    aliases: dict[str, str] = dict(first.get("shared_params") or {})
    shared: dict[str, torch.Tensor] = {}
    for name in first.get("buffer_names") or ():
        buffer = first["module"][name]
        left.pop(name, None)
        yield name, buffer.float() if buffer.is_floating_point() else buffer
    for name, shape in (first.get("frozen_param_shapes") or {}).items():
        fragments = [s["frozen_param_fragments"][name].reshape(-1) for s in saved]
        left.pop(name, None)
        whole = torch.cat(fragments) if stage == 3 else fragments[0]
        yield name, whole[: math.prod(shape)].reshape(tuple(shape))
    for name, tensor in trained:
        if ".lora_" in name:
            raise BadCheckpoint(
                "an adapter's training, not a whole model's",
                where=name,
                hint="save the adapter with peft's save_pretrained, and give that folder",
            )
        left.pop(name, None)
        if name in aliases.values():
            shared[name] = tensor
        yield name, tensor
    for alias, name in aliases.items():
        left.pop(alias, None)
        if name in shared:
            yield alias, shared[name]
    yield from left.items()


def _stage2(
    states: list[dict[str, Any]], model: dict[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each group of parameters is one vector, cut into equal slices, padded at its end."""
    slices = [state["single_partition_of_fp32_groups"] for state in states]
    paddings = states[0].get("param_alignment_paddings")
    for group, shapes in enumerate(model["param_shapes"]):
        vectors = [rank[group] for rank in slices]
        offset = 0
        for number, (name, shape) in enumerate(shapes.items()):
            size = math.prod(shape)
            yield name, _cut(vectors, offset, size).reshape(tuple(shape))
            offset += size + (int(paddings[group][number]) if paddings else 0)
        there, alignment = sum(v.numel() for v in vectors), 2 * len(states)
        if math.ceil(there / alignment) != math.ceil(offset / alignment):
            raise ValueError(f"{offset} numbers wanted in group {group}, {there} there")


def _cut(vectors: list[torch.Tensor], offset: int, size: int) -> torch.Tensor:
    """``size`` numbers from ``offset`` of the vectors laid end to end, without joining them all."""
    import torch

    pieces, start = [], 0
    for vector in vectors:
        piece = vector[max(0, offset - start) : max(0, offset + size - start)]
        pieces.append(piece.detach())
        start += vector.numel()
    whole = torch.cat(pieces)
    if whole.numel() != size:
        raise ValueError(f"{size} numbers wanted, {whole.numel()} there")
    return whole


def _stage3(
    states: list[dict[str, Any]], model: dict[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every process holds ceil(size / processes) numbers of each tensor, in the same order."""
    import torch

    shapes = {name: shape for group in model["param_shapes"] for name, shape in group.items()}
    ranks = [state["fp32_flat_groups"] for state in states]
    offset = 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        length = math.ceil(size / len(ranks))
        slices = [_cut(rank, offset, length) for rank in ranks]
        yield name, torch.cat(slices)[:size].reshape(tuple(shape))
        offset += length
    rest = sum(v.numel() for v in ranks[0]) - offset
    if rest:
        raise ValueError(f"{rest} numbers are left over")


def _by_rank(step: Path, what: str) -> list[Path]:
    """The files of the processes 0, 1, 2, …; the names tell."""
    found: dict[int, Path] = {}
    for file in step.glob(f"*_{what}_states.pt"):
        named = _RANK.search(file.name)
        if named and named[2] == "00":
            found[int(named[1])] = file
        elif "expert" in file.name or (named and int(named[2])):
            raise BadCheckpoint(
                "cut in ways other than ZeRO's: experts or tensor parallel",
                where=str(file),
                hint="convert it with deepspeed's ds_to_universal",
            )
    if not found or sorted(found) != list(range(len(found))):
        have = ", ".join(map(str, sorted(found))) or "none"
        raise BadCheckpoint(
            f"*_{what}_states.pt of some processes are missing",
            where=str(step),
            hint=f"there are those of {have}; copy the files of all processes",
        )
    return [found[rank] for rank in sorted(found)]


def _single_model(step: Path) -> Path:
    file = step / "mp_rank_00_model_states.pt"
    if not file.is_file():
        raise BadCheckpoint(
            "missing", where=str(file), hint="copy it; the names of the weights are there"
        )
    if (step / "mp_rank_01_model_states.pt").exists():
        raise BadCheckpoint(
            "cut in ways other than ZeRO's: tensor parallel",
            where=str(step),
            hint="convert it with deepspeed's ds_to_universal",
        )
    return file


def _read(file: Path) -> dict[str, Any]:
    """A pickle of one process; only deepspeed's own names are stood in for, others are refused."""
    import torch
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    try:
        names = get_unsafe_globals_in_checkpoint(file)
        foreign = [name for name in names if not name.startswith("deepspeed.")]
        if foreign:
            raise BadCheckpoint(
                f"it would run {foreign[0]}",
                where=str(file),
                hint="convert it where you trust it, with deepspeed's zero_to_fp32.py",
            )
        # A class for each name: torch tells them apart by identity.
        inert: list[Any] = [(type("Inert", (Inert,), {}), name) for name in names]
        with safe_globals(inert):
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except BadCheckpoint:
        raise
    except Exception as fault:
        raise _malformed(file, fault) from None
    if not isinstance(found, dict):
        raise _malformed(file, "not a dictionary")
    return found


def _number(value: Any) -> int:
    return int(str(value.arguments[0])) if isinstance(value, Inert) else int(value)


def _malformed(file: Path, fault: BaseException | str) -> BadCheckpoint:
    lines = str(fault).strip().splitlines()
    what = lines[0][:200] if lines else type(fault).__name__
    return BadCheckpoint(
        f"not a whole file of ZeRO's: {what}", where=str(file), hint="copy the step again"
    )
