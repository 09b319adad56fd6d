"""A vocabulary extended: old ids stand, new characters are used, and both tokenizers agree on any text."""

from __future__ import annotations

import json
import random
import warnings

import pytest
import sentencepiece as spm
from evalsuite_train.errors import BadData, BadRecipe, TrainError
from evalsuite_train.recipe import Recipe
from evalsuite_train.vocabulary import (
    added,
    characters,
    extend,
    merge,
    stage,
    train_base,
    write_tokenizer,
)
from evalsuite_train.vocabulary.model import parsed, read
from evalsuite_train.vocabulary.tokenizer_files import check, fast_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as pb

COMMON = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
NEW = "春眠觉晓处闻啼鸟夜风雨声花落知少床前明月光疑霜举头望低思故乡，。"
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=40)


def english(count: int = 300) -> list[str]:
    rng = random.Random(1)
    words = "the cat that sat there then thin thing hello world return value for in range print def".split()
    return [" ".join(rng.choices(words, k=9)) + f" {i} ok." for i in range(count)]


def chinese(count: int = 300) -> list[str]:
    rng = random.Random(2)
    return ["".join(rng.choices(COMMON, k=30)) + "我们学会了，他们也会。" for _ in range(count)]


@pytest.fixture(scope="module")
def base() -> bytes:
    """An English model, as LLaMA's nearly is."""
    return train_base(english(), 440)


@pytest.fixture(scope="module")
def extended(base) -> bytes:
    return extend(base, COMMON + NEW)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, extended):
    path = tmp_path_factory.mktemp("tokenizer") / "made"
    write_tokenizer(path, extended)
    return path


def processor(model: bytes) -> spm.SentencePieceProcessor:
    return spm.SentencePieceProcessor(model_proto=model)


def auto(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(folder)


def test_row_vocabulary(base, extended, folder):
    """Old ids unchanged, round trip exact, tokens per character fall, new pieces below and behind the old."""
    old, new = processor(base), processor(extended)
    size = old.get_piece_size()
    for i in range(size):
        assert (old.id_to_piece(i), old.get_score(i)) == (new.id_to_piece(i), new.get_score(i))
        assert (old.is_byte(i), old.is_control(i), old.is_unknown(i)) == (
            new.is_byte(i),
            new.is_control(i),
            new.is_unknown(i),
        )
    wanted = [c for c in dict.fromkeys(COMMON + NEW) if old.piece_to_id(c) == old.unk_id()]
    assert [new.id_to_piece(i) for i in range(size, new.get_piece_size())] == wanted
    assert max(new.get_score(i) for i in range(size, new.get_piece_size())) < min(
        old.get_score(i) for i in range(size)
    )

    text = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"
    before, after = old.encode(text), new.encode(text)
    assert len(before) > 2.5 * len(text), "bytes"
    assert len(after) == len(text) + 1, "one a character, and the dummy prefix"
    assert new.decode(after) == text
    for line in english(20):
        assert new.encode(line) == old.encode(line), "English did not change"
    fast = auto(folder)
    assert len(fast) == new.get_piece_size()
    assert fast(text)["input_ids"] == [1, *after]
    assert (fast.bos_token_id, fast.eos_token_id, fast.pad_token_id) == (1, 2, 0)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ANY | st.lists(st.sampled_from([*COMMON, *NEW, *" a\n1th\t\0é🙂", "the ", "  "])).map("".join)
)
def test_any_text_comes_back_and_both_tokenizers_agree(extended, text):
    check(extended, fast_tokenizer_of(extended), [text])


_made: dict[bytes, object] = {}


def fast_tokenizer_of(model: bytes):
    return _made.setdefault(model, fast_tokenizer(parsed(model)))


