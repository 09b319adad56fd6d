"""A model shared out over several processes: each keeps a part of every weight, gradient and moment.

Fully sharded data parallelism (Zhao et al. 2023, arXiv 2304.11277), as ``torch.distributed.fsdp`` has it. A
decoder layer's weights are gathered when it computes and dropped afterwards.
"""

from __future__ import annotations

import contextlib
import copy
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from evalsuite_train.processes import ALONE, Processes

ROOM = 2 << 30
"""Bytes of a device that stay free when a whole model is gathered on it."""


def read_once(read: Callable[[], Any], processes: Processes) -> Any:
    """The model that the first process reads; for the others its :func:`outline`, without weights."""
    model = read() if processes.first else None
    if processes.size == 1:
        return model
    shape = [None if model is None else outline(model)]
    dist.broadcast_object_list(shape)
    return shape[0] if model is None else model


def share_out(
    model: nn.Module, processes: Processes, precision: torch.dtype, *, frozen: bool = False
) -> Any:
    """The model on this process's device: itself where it is alone, else a part of a copy.

    Args:
        model: from :func:`read_once`.
        precision: of the decoder layers' products and of what is gathered for them; embedding,
            last norm and heads stay float32.
        frozen: it will not learn: a copy's weights are kept in ``precision``.
    """
    if frozen:
        model.eval().requires_grad_(False)
    if processes.size == 1:
        return model.to(processes.device)
    part: Any = outline(model)
    whole: dict[str, Any] = _state(model) if processes.first else {}
    if frozen:
        part = _cast(part, precision)
        whole = {n: t.to(part.state_dict()[n].dtype) for n, t in whole.items()}
    exact = MixedPrecisionPolicy(torch.float32, torch.float32)
    lower = MixedPrecisionPolicy(precision, torch.float32)
    for layer in decoder_layers(part):
        fully_shard(layer, mp_policy=lower)
    fully_shard(part, mp_policy=exact)
    part.to_empty(device=processes.device)
    if hasattr(part, "tie_weights"):
        part.tie_weights()
    set_model_state_dict(
        part, whole, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    )
    for name, buffer in part.named_buffers():
        if processes.first:
            buffer.copy_(model.get_buffer(name))
        dist.broadcast(buffer, 0)
    part.precision = precision
    part.inside = types.MethodType(_inside, part)
    register_fsdp_forward_method(part, "inside")
    return part


def outline(model: nn.Module) -> nn.Module:
    """The same modules with the same names, their tensors without content; ties are kept."""
    empty: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        bare: Tensor = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, nn.Parameter):
            bare = nn.Parameter(bare, tensor.requires_grad)
        empty[id(tensor)] = bare
    return copy.deepcopy(model, empty)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that the model's own class says must stay whole, in order."""
    kinds = {
        kind
        for module in model.modules()
        for kind in getattr(module, "_no_split_modules", None) or ()
    }
    return [module for module in model.modules() if type(module).__name__ in kinds]


def inside(model: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(model, *arguments)``, with the weights that ``forward`` would have at hand.

    A shared-out model gathers its weights when it is called; what calls a part of it, or reads a
    weight, has to go through here.
    """
    entered = getattr(model, "inside", None)
    return entered(function, *arguments) if entered else function(model, *arguments)


@contextlib.contextmanager
def gathered(model: nn.Module, processes: Processes) -> Iterator[Processes]:
    """Hold a model's whole weights, for many calls that learn nothing.

    Yields:
        whom this process must keep in step with, call by call: nobody where the weights are
        gathered, every process where they do not fit and each call gathers them layer by layer.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if not parts:
        yield ALONE
        return
    if processes.any(not fits(model, processes.device)):
        yield processes
        return
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield ALONE
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not model, recurse=False)


def fits(model: Any, device: torch.device) -> bool:
    """Whether the device has room for a shared-out model's whole weights, as they are gathered."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return free > whole_size(model) + ROOM


def whole_size(model: Any) -> int:
    """Bytes of a shared-out model's gathered weights: layers in its precision, the others in float32."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    layers = sum(_weights(part) for part in parts if part is not model)
    lower, exact = int(model.precision.itemsize), torch.float32.itemsize
    return layers * lower + (_weights(model) - layers) * exact


def _weights(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


def plain(model: Any, processes: Processes, read: Callable[[], Any]) -> Any:
    """The model with its whole weights on the host, for the first process; the others end here.

    Args:
        read: makes the model anew, for the weights to be put into.
    """
    if processes.size == 1:
        return model.to("cpu")
    weights = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    processes.part()
    whole = read()
    whole.load_state_dict(weights)
    return whole


def own_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy on the host of this process's part of the weights, by name."""
    return {
        name: own_part(tensor).detach().clone().cpu() for name, tensor in model.state_dict().items()
    }


def put_weights(model: nn.Module, own: dict[str, Tensor]) -> None:
    """Give :func:`own_weights` back to the model."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            own_part(tensor).copy_(own[name])


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state, of this process's part of the weights."""
    state = optimiser.state_dict()
    moments = {
        place: {name: own_part(value) for name, value in entry.items()}
        for place, entry in state["state"].items()
    }
    return {**state, "state": moments}


def put_optimiser_state(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Give :func:`optimiser_state` back."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    moments = {
        place: {name: _as_part(value, weights[int(place)]) for name, value in entry.items()}
        for place, entry in saved["state"].items()
    }
    optimiser.load_state_dict({**saved, "state": moments})


def own_part(tensor: Any) -> Any:
    """A tensor as this process holds it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def number(tensor: Tensor) -> float:
    """A single value, wherever its parts are."""
    return float(tensor.full_tensor() if isinstance(tensor, DTensor) else tensor)


def _as_part(value: Any, weight: Tensor) -> Any:
    if not isinstance(weight, DTensor) or not isinstance(value, Tensor) or value.dim() == 0:
        return value
    return DTensor.from_local(
        value.to(weight.device),
        weight.device_mesh,
        weight.placements,
        run_check=False,
        shape=weight.shape,
        stride=weight.stride(),
    )


def _state(model: nn.Module) -> dict[str, Any]:
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _cast(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """Parameters alone: the rotary embedding's frequencies must not be rounded."""
    for weight in model.parameters():
        weight.data = weight.data.to(precision)
    return model


def _inside(self: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(self, *arguments)
