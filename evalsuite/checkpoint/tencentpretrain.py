"""TencentPretrain's ``.bin`` of a LLaMA, both ways.

The weights are the same as in Hugging Face's layout under other names, but for the rows of queries
and keys. Rotary embeddings turn pairs of numbers; TencentPretrain, as LLaMA's first release, pairs
neighbours (2i, 2i+1), Hugging Face pairs halves (i, i + d/2). So within each head of d rows, row 2i
there is row i here, and row 2i+1 there is row i + d/2 here.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.checkpoint.card import CARD
from evalsuite.checkpoint.identity import companions
from evalsuite.checkpoint.plain import read_json_object
from evalsuite.checkpoint.shards import ShardWriter
from evalsuite.checkpoint.tensors import TensorFolder, load_pickled
from evalsuite.errors import BadCheckpoint

if TYPE_CHECKING:
    import torch

EMBEDDING = "embedding.word.embedding.weight"
WEIGHTS = "tencentpretrain.bin"
_HEAD = "target.lm.output_layer.weight"
_OUTER = {
    EMBEDDING: "model.embed_tokens.weight",
    "encoder.layer_norm.weight": "model.norm.weight",
    _HEAD: "lm_head.weight",
}
_LAYER = {
    "self_attn.linear_layers.0.weight": "self_attn.q_proj.weight",
    "self_attn.linear_layers.1.weight": "self_attn.k_proj.weight",
    "self_attn.linear_layers.2.weight": "self_attn.v_proj.weight",
    "self_attn.final_linear.weight": "self_attn.o_proj.weight",
    "layer_norm_1.weight": "input_layernorm.weight",
    "layer_norm_2.weight": "post_attention_layernorm.weight",
    "feed_forward.linear_gate.weight": "mlp.gate_proj.weight",
    "feed_forward.linear_1.weight": "mlp.up_proj.weight",
    "feed_forward.linear_2.weight": "mlp.down_proj.weight",
}
_INVERSE = {there: here for here, there in _LAYER.items()}
_THETA = 10000.0
"""Base of the rotary frequencies; a constant in TencentPretrain's code."""

_LLAMA = {
    "embedding": ["word"],
    "encoder": "transformer",
    "mask": "causal",
    "feed_forward": "gated",
    "hidden_act": "silu",
    "layernorm": "rms",
    "layernorm_positioning": "pre",
    "remove_transformer_bias": True,
    "remove_embedding_layernorm": True,
    "rotary_position_embedding": True,
    "target": ["lm"],
}
"""What makes a TencentPretrain model a LLaMA."""

_TOKENIZER = {
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "clean_up_tokenization_spaces": False,
}
"""LLaMA's, for a folder with nothing but ``tokenizer.model``."""


def find_weights(path: Path) -> Path | None:
    """The TencentPretrain file that ``path`` is, or that the folder holds; None if it is none.

    The content decides: a pickled dictionary with TencentPretrain's name for the embedding.
    """
    if path.is_file():
        return path if path.suffix in (".bin", ".pt") and _is_ours(path) else None
    pickles = [file for file in sorted(path.glob("*.bin")) if file.name != "training_args.bin"]
    found = [file for file in pickles if _is_ours(file)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise BadCheckpoint("several models", where=str(path), hint=f"name one of {names}")
    return found[0] if found else None


def find_config(weights: Path) -> Path:
    """The model's configuration: beside it, named after it, ``config.json``, or the only one.

    Raises:
        BadCheckpoint: there is none, or several might be it.
    """
    folder, stem = weights.parent, weights.stem
    for name in (f"{stem}.json", f"{stem}_config.json", "config.json"):
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob("*config.json"))
    others = [
        f for f in others if f.name not in ("tokenizer_config.json", "generation_config.json")
    ]
    if len(others) != 1:
        raise BadCheckpoint(
            "no configuration beside it" if not others else "several configurations beside it",
            where=str(weights),
            hint=f"put TencentPretrain's JSON at {folder / (stem + '.json')}",
        )
    return others[0]


