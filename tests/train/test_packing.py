"""Packed rows: every token once an epoch, BOS and EOS exactly once a document, any batch by number."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.errors import BadData
from evalsuite_train.loss import IGNORED, Batch, measure
from evalsuite_train.model import Shape, new_model
from evalsuite_train.packing import Packed, pack
from evalsuite_train.vocabulary import train_base, write_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

TEXTS = (
    "小明有三个苹果，又买了两个。",
    "Two and three is five, and five and five is ten.",
    "def add(a, b):\n    return a + b",
    "</s> a text that spells <s> and </s><unk>",
)
BOS, EOS = 1, 2


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    write_tokenizer(folder, train_base(TEXTS * 3, 400))
    return folder


def write_documents(path: Path, texts: list[str]) -> Path:
    rows = ({"text": text, "source": "test", "language": "zh"} for text in texts)
    path.write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def packed(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("packed")
    texts = [f"{text} {i}" for i in range(10) for text in TEXTS]
    return pack(write_documents(folder / "pt.jsonl", texts), tokenizer, folder / "cache")


def synthetic(lengths: list[int]) -> Packed:
    rows, number = [], 3
    for length in lengths:
        rows.append([BOS, *range(number, number + length), EOS])
        number += length
    flat = np.array([i for row in rows for i in row], np.uint32)
    return Packed(flat, np.cumsum([0, *map(len, rows)]), BOS, "key")


def flat_stream(packed: Packed, tokens: int, **options: int) -> list[int]:
    out: list[int] = []
    for batch in packed.batches(0, rows=2, length=8, seed=1, **options):
        out += batch.inputs.flatten().tolist()
        if len(out) >= tokens:
            return out[:tokens]
    raise AssertionError


def test_pitfall_bos_and_eos_exactly_once(packed: Packed, tokenizer: Path) -> None:
    """Each document has one BOS and one EOS, also one that spells them in its text."""
    fast = load_tokenizer(tokenizer)
    for i, text in enumerate(f"{text} {i}" for i in range(10) for text in TEXTS):
        ids = packed.tokens[packed.offsets[i] : packed.offsets[i + 1]].tolist()
        assert (ids[0], ids[-1]) == (BOS, EOS)
        assert ids.count(BOS) == ids.count(EOS) == 1
        assert fast.decode(ids[1:-1]) == text


def test_pitfall_training_and_inference_agree_on_bos(packed: Packed, tokenizer: Path) -> None:
    """The ids that a prompt gets at inference are those that its document starts with in training."""
    prompt = load_tokenizer(tokenizer)("小明有三个苹果，又买了两个。 0")["input_ids"]
    assert prompt.count(BOS) == 1
    assert packed.tokens[: len(prompt)].tolist() == prompt


def test_pitfall_truncation_drops_eos(tokenizer: Path, tmp_path: Path) -> None:
    """A document longer than a row goes on in the next: nothing is cut off, its EOS is learnt."""
    path = write_documents(tmp_path / "pt.jsonl", ["five and " * 50])
    packed = pack(path, tokenizer, tmp_path)
    batches = list(itertools.islice(packed.batches(0, rows=1, length=16, seed=1), 40))
    whole = packed.tokens.tolist()
    assert len(whole) > 100
    stream = [i for batch in batches for i in batch.inputs.flatten().tolist()]
    assert stream[: len(whole)] == whole
    learnt = [i for batch in batches for i in batch.targets.flatten().tolist()]
    assert learnt[: len(whole) - 1] == whole[1:]
    assert learnt[len(whole) - 1] == IGNORED  # the next BOS


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    rows=st.integers(1, 3),
    length=st.integers(2, 17),
    first=st.integers(0, 40),
)
@settings(deadline=None)
def test_any_batch_by_its_number_is_the_one_of_the_stream(
    lengths: list[int], rows: int, length: int, first: int
) -> None:
    packed = synthetic(lengths)
    start = packed.batches(0, rows=rows, length=length, seed=5)
    expected = next(itertools.islice(start, first, None))
    got = next(packed.batches(first, rows=rows, length=length, seed=5))
    assert torch.equal(got.inputs, expected.inputs)
    assert torch.equal(got.targets, expected.targets)


@given(lengths=st.lists(st.integers(1, 30), min_size=2, max_size=12), seed=st.integers(0, 9))
@settings(deadline=None)
def test_every_token_is_learnt_once_an_epoch(lengths: list[int], seed: int) -> None:
    packed = synthetic(lengths)
    whole = int(packed.offsets[-1])
    batches = packed.batches(0, rows=1, length=1, seed=seed)
    targets = [int(next(batches).targets) for _ in range(2 * whole)]
    for epoch in range(2):
        # the first target of an epoch is the token after its first one
        part = targets[epoch * whole : (epoch + 1) * whole]
        assert sorted(i for i in part if i > EOS) == list(range(3, 3 + sum(lengths)))
        assert part.count(EOS) == part.count(IGNORED) == len(lengths)


def test_the_order_is_shuffled_anew_each_epoch_and_fixed_by_the_seed() -> None:
    packed = synthetic([4] * 50)
    orders = {tuple(packed.order(epoch, seed)) for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert tuple(packed.order(1, 1)) == tuple(synthetic([4] * 50).order(1, 1))


def test_separate_documents_see_only_themselves() -> None:
    """With ``separate`` a document's states in a packed row are those it has alone."""
    packed = synthetic([5, 9, 7, 4])
    batch = next(packed.batches(0, rows=1, length=24, seed=2, separate=True))
    assert batch.positions is not None
    model = new_model(Shape(32, 2, 2, 1, 64), 128, seed=1).eval()
    states = []

    def keep(*parts: object) -> None:
        states.append(parts[2].last_hidden_state[0].detach())  # type: ignore[attr-defined]

    model.get_decoder().register_forward_hook(keep)
    measure(model, batch)
    starts = [*(batch.inputs[0] == BOS).nonzero().flatten().tolist(), 24]
    assert len(starts) > 2
    for start, end in itertools.pairwise(starts):
        measure(model, Batch(batch.inputs[:, start:end], batch.targets[:, start:end]))
        torch.testing.assert_close(states[0][start:end], states[-1], rtol=1e-4, atol=1e-5)
        assert batch.positions[0, start:end].tolist() == list(range(end - start))