def test_a_second_models_pieces_are_added_and_used(base, tmp_path):
    second = train_base(chinese(), 440)
    merged = merge(base, second)
    new = added(base, merged)
    own = {p.piece for p in parsed(base).pieces}
    theirs = [p.piece for p in parsed(second).pieces if p.type == 1]
    assert set(new) == set(theirs) - own
    assert len(set(new)) == len(new)
    assert any(len(piece) > 1 for piece in new)
    text = "我们学会了，他们也会。"
    assert len(processor(merged).encode(text)) < len(processor(extend(base, text)).encode(text))
    write_tokenizer(tmp_path / "t", merged, probes=chinese(50) + english(50))
    assert merge(merged, second) == merged, "nothing is added twice"


def test_extending_twice_or_by_known_characters_adds_nothing(extended):
    assert extend(extended, COMMON + "ab12") == extended


@pytest.mark.parametrize("entry", ["", "中国", " ", "\n", "\0", "▁"])
def test_what_is_no_visible_character_is_refused(base, entry):
    with pytest.raises(TrainError, match="is not one visible character"):
        extend(base, [entry])


def test_a_changed_base_is_noticed(base, extended):
    other = parsed(extended)
    other.pieces[300].piece = "changed"
    with pytest.raises(TrainError, match=r"piece 300 was .* and became 'changed'"):
        added(base, other.SerializeToString())
    with pytest.raises(TrainError, match="pieces were lost"):
        added(extended, base)


def broken(base: bytes, change) -> bytes:
    model = pb.ModelProto.FromString(base)
    change(model)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.trainer_spec.ClearField("model_type"), "no byte-pair"),
        (lambda m: setattr(m.pieces[10], "type", 1), "no byte fallback"),
        (lambda m: setattr(m.pieces[400], "type", 4), "user-defined"),
        (lambda m: setattr(m.pieces[400], "piece", m.pieces[401].piece), "a piece twice"),
        (lambda m: setattr(m.pieces[1], "piece", "<bos>"), "first pieces are"),
        (lambda m: setattr(m.normalizer_spec, "add_dummy_prefix", False), "no dummy prefix"),
        (lambda m: setattr(m.normalizer_spec, "remove_extra_whitespaces", True), "removes spaces"),
        (lambda m: m.pieces.__delitem__(slice(None)), "holds no pieces"),
    ],
)
def test_a_model_unlike_llamas_is_refused(base, change, message):
    with pytest.raises(TrainError, match=message):
        extend(broken(base, change), "春")


def test_a_file_that_is_no_model_is_named(tmp_path):
    with pytest.raises(TrainError, match=r"cannot read .*no such file"):
        read(tmp_path / "none.model")
    (tmp_path / "a.model").write_bytes(b"\xff\xff no protobuf")
    with pytest.raises(TrainError, match=r"a\.model: not a SentencePiece model"):
        read(tmp_path / "a.model")


def test_a_tokenizer_that_does_not_agree_is_not_written(base, tmp_path, monkeypatch):
    """The error names the text; a good tokenizer that stood there still stands."""
    from evalsuite_train.vocabulary import tokenizer_files

    write_tokenizer(tmp_path, base, chat_template="{{ x }}")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer_files, "merges", lambda proto: [])
        with pytest.raises(TrainError, match=r"for SentencePiece and .* as converted"):
            write_tokenizer(tmp_path, extend(base, "春"))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert before["chat_template.jinja"] == b"{{ x }}"


def test_pitfall_transformers_5_llama_tokenizer_gives_three_tokens(folder, extended):
    """The class that looks right drops the vocabulary without a word; what is written here does not go through it."""
    from transformers import LlamaTokenizer

    assert len(LlamaTokenizer(vocab_file=str(folder / "tokenizer.model"))) == 3
    fast = auto(folder)
    assert len(fast) == len(parsed(extended).pieces)
    text = "夜来风雨声 the cat\n 1+1=2 🙂"
    assert fast(text)["input_ids"] == [1, *processor(extended).encode(text)]
    assert fast.decode(fast(text)["input_ids"], skip_special_tokens=True) == text


