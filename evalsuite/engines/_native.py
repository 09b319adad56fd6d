"""The LLaMA family's forward pass, written out for a processor: LLaMA, Mistral, Qwen2, Qwen3.

The numbers are those of transformers' own modules, but for the last bits. What is different:

* A prefix that a batch shares is never copied. Queries attend to the prefix and to their own row apart,
  and the two are merged by their log-sum-exp, as in FlashAttention (Dao et al. 2022, arXiv 2205.14135).
* The last layer computes keys and values of every token, and everything else only where logits are wanted.
* Weights are laid out once for the processor's kernels (:mod:`evalsuite.engines._native_linear`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from evalsuite.engines._batching import common
from evalsuite.engines._meter import Meter
from evalsuite.engines._model import Model, attends_everywhere
from evalsuite.engines._native_linear import Linear

FAMILY = frozenset(
    {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
)
_ROTARY = frozenset({"default", "linear", "llama3", "yarn"})
"""Kinds of rotary embedding whose frequencies do not change with the length of the text."""

_LEAST_TAKEN = 32
"""Tokens that are worth taking from the prefix before."""


class Keys(NamedTuple):
    """Keys and values of one layer, each (rows, tokens, key-value heads, head width)."""

    keys: Any
    values: Any


class Prefix(NamedTuple):
    """A text computed once: its length, and keys and values (1, heads, length, width) of each layer.

    Heads are those of the queries: where several share a key, it stands several times.
    """

    length: int
    layers: tuple[Keys, ...]

    def cut(self, length: int) -> Prefix:
        """The beginning of it, ``length`` tokens, in the same memory."""
        parts = (Keys(keys[:, :, :length], values[:, :, :length]) for keys, values in self.layers)
        return Prefix(length, tuple(parts))


def is_native(module: Any) -> bool:
    """Whether :class:`NativeModel` computes this very model."""
    import torch

    config = module.config
    rope = getattr(config, "rope_parameters", None) or {}
    plain = all(
        type(part) is torch.nn.Linear and type(part.weight.data) is torch.Tensor
        for part in _linears(module)
    )
    return (
        type(module).__name__ in FAMILY
        and type(module).__module__.startswith("transformers.models.")
        and module.device.type == "cpu"
        and module.dtype in (torch.float32, torch.bfloat16)
        and getattr(config, "hidden_act", "") == "silu"
        and rope.get("rope_type", "default") in _ROTARY
        and float(rope.get("partial_rotary_factor") or 1.0) == 1.0
        and attends_everywhere(config)
        and plain
    )


class NativeLayer:
    """One decoder layer; takes the weights out of transformers' module, which loses them."""

    def __init__(self, module: Any, kind: type[Linear] = Linear) -> None:
        import torch

        attention, feed_forward = module.self_attn, module.mlp
        self.width = int(attention.head_dim)
        self.heads = attention.q_proj.out_features // self.width
        self.shared = attention.k_proj.out_features // self.width
        self.scale = float(attention.scaling)
        self.before_attention = _Norm(module.input_layernorm)
        self.before_feed_forward = _Norm(module.post_attention_layernorm)
        self.query_norm = _Norm(attention.q_norm) if hasattr(attention, "q_norm") else None
        self.key_norm = _Norm(attention.k_norm) if hasattr(attention, "k_norm") else None
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.query_key_value = kind(*_joined(projections))
        self.out = kind(*_joined((attention.o_proj,)))
        self.gate_up = kind(*_joined((feed_forward.gate_proj, feed_forward.up_proj)))
        self.down = kind(*_joined((feed_forward.down_proj,)))
        for part in (*projections, attention.o_proj, *feed_forward.children()):
            if isinstance(part, torch.nn.Linear):
                part.weight = torch.nn.Parameter(part.weight.new_empty(0), requires_grad=False)

    def project(self, hidden: Any, cos: Any, sin: Any) -> tuple[Any, Keys]:
        """Queries (B, S, heads, width), and keys and values (B, S, shared, width), rotated."""
        import torch

        rows, steps = hidden.shape[:2]
        mixed = self.query_key_value(self.before_attention(hidden))
        mixed = mixed.view(rows, steps, self.heads + 2 * self.shared, self.width)
        turned, values = mixed[:, :, : self.heads + self.shared], mixed[:, :, -self.shared :]
        if self.query_norm is not None and self.key_norm is not None:
            parts = (
                self.query_norm(turned[:, :, : self.heads]),
                self.key_norm(turned[:, :, self.heads :]),
            )
            turned = torch.cat(parts, 2)
        turned = rotated(turned, cos, sin)
        return turned[:, :, : self.heads], Keys(turned[:, :, self.heads :], values)

    def finish(self, hidden: Any, attended: Any) -> Any:
        """The residual stream after attention (…, heads · width) and feed-forward."""
        import torch

        hidden = hidden + self.out(attended)
        gate, up = self.gate_up(self.before_feed_forward(hidden)).chunk(2, -1)
        return hidden + self.down(torch.nn.functional.silu(gate).mul_(up))

    def expanded(self, kept: Any) -> Any:
        """(B, T, shared, width) → (B, heads, T, width): one key for each query head."""
        if self.shared != self.heads:
            rows, steps = kept.shape[:2]
            times = self.heads // self.shared
            kept = kept[:, :, :, None].expand(-1, -1, -1, times, -1)
            kept = kept.reshape(rows, steps, self.heads, self.width)
        return kept.transpose(1, 2)