def test_tokens_are_made_once_for_the_same_content(tokenizer: Path, tmp_path: Path) -> None:
    path = write_documents(tmp_path / "pt.jsonl", [TEXTS[0]])
    first = pack(path, tokenizer, tmp_path / "cache")
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").iterdir()}
    assert pack(path, tokenizer, tmp_path / "cache").key == first.key
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").iterdir()} == made
    write_documents(path, [TEXTS[1]])
    assert pack(path, tokenizer, tmp_path / "cache").key != first.key
    assert first.tokens.dtype == np.uint16


def test_a_folder_of_shards_is_read_in_order_of_names(tokenizer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_documents(folder / "b.jsonl", [TEXTS[1]])
    write_documents(folder / "a.jsonl", [TEXTS[0]])
    packed = pack(folder, tokenizer, tmp_path / "cache")
    both = write_documents(tmp_path / "both.jsonl", [TEXTS[0], TEXTS[1]])
    assert packed.tokens.tolist() == pack(both, tokenizer, tmp_path / "cache").tokens.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no documents"),
        (b"\n\n", "no documents"),
        (b'{"text": "a"}\n{"text": ', r"pt\.jsonl:2: not JSON"),
        (b'{"text": "a"}\n\n{"txt": "b"}\n', r"pt\.jsonl:3: no text"),
        (b'{"text": 5}\n', r"pt\.jsonl:1: no text"),
        (b'["text"]\n', r"pt\.jsonl:1: no text"),
        (b'{"text": " "}\n', r"pt\.jsonl:1: no text"),
        (b'{"text": "\\ud800"}\n', r"pt\.jsonl:1: .*surrogate"),
        (b"\xff\xfe{}", "cannot read"),
    ],
)
def test_wrong_data_are_named_and_leave_no_cache(
    tokenizer: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "pt.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadData, match=message):
        pack(path, tokenizer, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_an_empty_folder_and_a_missing_file_are_named(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"no \.jsonl file"):
        pack(tmp_path, tokenizer, tmp_path / "cache")
    with pytest.raises(BadData, match="cannot read"):
        pack(tmp_path / "none.jsonl", tokenizer, tmp_path / "cache")