def test_a_run_of_one_character_merges_as_in_sentencepiece(tmp_path):
    """Where several cuts make a piece the order of the rules matters: 16 spaces, once wrong for LLaMA's own pieces."""
    lines = ["x" + " " * n + "y" + "=" * n + "z" for n in range(1, 40)] * 20
    model = train_base(lines, 380)
    runs = [
        p.piece
        for p in parsed(model).pieces
        if p.type == 1 and len(set(p.piece)) == 1 and len(p.piece) > 2
    ]
    assert len(runs) > 4
    write_tokenizer(tmp_path / "t", model, probes=[c * n for c in " =" for n in range(1, 90)])


def test_a_base_has_llamas_conventions(base):
    model = processor(base)
    assert model.get_piece_size() == 440
    assert [model.id_to_piece(i) for i in range(4)] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert model.encode("2023", out_type=str) == ["▁", "2", "0", "2", "3"]
    assert model.decode(model.encode("  two  spaces ")) == "  two  spaces "
    assert train_base(english(), 440) == base, "the same text gives the same model"


@pytest.mark.parametrize(
    ("texts", "pieces", "message"),
    [
        ([], 400, "there is no text"),
        (["", "\n"], 400, "there is no text"),
        (["a few words"], 100, r"fewer pieces than the text has characters[\s\S]*at least \d+"),
        (["a few words"], 4000, r"too small for so many pieces[\s\S]*at most \d+"),
    ],
)
def test_an_impossible_base_says_what_would_do(texts, pieces, message):
    with pytest.raises(TrainError, match=message):
        train_base(texts, pieces)


def test_hostile_text_trains():
    model = train_base([*english(), "\0\ud800", "x" * 100_000, "\u2028\u0085"], 440)
    assert processor(model).get_piece_size() == 440


def test_characters_come_from_a_list_or_from_counting(tmp_path):
    table = tmp_path / "table.txt"
    table.write_text(
        "# a code table\nU+6625\t春\tchūn\nU+7720\t眠\tmián\n春\n晓，𠮷〇\n", encoding="utf-8"
    )
    assert characters.from_list(table) == ["春", "眠", "晓", "，", "𠮷", "〇"]
    assert characters.from_texts(["春春眠a", "眠春a，a"], 2) == ["春", "眠"]
    for content, message in (
        ("U+0061\ta\n", r"table.txt:1: 'a' is no Chinese character"),
        ("", "is empty"),
        ("春\nabc\n", r"table.txt:2"),
    ):
        table.write_text(content, encoding="utf-8")
        with pytest.raises(BadData, match=message):
            characters.from_list(table)


def stage_run(folder, **settings):
    recipe = Recipe("t", 1, folder, ("vocabulary",), {"vocabulary": settings}, "t.yaml")
    out = folder / "vocabulary"
    out.mkdir(exist_ok=True)
    stage.run(recipe.config("vocabulary", stage.Config), recipe, out)
    return out


def test_the_stage_trains_a_base_and_adds_what_the_text_uses(tmp_path, capsys):
    (tmp_path / "en.txt").write_text("\n".join(english()), encoding="utf-8")
    (tmp_path / "zh.txt").write_text("\n".join(chinese(40)), encoding="utf-8")
    out = stage_run(
        tmp_path,
        texts=["en.txt", "zh.txt"],
        pieces=440,
        coverage=0.98,
        characters="count",
        minimum=5,
    )
    report = json.loads((out / "report.json").read_bytes())
    assert report["base"] == 440
    assert report["pieces"] == 440 + report["new"] == len(auto(out / "tokenizer"))
    assert report["rows"] % 128 == 0
    zh = next(t for t in report["texts"] if t["name"] == "zh")
    assert zh["after"] < zh["before"]
    assert zh["characters"] == sum(map(len, chinese(40)))
    assert zh["bytes_after"] == 0 < zh["bytes_before"]
    assert "tokens/char" in capsys.readouterr().out


def test_the_stage_refuses_to_train_on_nothing(tmp_path):
    with pytest.raises(BadRecipe, match="no texts"):
        stage_run(tmp_path)
    with pytest.raises(BadRecipe, match="at least 1"):
        stage_run(tmp_path, pad_multiple=0)