class NativeModel(Model):
    """A model of the family, asked in the same ways as any other.

    Args:
        module: one that :func:`is_native`; its linear weights move here.
    """

    def __init__(self, module: Any) -> None:
        self.meter = Meter()
        self.shares = self.nests = True
        self.device = module.device
        self.rows = int(module.get_input_embeddings().weight.shape[0])
        self.vocabulary = int(module.lm_head.out_features)
        self.dtype = module.dtype
        self._embed = module.model.embed_tokens.weight.detach()
        self._rotary = module.model.rotary_emb
        self._norm = _Norm(module.model.norm)
        self._head = Linear(module.lm_head.weight.detach())
        linear = sum(part.weight.nbytes for part in _linears(module.model.layers))
        norms = sum(w.nbytes for w in module.model.parameters() if w.dim() == 1)
        self._weight_bytes = self._embed.nbytes + module.lm_head.weight.nbytes + linear + norms
        self.layers = [NativeLayer(layer) for layer in module.model.layers]
        self._latest: tuple[Sequence[int], Prefix | None] = ((), None)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights; a head that is tied to the embedding has a prepared copy."""
        return int(self._weight_bytes)

    def embedded(self, ids: Any, positions: Any) -> tuple[Any, Any, Any]:
        """Hidden states (B, S, hidden), and cosines and sines (B, S, 1, width)."""
        import torch

        self.meter.passed(ids)
        hidden = torch.nn.functional.embedding(ids, self._embed)
        cos, sin = self._rotary(hidden, position_ids=positions)
        return hidden, cos[:, :, None], sin[:, :, None]

    def head(self, hidden: Any) -> Any:
        """Logits (n, vocabulary) of hidden states (n, hidden), in float32."""
        return self._head(self._norm(hidden)).float()

    def logits(
        self,
        ids: Any,
        places: tuple[Any, Any],
        *,
        positions: Any = None,
        mask: Any = None,
        cache: Prefix | None = None,
        kept: list[Keys] | None = None,
    ) -> Any:
        """Logits in float32 at ``places`` only, as :meth:`evalsuite.engines._model.Model.logits`.

        Args:
            places: row numbers, ascending, and time steps of the logits wanted, two tensors (n,).
            mask: (batch, 1, time, cached + time) of bool, all of the cached part seen; None is causal.
            kept: gets the keys and values of every layer.
        """
        import torch

        with torch.no_grad():
            begun = 0 if cache is None else cache.length
            if positions is None:
                positions = torch.arange(begun, begun + ids.shape[1]).expand(ids.shape)
            hidden, cos, sin = self.embedded(ids, positions)
            mask = None if mask is None else _additive(mask[..., begun:], hidden.dtype)
            for layer, prefix in zip(self.layers, self._prefixes(cache), strict=True):
                queries, own = layer.project(hidden, cos, sin)
                if kept is not None:
                    kept.append(own)
                if layer is self.layers[-1]:
                    return self._last(layer, hidden, queries, own, places, mask, prefix)
                attended = _attend(layer, queries, own, mask, prefix)
                hidden = layer.finish(hidden, attended)
        raise AssertionError("a model without layers")

    def _last(
        self,
        layer: NativeLayer,
        hidden: Any,
        queries: Any,
        own: Keys,
        places: tuple[Any, Any],
        mask: Any,
        prefix: Keys | None,
    ) -> Any:
        """The last layer, at ``places`` alone."""
        attended = _attend_at(layer, queries, own, places, mask, prefix)
        return self.head(layer.finish(hidden[places], attended))

    def _prefixes(self, cache: Prefix | None) -> Iterator[Keys | None]:
        yield from (None,) * len(self.layers) if cache is None else cache.layers

    def prefix(self, ids: Sequence[int]) -> Prefix | None:
        """Keys and values of ``ids``, computed once; None where there are none, or that fails.

        What ``ids`` share with those asked for last is taken from there. Asked in sorted order, the
        prefixes are a trie walked depth first, and every node of it is computed once.
        """
        import torch

        if not ids:
            return None
        before, latest = self._latest
        shared = common(before, ids, len(ids))
        begun = None if latest is None or shared < _LEAST_TAKEN else latest.cut(shared)
        if begun is not None and shared == len(ids):
            return begun
        rest = ids if begun is None else ids[shared:]
        kept: list[Keys] = []
        first = torch.zeros(1, dtype=torch.long)
        try:
            self.logits(torch.tensor([list(rest)]), (first, first), cache=begun, kept=kept)
        except Exception:
            return None
        own = [
            Keys(*map(layer.expanded, part)) for layer, part in zip(self.layers, kept, strict=True)
        ]
        if begun is None:
            layers = [Keys(keys.contiguous(), values.contiguous()) for keys, values in own]
        else:
            pairs = zip(begun.layers, own, strict=True)
            layers = [
                Keys(*(torch.cat(both, 2) for both in zip(*pair, strict=True))) for pair in pairs
            ]
        self._latest = (ids, Prefix(len(ids), tuple(layers)))
        return self._latest[1]

    def repeated(self, prefix: Prefix, batch: int) -> Prefix:
        """The prefix itself: a batch of any size shares it."""
        return prefix


class _Norm:
    """Root mean square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, module: Any) -> None:
        self.weight = module.weight.detach()
        self.epsilon = float(module.variance_epsilon)

    def __call__(self, x: Any) -> Any:
        import torch

        return torch.nn.functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


