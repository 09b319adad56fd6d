"""A causal language model of transformers, asked for just the logits that are needed."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from evalsuite.engines._meter import Meter


class Model:
    """The forward pass, with logits at chosen positions only and a shared prefix.

    Args:
        module: a causal language model as transformers loads it.

    Attributes:
        rows: rows of the embedding.
        vocabulary: columns of the logits.
        shares: whether a prefix computed once, and rows that branch, give the same numbers as
            separate rows. That needs an architecture that takes positions and a mask from outside
            and attends to all it is shown; others are computed row by row in full.
        nests: whether a prefix begins where it parts from the one before.
        meter: counts the passes.
    """

    nests = False

    def __init__(self, module: Any) -> None:
        self.meter = Meter()
        self._module = module
        self._head = module.get_output_embeddings()
        self.rows = int(module.get_input_embeddings().weight.shape[0])
        self.vocabulary = int(self._head.out_features)
        self.device = module.device
        accepted = inspect.signature(module.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self.shares = self._takes_positions and _shares(module)

    def logits(
        self,
        ids: Any,
        places: tuple[Any, Any],
        *,
        positions: Any = None,
        mask: Any = None,
        cache: Any = None,
    ) -> Any:
        """Logits in float32 at ``places`` only, so that no (batch, time, vocabulary) tensor exists.

        The head is left to the model's own ``forward``, with a hook that hands it the chosen hidden
        states, because some architectures scale or cap the logits after it.

        Args:
            ids: (batch, time) token ids.
            places: row numbers and time steps of the logits wanted, two tensors (n,).
            positions: (batch, time), where they do not simply count from the cache's end.
            mask: (batch, cached + time) of 0 and 1, or (batch, 1, time, cached + time) of bool.
            cache: keys and values to start from; it grows.

        Returns:
            Tensor (n, vocabulary).
        """
        import torch

        self.meter.passed(ids)
        arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if positions is not None and self._takes_positions:
            arguments["position_ids"] = positions
        hook = self._head.register_forward_pre_hook(
            lambda _, inputs: (inputs[0][places].unsqueeze(0),)
        )
        try:
            with torch.no_grad():
                output = self._module(
                    **arguments,
                    past_key_values=cache,
                    use_cache=cache is not None,
                    return_dict=True,
                )
                return output.logits[0].float()
        finally:
            hook.remove()

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as they are computed with."""
        total = 0
        for weight in self._module.parameters():
            parts = [weight.data]
            if hasattr(weight.data, "__tensor_flatten__"):  # quantised: codes, scales, zeros
                names, _ = weight.data.__tensor_flatten__()
                parts = [getattr(weight.data, name) for name in names]
            total += sum(part.numel() * part.element_size() for part in parts if part is not None)
        return total

    def new_cache(self) -> Any:
        """An empty cache of keys and values."""
        from transformers import DynamicCache

        return DynamicCache(config=self._module.config)

    def prefix(self, ids: Sequence[int]) -> Any:
        """Keys and values of ``ids``, computed once.

        None where there are no ids, or where one pass over them fails: then rows are computed
        whole, and those that fail too say why.
        """
        import torch

        if not ids:
            return None
        cache = self.new_cache()
        first = torch.zeros(1, dtype=torch.long, device=self.device)
        try:
            self.logits(torch.tensor([list(ids)], device=self.device), (first, first), cache=cache)
        except Exception:
            return None
        return cache

    def repeated(self, prefix: Any, batch: int) -> Any:
        """A cache of ``batch`` rows that begin with ``prefix``; only its growth takes memory."""
        cache = self.new_cache()
        for layer, shared in zip(cache.layers, prefix.layers, strict=True):
            layer.lazy_initialization(shared.keys, shared.values)
            layer.keys = shared.keys.expand(batch, -1, -1, -1)
            layer.values = shared.values.expand(batch, -1, -1, -1)
        return cache


def _shares(module: Any) -> bool:
    config = module.config.get_text_config()
    sdpa = getattr(config, "_attn_implementation", "") == "sdpa"
    backend = getattr(module, "_supports_attention_backend", False)
    return bool(attends_everywhere(config) and sdpa and backend)


def attends_everywhere(config: Any) -> bool:
    """Whether every layer attends to all that came before, with no window."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        window = getattr(config, "sliding_window", None)
        return window is None or getattr(config, "use_sliding_window", True) is False
    return all(kind == "full_attention" for kind in kinds)
