"""Embedding rows for new pieces: old ones bit by bit, new ones the mean of what spelled them, rows padded."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from evalsuite_train.errors import TrainError
from evalsuite_train.vocabulary import extend, merge, train_base, write_tokenizer
from evalsuite_train.vocabulary.embeddings import extended_rows, padded, resize_embeddings, spelled
from evalsuite_train.vocabulary.model import parsed
from safetensors.torch import load_file, save_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

TEXTS = [f"the cat sat on the mat, number {i}" for i in range(200)]
PIECES = 380


@pytest.fixture(scope="module")
def base() -> bytes:
    return train_base(TEXTS, PIECES)


@pytest.fixture(scope="module")
def extended(base) -> bytes:
    return extend(base, "春眠不觉晓处闻啼鸟")


def checkpoint(folder, base, *, rows=PIECES, tied=False, shard="5GB", dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder, max_shard_size=shard)
    write_tokenizer(folder, base)
    return folder


def logits(folder, ids):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard", ["5GB", "40KB"])
def test_new_rows_are_the_mean_of_the_bytes_and_old_texts_give_the_same_logits(
    tmp_path, base, extended, tied, shard
):
    source = checkpoint(tmp_path / "old", base, tied=tied, shard=shard)
    assert (source / "model.safetensors.index.json").exists() == (shard == "40KB")
    made = resize_embeddings(source, base, extended, tmp_path / "new")
    assert made == {"pieces": 389, "new": 9, "rows": 512}

    old = AutoModelForCausalLM.from_pretrained(source)
    new = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert new.config.vocab_size == 512
    pairs = [
        (old.get_input_embeddings(), new.get_input_embeddings()),
        (old.get_output_embeddings(), new.get_output_embeddings()),
    ]
    for before, after in pairs:
        assert after.weight.shape == (512, 32)
        assert torch.equal(after.weight[:PIECES], before.weight)
        # Independently of SentencePiece: the UTF-8 bytes of 春 are E6 98 A5, byte b has id 3 + b.
        mean = before.weight[[3 + b for b in "春".encode()]].mean(0)
        torch.testing.assert_close(after.weight[PIECES], mean)
        torch.testing.assert_close(after.weight[389:], before.weight.mean(0).expand(123, -1))
    assert (new.get_input_embeddings().weight is new.get_output_embeddings().weight) == tied
    ids = [1, 270, 300, 340, 379]
    torch.testing.assert_close(
        logits(tmp_path / "new", ids)[..., :PIECES], logits(source, ids), rtol=0, atol=1e-6
    )
    names = {p.name for p in (tmp_path / "new").iterdir()}
    assert {"tokenizer.model", "tokenizer.json", "config.json"} <= names
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_pitfall_embedding_rows_padded_to_a_multiple_of_128(tmp_path, base, extended):
    """39,410 pieces get 39,424 rows; an id beyond the tokenizer can be masked, and has no text."""
    assert padded(39_410) == 39_424
    assert padded(39_424) == 39_424
    assert padded(32_000) == 32_000
    assert padded(39_410, 64) == 39_424
    source = checkpoint(tmp_path / "old", base)
    resize_embeddings(source, base, extended, tmp_path / "new")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "new").eval()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert len(tokenizer) == 389 < model.config.vocab_size == 512
    with torch.inference_mode():
        scores = model(torch.tensor([[1, 270]])).logits[0, -1]
    # All padding rows are the same mean row: they share one score, and it is never the highest.
    assert torch.allclose(scores[389:], scores[389].expand(123), atol=1e-6)
    assert int(scores.argmax()) < 389
    ban = list(range(len(tokenizer), model.config.vocab_size))
    made = model.generate(
        torch.tensor([[1, 270]]),
        max_new_tokens=8,
        do_sample=False,
        suppress_tokens=ban,
        pad_token_id=0,
    )
    assert int(made.max()) < 389


def test_pitfall_tokenizer_rows(tmp_path, base, extended):
    """49,953 tokens against 49,954 rows: a vocabulary that is not the weights' own is refused with both numbers."""
    fewer = checkpoint(tmp_path / "fewer", base, rows=PIECES - 1)
    with pytest.raises(TrainError, match=r"has 379 rows, fewer than the old vocabulary's 380"):
        resize_embeddings(fewer, base, extended, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    other = train_base([t.upper() for t in TEXTS], PIECES)
    source = checkpoint(tmp_path / "old", base)
    with pytest.raises(TrainError, match=r"piece \d+ was .* and became"):
        resize_embeddings(source, other, extended, tmp_path / "new")
    # A base that was padded before: the padding gives way to the new pieces.
    roomy = checkpoint(tmp_path / "roomy", base, rows=512)
    resize_embeddings(roomy, base, extended, tmp_path / "new")
    before = load_file(roomy / "model.safetensors")["model.embed_tokens.weight"]
    after = load_file(tmp_path / "new" / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(after[:PIECES], before[:PIECES])
    torch.testing.assert_close(after[PIECES], before[[3 + b for b in "春".encode()]].mean(0))


def test_longer_pieces_are_spelled_by_old_pieces_without_the_dummy_prefix(base):
    second = train_base([f"hello there number {i}" for i in range(200)], 384)
    merged = merge(base, second)
    pieces = [p.piece for p in parsed(merged).pieces[PIECES:]]
    assert "▁hello" in pieces
    names = [p.piece for p in parsed(base).pieces]
    spelling = dict(zip(pieces, spelled(base, pieces), strict=True))
    assert "".join(names[i] for i in spelling["▁hello"]) == "▁hello"
    assert all(ids for ids in spelling.values())
    inner = next(p for p in pieces if not p.startswith("▁"))
    assert "".join(names[i] for i in spelling[inner]) == inner, "no dummy prefix"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept_and_averaged_in_float32(dtype):
    weight = torch.randn(300, 16).to(dtype)
    new = extended_rows(weight, 290, [[3, 4, 5], [7]], 384)
    assert new.dtype == dtype
    assert torch.equal(new[:290], weight[:290])
    assert torch.equal(new[290], weight[[3, 4, 5]].float().mean(0).to(dtype))
    assert torch.equal(new[291], weight[7])


def test_a_good_checkpoint_still_stands_after_a_failure(tmp_path, base, extended):
    source = checkpoint(tmp_path / "old", base)
    out = tmp_path / "new"
    resize_embeddings(source, base, extended, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    whole = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(TrainError, match="not a whole safetensors file"):
        resize_embeddings(source, base, extended, out)
    (source / "model.safetensors").unlink()
    with pytest.raises(TrainError, match=r"no model\.safetensors"):
        resize_embeddings(source, base, extended, out)
    (source / "model.safetensors").write_bytes(whole)
    with pytest.raises(TrainError, match="not resized in place"):
        resize_embeddings(source, base, extended, source)
    tensors = load_file(source / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(TrainError, match=r"no tensor named …lm_head.weight"):
        resize_embeddings(source, base, extended, out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]


def test_an_index_that_leads_out_of_the_folder_is_refused(tmp_path, base, extended):
    source = checkpoint(tmp_path / "old", base)
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "../../etc/passwd"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(TrainError, match="no plain file name"):
        resize_embeddings(source, base, extended, tmp_path / "new")


def test_the_stage_resizes_a_checkpoint_that_evalsuite_opens(tmp_path, base):
    from evalsuite_train.recipe import Recipe
    from evalsuite_train.vocabulary import stage

    from evalsuite.checkpoint import open_checkpoint

    source = checkpoint(tmp_path / "old", base)
    (tmp_path / "hanzi.txt").write_text("春眠不觉晓\n", encoding="utf-8")
    settings = {
        "base": str(source / "tokenizer.model"),
        "characters": "hanzi.txt",
        "model": str(source),
    }
    recipe = Recipe("tiny", 1, tmp_path, ("vocabulary",), {"vocabulary": settings}, "t.yaml")
    out = tmp_path / "vocabulary"
    out.mkdir()
    stage.run(recipe.config("vocabulary", stage.Config), recipe, out)
    opened = open_checkpoint(str(out / "checkpoint"))
    assert opened.card is not None
    assert opened.card.stage == "vocabulary"
    assert opened.card.name == "tiny-vocabulary"