def to_huggingface(weights: Path, folder: Path) -> None:
    """Write a TencentPretrain LLaMA and the tokenizer beside it as a plain folder.

    Raises:
        BadCheckpoint: not a LLaMA, a weight is missing, or a file is damaged.
    """
    file = find_config(weights)
    settings = read_json_object(file, str(file))
    state = {name: t for name, t in load_pickled(weights)[0].items() if hasattr(t, "shape")}
    config = _huggingface_config(settings, state, file)
    with ShardWriter(folder) as writer:
        for name, tensor in _renamed(state, config, weights):
            writer.add(name, tensor)
    for companion in companions(weights.parent):
        if companion != file:
            shutil.copyfile(companion, folder / companion.name)
    if (weights.parent / CARD).is_file():
        shutil.copyfile(weights.parent / CARD, folder / CARD)
    if (folder / "tokenizer.model").is_file() and not (folder / "tokenizer_config.json").is_file():
        _write_json(folder / "tokenizer_config.json", _TOKENIZER)
    _write_json(folder / "config.json", config)


def from_huggingface(source: Path, folder: Path) -> None:
    """Write a plain LLaMA folder as ``tencentpretrain.bin`` with its JSON and tokenizer.

    The whole model is in memory once: that is how torch writes a ``.bin``.

    Raises:
        BadCheckpoint: not a LLaMA, or one that TencentPretrain computes otherwise.
    """
    import torch

    config = read_json_object(source / "config.json", str(source))
    settings = _tencentpretrain_config(config, str(source))
    heads, groups = settings["heads_num"], settings.get("local_kv_head_num", settings["heads_num"])
    tensors = TensorFolder(source)
    state: dict[str, torch.Tensor] = {}
    outer = {there: here for here, there in _OUTER.items()}
    for name in tensors.names:
        if "rotary_emb.inv_freq" in name:
            continue
        layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
        ours = outer.get(name)
        if layer and layer[2] in _INVERSE:
            ours = f"encoder.transformer.{layer[1]}.{_INVERSE[layer[2]]}"
        if ours is None:
            raise BadCheckpoint(f"TencentPretrain has no place for {name}", where=str(source))
        tensor = tensors.read(name)
        if name.endswith("q_proj.weight"):
            tensor = neighbours_from_halves(tensor, heads)
        elif name.endswith("k_proj.weight"):
            tensor = neighbours_from_halves(tensor, groups)
        state[ours] = tensor
    state.setdefault(_HEAD, state[EMBEDDING])
    torch.save(state, folder / WEIGHTS)
    _write_json(folder / "config.json", settings)
    for companion in companions(source):
        if companion.name not in ("config.json", "generation_config.json"):
            shutil.copyfile(companion, folder / companion.name)
    if (source / CARD).is_file():
        shutil.copyfile(source / CARD, folder / CARD)


