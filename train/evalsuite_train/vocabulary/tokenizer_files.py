"""The tokenizer files of a checkpoint: SentencePiece's own and Hugging Face's, equal in every id.

transformers 5 offers no safe conversion: ``LlamaTokenizer(vocab_file=…)`` ignores the file and
gives a tokenizer of three tokens without a word. So tokenizer.json is made here from the pieces,
and nothing is written before both tokenizers gave the same ids for many texts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from evalsuite_train.errors import TrainError
from evalsuite_train.vocabulary.model import NORMAL, SPECIAL, parsed

CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    # Padding must not be the end of a reply; byte fallback leaves <unk> free for it, as in Ziya.
    "pad_token": "<unk>",
    "model_max_length": 4096,
    "add_bos_token": True,
    "add_eos_token": False,
    "clean_up_tokenization_spaces": False,
}
PROBES = (
    "",
    " ",
    "\n",
    "\r\n",
    "\tTab",
    "你好，世界！",
    "Hello, world!",
    " leading space",
    "  two",
    "tail  ",
    "a\nb\n\nc",
    "答案： B",
    "𠮷野家龘靐",
    "emoji 😀👍🏽",
    "naïve café e\u0301",
    "<human>:你好\n<bot>:",
    "3+5=8 <<3+5=8>>8 #### 8 12.5% $100",
    "１２３ＡＢＣ　全角空格",
    "けものフレンズ Привет",
    "def f(x):\n    return  x ** 2\n",
    "\u200b zero \u0000 nul \ufeff mark",
    *(run * count for run in " a哈-=0" for count in range(2, 40)),
    "a" * 40 + " " * 17 + "哈" * 33,
)


def write_tokenizer(
    folder: Path, model: bytes, chat_template: str | None = None, probes: Iterable[str] = ()
) -> None:
    """Write tokenizer.model, tokenizer.json and their settings into a checkpoint's folder.

    Each file appears as a whole, and only after the check.

    Args:
        chat_template: a Jinja template for chat_template.jinja; None leaves an existing one alone.
        probes: texts to compare beside the built-in ones and every single piece.

    Raises:
        TrainError: the two tokenizers give different ids, or a text does not come back exactly.
    """
    proto = parsed(model)
    fast = fast_tokenizer(proto)
    check(model, fast, [*PROBES, *probes, *_piece_texts(proto)])
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    files = {
        "tokenizer.model": model,
        "tokenizer.json": fast.to_str(pretty=True).encode(),
        "tokenizer_config.json": _pretty(CONFIG),
        "special_tokens_map.json": _pretty({name: CONFIG[name] for name in names}),
    }
    if chat_template is not None:
        files["chat_template.jinja"] = chat_template.encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".tokenizer.") as half:
            for name, content in files.items():
                (Path(half) / name).write_bytes(content)
            for name in files:
                (Path(half) / name).replace(folder / name)
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise TrainError(f"cannot write the tokenizer: {reason}", where=str(folder)) from fault


def fast_tokenizer(proto: pb.ModelProto) -> Tokenizer:
    """The Hugging Face tokenizer that gives the same ids as SentencePiece, with ``<s>`` in front."""
    tokenizer = Tokenizer(
        models.BPE(
            vocab={p.piece: i for i, p in enumerate(proto.pieces)},
            merges=merges(proto),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in SPECIAL.values()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def merges(proto: pb.ModelProto) -> list[tuple[str, str]]:
    """The merge rules, best piece first, recovered from the pieces and their scores.

    SentencePiece stores no rules: it joins the neighbours whose union is the best-scored piece.
    Every cut of a piece into two pieces is therefore a rule of that piece's rank. Among the cuts
    of one piece SentencePiece takes the leftmost in the text; rules need an order, and the longest
    left part first agrees where the order matters, in runs of one character (16 spaces).
    """
    scores = {p.piece: p.score for p in proto.pieces if p.type == NORMAL}
    rules = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                rules.append((-score, -len(left), left, right))
    return [(left, right) for _, _, left, right in sorted(rules)]


def check(model: bytes, fast: Tokenizer, texts: Iterable[str]) -> int:
    """Compare both tokenizers on ``texts``; returns how many there were.

    ``▁`` itself is left out, since SentencePiece writes a space so, and so are the special
    tokens' names, which only Hugging Face reads as tokens.

    Raises:
        TrainError: the first text whose ids differ or which does not come back exactly.
    """
    slow = spm.SentencePieceProcessor(model_proto=model)
    lines = [t for t in texts if "▁" not in t and not any(s in t for s in SPECIAL.values())]
    ids = slow.encode(lines)
    fast_ids = fast.encode_batch(lines, add_special_tokens=False)
    back = slow.decode(ids)
    fast_back = fast.decode_batch(ids)
    for line, want, got, once, twice in zip(lines, ids, fast_ids, back, fast_back, strict=True):
        if want != got.ids:
            raise TrainError(
                f"{line[:60]!r} is {want[:12]} for SentencePiece and {got.ids[:12]} as converted",
                where="the converted tokenizer",
                hint="the model merges in a way that tokenizer.json cannot express; retrain it",
            )
        if not once == twice == line:
            raise TrainError(
                f"{line[:60]!r} comes back as {once[:60]!r} and {twice[:60]!r}",
                where="the converted tokenizer",
                hint="use a model without normalisation and with byte fallback",
            )
    return len(lines)


def _piece_texts(proto: pb.ModelProto) -> list[str]:
    return [p.piece.replace("▁", " ") for p in proto.pieces if p.type == NORMAL]


def _pretty(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
