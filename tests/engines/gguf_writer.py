"""A LLaMA in Hugging Face layout as one GGUF file, written with the ``gguf`` package alone.

llama.cpp rotates neighbouring dimensions of a head where Hugging Face rotates the two halves, so the
rows of the query and key projections change places. Also a command:

    python tests/engines/gguf_writer.py FOLDER FILE.gguf F16
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_gguf(folder: Path, file: Path, kind: str, *, tokenizer: bool = True) -> Path:
    """Write ``file``; matrices in ``kind``, norms in float32.

    Args:
        kind: a name of ``gguf.GGMLQuantizationType``: F32, F16, BF16, Q8_0, Q4_0.
        tokenizer: put the folder's SentencePiece vocabulary in; without, the file has none.
    """
    import gguf

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(file, "llama")
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    stored = "ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"
    writer.add_file_type(gguf.LlamaFileType[stored])
    _add_vocabulary(writer, folder, config["vocab_size"], tokenizer)
    scheme = gguf.GGMLQuantizationType[kind]
    for name, tensor in _tensors(folder).items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = _interleaved(tensor, heads if "q_proj" in name else key_heads)
        kept = tensor.ndim == 1
        data = tensor if kept else gguf.quants.quantize(tensor, scheme)
        raw = None if kept or kind in ("F32", "F16") else scheme
        writer.add_tensor(_gguf_name(name), data, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    import torch
    from safetensors.torch import load_file as load

    if json.loads((folder / "config.json").read_text())["dtype"] == "float32":
        return load_file(folder / "model.safetensors")
    weights = load(folder / "model.safetensors")
    return {name: tensor.to(torch.float32).numpy() for name, tensor in weights.items()}


def _gguf_name(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_LAYER[rest.removesuffix('.weight')]}.weight"


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows (head, half, pair) → (head, pair, half)."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def _add_vocabulary(writer, folder: Path, rows: int, tokenizer: bool) -> None:
    if not tokenizer:
        writer.add_tokenizer_model("none")
        return
    import gguf
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    tokens, scores, types = [], [], []
    for i in range(rows):
        if i >= len(model):  # rows of the embedding that are no token
            tokens.append(f"[PAD{i}]".encode())
            scores.append(-1000.0)
            types.append(gguf.TokenType.UNUSED)
            continue
        tokens.append(model.id_to_piece(i).encode())
        scores.append(model.get_score(i))
        kind = gguf.TokenType.NORMAL
        if model.is_unknown(i):
            kind = gguf.TokenType.UNKNOWN
        elif model.is_control(i):
            kind = gguf.TokenType.CONTROL
        elif model.is_byte(i):
            kind = gguf.TokenType.BYTE
        types.append(kind)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
