"""Texts put together from their lines have the very ids of the whole text, or are not cut at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, UnigramTrainer

from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines._cuts import encode_by_lines, may_be_cut
from evalsuite.engines._tokens import Tokens, without_surrogates

CORPUS = [
    "题目：水的沸点是多少？\nA. 100度\nB. 90度\n答案：A\n\n题目：2+2=？\nA. 4\nB. 5\n答案：",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n\t# it's 3.\n",
    "Question: what's this?\n  - that\n  - it\n\nAnswer: \n\n   the 3rd one, e.g. it.\n/path/to/it\n",
] * 4

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = LLAMA3.replace(r"+[\r\n]*", r"+[\r\n/]*")


def byte_level(pattern: str, *, prefix_space: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_of])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        BpeTrainer(
            vocab_size=420,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    return tokenizer


def sentence_piece(model: str = "BPE") -> Tokenizer:
    """As LLaMA's: a space in front, no words, bytes where a character is unknown."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    if model == "Unigram":
        tokenizer = Tokenizer(models.Unigram())
        trainer = UnigramTrainer(vocab_size=200, unk_token="<unk>", show_progress=False)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    lines = [line for text in CORPUS for line in text.split("\n")]
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def with_added(tokenizer: Tokenizer, token: AddedToken) -> Tokenizer:
    tokenizer.add_tokens([token])
    return tokenizer


def normalized(normalizer: normalizers.Normalizer) -> Tokenizer:
    tokenizer = byte_level(GPT2)
    tokenizer.normalizer = normalizer
    return tokenizer


CUT = {
    "llama 3": byte_level(LLAMA3),
    "gpt 2": byte_level(GPT2),
    "gpt 2 with a space in front": byte_level(GPT2, prefix_space=True),
    "sentencepiece": sentence_piece(),
    "nfc": normalized(normalizers.NFC()),
}
WHOLE = {
    "words that begin before a line end": byte_level(O200K),
    "one word": byte_level(r"[\s\S]+"),
    "unigram": sentence_piece("Unigram"),
    "white space stripped": normalized(normalizers.Strip()),
    "nfkc makes spaces": normalized(normalizers.NFKC()),
    "line ends replaced": normalized(normalizers.Replace("\n", "¶")),
    "a token that eats space": with_added(byte_level(GPT2), AddedToken("<x>", rstrip=True)),
    "a token with a line end": with_added(byte_level(GPT2), AddedToken("。\nA", normalized=False)),
}

PIECES = st.sampled_from(
    [
        *"\n\n\n \t.。:：A1a题é\u0301\u3000▁Ċ/'",
        "\r\n",
        "'s",
        "<|end|>",
        "<unk>",
        "\n题",
        "…\n",
        "x\ny",
        "￣",
        "🙂",
    ]
)
TEXTS = st.lists(
    st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=8).map(without_surrogates),
    max_size=6,
)


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[tuple[int, ...]]:
    return [tuple(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]


@pytest.mark.parametrize("name", CUT)
@settings(max_examples=300)
@given(texts=TEXTS, prefix=st.sampled_from(["", CORPUS[0], CORPUS[1]]))
def test_lines_put_together_are_the_whole(name, texts, prefix):
    tokenizer = CUT[name]
    asked = [prefix + text for text in texts]
    [lead] = ids_of(tokenizer, ["\n"])
    found = encode_by_lines(asked, lambda lines: ids_of(tokenizer, lines), lead)
    assert [head + tail for head, tail in found] == ids_of(tokenizer, asked)


@pytest.mark.parametrize("name", CUT)
def test_what_shares_its_lines_shares_the_tuple(name):
    tokenizer = CUT[name]
    assert may_be_cut(tokenizer)
    [lead] = ids_of(tokenizer, ["\n"])
    encoded: list[str] = []

    def encode(lines: list[str]) -> list[tuple[int, ...]]:
        encoded.extend(lines)
        return ids_of(tokenizer, lines)

    (one, _), (other, _) = encode_by_lines([CORPUS[0], CORPUS[0] + "A"], encode, lead)
    assert one is other
    assert one
    assert sum(map(len, encoded)) < 1.5 * len(CORPUS[0])


@pytest.mark.parametrize("name", WHOLE)
def test_what_cannot_be_cut_is_known(name):
    assert not may_be_cut(WHOLE[name])


@given(texts=TEXTS)
def test_the_checkpoints_tokenizer(texts, checkpoint_path):
    tokens = Tokens(open_checkpoint(str(checkpoint_path)))
    asked = [CORPUS[0] + text for text in [*texts, *"ABCDEFGH"]]
    assert tokens.encode(asked) == tokens._encode_whole(asked)