def halves_from_neighbours(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder rows ``[heads · d, hidden]`` from pairs (2i, 2i+1) to pairs (i, i + d/2)."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape).contiguous()


def neighbours_from_halves(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of :func:`halves_from_neighbours`."""
    pairs = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape).contiguous()


def _renamed(
    state: dict[str, torch.Tensor], config: dict[str, Any], weights: Path
) -> Iterator[tuple[str, torch.Tensor]]:
    def take(name: str) -> torch.Tensor:
        if name not in state:
            raise BadCheckpoint(
                f"the weight {name} is missing", where=str(weights), hint="save the model again"
            )
        return state[name]

    turned: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "self_attn.q_proj.weight": lambda w: halves_from_neighbours(
            w, config["num_attention_heads"]
        ),
        "self_attn.k_proj.weight": lambda w: halves_from_neighbours(
            w, config["num_key_value_heads"]
        ),
    }
    for there, here in _OUTER.items():
        if there != _HEAD or not config["tie_word_embeddings"]:
            yield here, take(there)
    for layer in range(config["num_hidden_layers"]):
        for there, here in _LAYER.items():
            tensor = take(f"encoder.transformer.{layer}.{there}")
            try:
                tensor = turned[here](tensor) if here in turned else tensor
            except RuntimeError:
                raise BadCheckpoint(
                    f"{there} of layer {layer} has {tensor.shape[0]} rows, which do not divide "
                    "into the configuration's heads",
                    where=str(weights),
                    hint="give the JSON that the model was trained with",
                ) from None
            yield f"model.layers.{layer}.{here}", tensor
    known = {
        f"encoder.transformer.{n}.{k}" for n in range(config["num_hidden_layers"]) for k in _LAYER
    }
    foreign = sorted(n for n in state if n.startswith("encoder.") and n not in known | set(_OUTER))
    if foreign:
        raise BadCheckpoint(
            f"{len(foreign)} weights belong to no part of a LLaMA: {foreign[0]}",
            where=str(weights),
            hint="give the JSON that the model was trained with",
        )


def _huggingface_config(
    settings: dict[str, Any], state: dict[str, torch.Tensor], file: Path
) -> dict[str, Any]:
    for key, wanted in _LLAMA.items():
        if settings.get(key, wanted) != wanted:
            raise BadCheckpoint(
                f"not a LLaMA: {key} is {settings[key]!r}, not {wanted!r}",
                where=str(file),
                hint="only LLaMA models are converted",
            )
    try:
        heads = int(settings["heads_num"])
        tied = _HEAD not in state
        if tied and not settings.get("tie_weights"):
            raise BadCheckpoint(f"the weight {_HEAD} is missing", where=str(file))
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": int(state[EMBEDDING].shape[0]),
            "hidden_size": int(settings["hidden_size"]),
            "intermediate_size": int(settings["feedforward_size"]),
            "num_hidden_layers": int(settings["layers_num"]),
            "num_attention_heads": heads,
            "num_key_value_heads": int(settings.get("local_kv_head_num", heads)),
            "max_position_embeddings": int(settings.get("max_seq_length", 2048)),
            "hidden_act": "silu",
            "rms_norm_eps": float(settings.get("layernorm_eps", 1e-6)),
            "rope_theta": _THETA,
            "tie_word_embeddings": tied,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "dtype": str(state[EMBEDDING].dtype).removeprefix("torch."),
        }
    except KeyError as fault:
        raise BadCheckpoint(f"no key {fault} in the configuration", where=str(file)) from None
    except (TypeError, ValueError) as fault:
        raise BadCheckpoint(f"a value is no number: {fault}", where=str(file)) from None


def _tencentpretrain_config(config: dict[str, Any], source: str) -> dict[str, Any]:
    from transformers import AutoConfig

    if config.get("model_type") != "llama":
        raise BadCheckpoint(
            f"not a LLaMA: model_type is {config.get('model_type')!r}",
            where=source,
            hint="only LLaMA models are converted to TencentPretrain",
        )
    llama: Any = AutoConfig.for_model(**config)
    rope = llama.rope_parameters
    for what, is_so in {
        f"rotary frequencies of base {rope.get('rope_theta')}": rope.get("rope_theta") != _THETA,
        f"rotary scaling {rope.get('rope_type')}": rope.get("rope_type", "default") != "default",
        "biases": llama.attention_bias or llama.mlp_bias,
        f"the activation {llama.hidden_act}": llama.hidden_act != "silu",
        f"heads of {llama.head_dim}": llama.head_dim * llama.num_attention_heads
        != llama.hidden_size,
    }.items():
        if is_so:
            raise BadCheckpoint(f"TencentPretrain's LLaMA has no {what}", where=source)
    grouped = llama.num_key_value_heads != llama.num_attention_heads
    return {
        "emb_size": llama.hidden_size,
        "hidden_size": llama.hidden_size,
        "feedforward_size": llama.intermediate_size,
        "heads_num": llama.num_attention_heads,
        **({"local_kv_head_num": llama.num_key_value_heads} if grouped else {}),
        "layers_num": llama.num_hidden_layers,
        "max_seq_length": llama.max_position_embeddings,
        "layernorm_eps": llama.rms_norm_eps,
        "dropout": 0.0,
        "data_processor": "lm",
        **_LLAMA,
    }


def _is_ours(file: Path) -> bool:
    try:
        return EMBEDDING in load_pickled(file)[0]
    except BadCheckpoint:
        return False


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
