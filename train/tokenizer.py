"""Train the SentencePiece model and write it as a Hugging Face tokenizer too."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import arithmetic
import chat
import facts
import news
import parallel
import sentencepiece as spm
from corpus import pt_documents
from hanzi import LEVEL_1
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

PIECES = 5000
PUNCTUATION = "，。、；：？！“”‘’（）《》〈〉【】…—～·￥％×÷＝＋－√°℃"
PROBES = [
    "你好，世界！",
    "Hello, world!",
    " leading space",
    "  two",
    "tail  ",
    "a\nb\n\nc",
    "\n",
    "",
    " ",
    "3+5=8",
    "答案是：B",
    "答案： B",
    "𠮷野家龘靐",
    "emoji 😀👍🏽",
    "naïve café",
    "\tTab",
    "<human>:你好\n<bot>:",
    "一二三 ABC 12.5% $100",
    "１２３ＡＢＣ",
    "けものフレンズ",
    "Привет",
    "#### 8",
    "<<3+5=8>>8",
    "a" * 40,
    "　全角空格",
    "e\u0301 combining",
    "\u200b zero",
    "\r\n",
]


def lines(seed: int, count: int) -> Iterator[str]:
    """Yield text without any prompt layout, so that pieces go to words and not to instructions."""
    rng = Random(seed)
    for _ in range(count):
        zh, en = parallel.sentence_pair(rng)
        problem = arithmetic.make_problem(rng)
        yield from (zh, en, en, problem.zh, problem.en, problem.en)
        yield from arithmetic.gsm8k_answer(problem).split("\n")
        yield news.topic_text(rng)[0]
        yield news.entity_sentence(rng)[0]
        yield facts.statement(rng)
        yield from chat.open_turn(rng)[1].split("\n")


def train(text: Iterator[str], pieces: int) -> bytes:
    """Train with LLaMA's conventions; every Hanzi of level 1 is its own piece."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=text,
        model_writer=model,
        model_type="bpe",
        vocab_size=pieces,
        character_coverage=1.0,
        required_chars=LEVEL_1 + PUNCTUATION + "".join(map(chr, range(0x21, 0x7F))),
        byte_fallback=True,
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        split_digits=True,
        max_sentencepiece_length=10,
        allow_whitespace_only_pieces=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        unk_surface=" ⁇ ",
        max_sentence_length=16384,
        num_threads=2,
        minloglevel=2,
    )
    return model.getvalue()


def merges(proto: pb.ModelProto) -> list[tuple[str, str]]:
    """Recover the merge rules, best piece first, from the pieces and their scores."""
    scores = {p.piece: p.score for p in proto.pieces if p.type == p.NORMAL}
    rules = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                rules.append((-score, -scores[left], left, right))
    return [(left, right) for _, _, left, right in sorted(rules)]


def fast_tokenizer(proto: pb.ModelProto) -> Tokenizer:
    """Build the tokenizer that gives the same ids as SentencePiece."""
    vocab = {p.piece: i for i, p in enumerate(proto.pieces)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab, merges=merges(proto), unk_token="<unk>", fuse_unk=True, byte_fallback=True
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
        [AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": None,
    "model_max_length": 4096,
    "add_bos_token": True,
    "add_eos_token": False,
    "clean_up_tokenization_spaces": False,
}
ZIYA = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<human>:' + message['content'] + '\\n<bot>:' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ('' if loop.last else '\\n') }}{% endif %}{% endfor %}"
)


def write(folder: Path, model: bytes, chat: bool) -> None:
    """Write every tokenizer file into a checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    proto = pb.ModelProto.FromString(model)
    (folder / "tokenizer.model").write_bytes(model)
    fast_tokenizer(proto).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8"
    )
    (folder / "special_tokens_map.json").write_text(
        json.dumps({k: CONFIG[k] for k in ("bos_token", "eos_token", "unk_token")}, indent=2)
        + "\n",
        encoding="utf-8",
    )
    if chat:
        (folder / "chat_template.jinja").write_text(ZIYA, encoding="utf-8")


def check(folder: Path, texts: list[str]) -> int:
    """Compare the folder's two tokenizers on many texts; return how many were compared."""
    from transformers import AutoTokenizer

    slow = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    fast = AutoTokenizer.from_pretrained(folder)
    for text in texts:
        ids = slow.encode(text)
        assert fast(text)["input_ids"] == [1, *ids], (
            text,
            slow.encode(text, out_type=str),
            fast.tokenize(text),
        )
        assert slow.decode(ids) == text, (text, slow.decode(ids))
        assert fast.decode([1, *ids], skip_special_tokens=True) == text, (text, fast.decode(ids))
    return len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--check", action="store_true", help="only compare the tokenizers of an existing folder"
    )
    args = parser.parse_args()
    if not args.check:
        write(args.folder, train(lines(args.seed, args.lines), PIECES), chat=False)
    fresh = list(islice(pt_documents(args.seed + 1000), 2000))
    print("compared", check(args.folder, PROBES + fresh + list(LEVEL_1)), "texts")


if __name__ == "__main__":
    main()