def rotated(x: Any, cos: Any, sin: Any) -> Any:
    """Rotary embedding (Su et al. 2021, arXiv 2104.09864) of (B, S, heads, width), halves as in LLaMA."""
    import torch

    first, second = x.chunk(2, -1)
    return torch.addcmul(x * cos, torch.cat((-second, first), -1), sin)


def _attend(layer: NativeLayer, queries: Any, own: Keys, mask: Any, prefix: Keys | None) -> Any:
    """Attention of every token to its row and to the prefix: (B, S, heads · width)."""
    rows, steps = queries.shape[:2]
    attended, mass = _flash(
        queries.transpose(1, 2),
        layer.expanded(own.keys),
        layer.expanded(own.values),
        layer.scale,
        mask=mask,
        causal=mask is None,
    )
    attended = attended.transpose(1, 2)
    if prefix is not None:
        all_rows = queries.reshape(1, rows * steps, layer.heads, layer.width).transpose(1, 2)
        before, before_mass = _flash(all_rows, prefix.keys, prefix.values, layer.scale)
        before = before.transpose(1, 2).reshape(attended.shape)
        share = before_mass.transpose(1, 2).reshape(rows, steps, layer.heads)
        share = (share - mass.transpose(1, 2)).sigmoid()[..., None].to(attended.dtype)
        attended = attended + (before - attended) * share
    return attended.reshape(rows, steps, layer.heads * layer.width)


def _attend_at(
    layer: NativeLayer,
    queries: Any,
    own: Keys,
    places: tuple[Any, Any],
    mask: Any,
    prefix: Keys | None,
) -> Any:
    """As :func:`_attend`, at ``places`` alone: (n, heads · width)."""
    import torch

    rows, steps = queries.shape[:2]
    at_rows, at_steps = places
    counts = torch.bincount(at_rows, minlength=rows)
    most = int(counts.max())
    slot = torch.arange(len(at_rows)) - (counts.cumsum(0) - counts)[at_rows]
    wanted = queries.new_zeros(rows, most, layer.heads, layer.width)
    wanted[at_rows, slot] = queries[places]
    wanted = wanted.transpose(1, 2)
    if mask is None:
        seen = torch.arange(steps) <= at_steps[:, None]
        own_mask = _additive(seen, queries.dtype)
    else:
        own_mask = mask[at_rows, 0, at_steps]
    spread = queries.new_zeros(rows, 1, most, steps)
    spread[at_rows, 0, slot] = own_mask
    scores = wanted @ layer.expanded(own.keys).transpose(-1, -2) * layer.scale + spread
    values = layer.expanded(own.values)
    if prefix is None:
        attended = scores.float().softmax(-1).to(values.dtype) @ values
    else:
        before = wanted @ prefix.keys.transpose(-1, -2) * layer.scale
        weights = torch.cat((before, scores), -1).float().softmax(-1).to(values.dtype)
        length = before.shape[-1]
        attended = weights[..., :length] @ prefix.values + weights[..., length:] @ values
    return attended.transpose(1, 2)[at_rows, slot].reshape(len(at_rows), -1)


def _flash(
    queries: Any, keys: Any, values: Any, scale: float, *, mask: Any = None, causal: bool = False
) -> tuple[Any, Any]:
    """Attention (B, H, S, D) and the log of its normaliser (B, H, S) in float32."""
    import torch

    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    attended, mass = operator(queries, keys, values, 0.0, causal, attn_mask=mask, scale=scale)
    return attended, mass


def _additive(seen: Any, dtype: Any) -> Any:
    """0 where ``seen``, minus infinity elsewhere."""
    import torch

    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -math.inf)


def _linears(module: Any) -> list[Any]:
    import torch

    return [part for part in module.modules() if isinstance(part, torch.nn.Linear)]


def _joined(parts: Sequence[Any]) -> tuple[Any, Any]:
    """Weights (and biases, where there are any) of linear layers with one input, one below another."""
    import torch

    weight = torch.cat([part.weight.detach() for part in parts])
    if all(part.bias is None for part in parts):
        return weight, None
    biases = [
        part.weight.new_zeros(part.out_features) if part.bias is None else part.bias.detach()
        for part in parts
    ]
    return weight, torch.cat(biases)
