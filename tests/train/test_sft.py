"""SFT: what is read, how it is batched, what counts in the loss, and the stage as a whole."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from evalsuite_train.checkpoint import load_tokenizer, read_card
from evalsuite_train.errors import BadData, BadRecipe, Diverged
from evalsuite_train.ladder import run_section
from evalsuite_train.model import load_model
from evalsuite_train.sft.batches import Mixture, pack, stream
from evalsuite_train.sft.config import Config
from evalsuite_train.sft.examination import Examination
from evalsuite_train.sft.reply_loss import reply_loss
from evalsuite_train.sft.samples import Sample, read_samples
from evalsuite_train.trainer import IGNORED, Batch, measure
from hypothesis import given
from hypothesis import strategies as st
from sft_factory import llama_tokenizer, sft_recipe, talk, write_data

from evalsuite.chat import BUILTIN

LLAMA = llama_tokenizer()


def sample(length, learnt_from=2, task="t"):
    ids = np.arange(3, 3 + length, dtype=np.int32)
    return Sample(task, "f:1", ids, np.arange(length) >= learnt_from)


def write_rows(file, rows):
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return file


@pytest.fixture(scope="module")
def model(checkpoint_path):
    return load_model(checkpoint_path)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_samples_do_not_see_each_other(checkpoint_path, attention):
    """Hidden states of a packed row equal those of each sample computed alone."""
    model = load_model(checkpoint_path)
    model.set_attn_implementation(attention)
    samples = [sample(n) for n in (5, 30, 17, 1 + 1, 9)]
    packed = pack(samples, row=24)
    assert packed.batch.inputs.shape[0] < len(samples)
    with torch.inference_mode():
        together = model.get_decoder()(
            input_ids=packed.batch.inputs, position_ids=packed.batch.positions, use_cache=False
        ).last_hidden_state
        for index, one in enumerate(samples):
            ids = torch.from_numpy(one.ids[:-1].astype(np.int64))[None]
            alone = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
            torch.testing.assert_close(together[packed.owner == index], alone, rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(8, 64))
def test_every_learnt_token_is_a_target_once(lengths, row):
    samples = [sample(n, learnt_from=1 + n % 3) for n in lengths]
    batch, owner = pack(samples, row)
    assert int((batch.targets != IGNORED).sum()) == sum(int(s.learnt[1:].sum()) for s in samples)
    for index, one in enumerate(samples):
        own = owner == index
        assert batch.inputs[own].tolist() == one.ids[:-1].tolist()
        assert batch.positions[own].tolist() == list(range(len(one.ids) - 1))
        wanted = np.where(one.learnt[1:], one.ids[1:], IGNORED)
        assert batch.targets[own].tolist() == wanted.tolist()
    assert (batch.targets[owner == -1] == IGNORED).all()


def test_pitfall_all_ones_mask_over_padding(model):
    """Rows padded further change neither loss nor gradient, whatever the padding is made of."""
    samples, results = [sample(9), sample(20)], []
    for pad in (0, 7):
        batch, owner = pack(samples, 20, pad)
        assert (owner == -1).any()
        assert (batch.targets[owner == -1] == IGNORED).all()
        grown = Batch(*(torch.cat([part, part[:, :0].new_full((len(part), 11), fill)], 1)
                        for part, fill in zip(batch, (pad, IGNORED, 0), strict=True)))  # fmt: skip
        for each in (batch, grown):
            model.zero_grad()
            total = measure(model, each).total
            total.backward()
            results.append((total.detach(), model.get_input_embeddings().weight.grad[3:7].clone()))
    model.zero_grad()
    for total, gradient in results[1:]:
        torch.testing.assert_close(total, results[0][0])
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-4, atol=1e-5)


def test_pitfall_masked_positions_counted_as_wrong(model):
    """A reply that the model would give itself has accuracy 1, however long its prompt is."""
    ids = torch.arange(3, 33)[None]
    with torch.inference_mode():
        for _ in range(5):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    right = Sample("t", "f:1", ids[0].numpy().astype(np.int32), np.arange(35) >= 30)
    assert reply_loss(model, [right]).accuracy == 1.0
    wrong_end = right.ids.copy()
    wrong_end[-1] = (wrong_end[-1] + 1) % 400
    assert reply_loss(model, [right._replace(ids=wrong_end)]).accuracy == pytest.approx(0.8)
    assert measure(model, pack([right]).batch).correct == 5


def test_row_sft_atom_next_token_accuracy(tmp_path, checkpoint_path):
    """CSV with a column text in Atom's format: replies alone are learnt, and the log's accuracy rises."""
    turns = [("你好", "你好，有什么可以帮你？"), ("What is 2 + 3?", "The answer is 5.")]
    (tmp_path / "data").mkdir()
    with (tmp_path / "data/sft.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        for question, reply in turns * 8:
            writer.writerow([f"<s>Human: {question}\n</s><s>Assistant: {reply}\n</s>"])
        both = "".join(f"<s>Human: {q}\n</s><s>Assistant: {r}\n</s>" for q, r in turns)
        writer.writerow([both])
    tokenizer = load_tokenizer(checkpoint_path)
    samples, ledger = read_samples(tmp_path / "data/sft.csv", tokenizer, "atom", max_length=200)
    assert ledger.kept == {"all": 17}
    said = [tokenizer.decode(s.ids[s.learnt]).strip() for s in samples[:2]]
    assert said == ["你好，有什么可以帮你？\n</s>", "The answer is 5.\n</s>"]
    assert samples[-1].ids.tolist() == [*samples[0].ids, *samples[1].ids]

    recipe = sft_recipe(
        tmp_path, checkpoint_path, data="data/sft.csv", template="atom",
        validation=None, training=None, steps=30, max_length=200,
    )  # fmt: skip
    run_section(recipe, "sft")
    rows = (tmp_path / "sft/log.jsonl").read_text("utf-8").splitlines()
    logged = [json.loads(row)["accuracy"] for row in rows]
    measured = reply_loss(load_model(tmp_path / "sft/checkpoint"), samples)
    assert logged[0] < 0.8 < logged[-1]
    assert measured.accuracy > 0.95
    assert measured.learnt.sum() == ledger.learnt
    assert read_card(tmp_path / "sft/checkpoint")["chat_template"] == "llama2-chinese"


def test_text_rows_that_are_no_dialogues_are_counted(tmp_path):
    rows = [
        "<s>Human: a\n</s><s>Assistant: b\n</s>",
        "no markers",
        "<s>Human: a\n</s><s>Assistant: b\n</s> more",
    ]
    file = write_rows(tmp_path / "a.jsonl", [{"text": row} for row in rows])
    samples, ledger = read_samples(file, LLAMA, "atom", max_length=100)
    assert len(samples) == 1
    assert ledger.dropped == {"not in the template": 2}


def test_the_ledger_adds_up_and_names_what_was_dropped(tmp_path):
    rows = [
        {"task": "a", **talk("Hi", "5")},
        {"task": "a", **talk("Hi", "5" * 80)},
        {"task": "b", **talk("Hi", "5", "Hi", "5" * 80)},
        {"task": "b", **talk("Hi", "")},
        {"task": "b", **talk("Hi")},
        {"task": "b", "conversations": []},
    ]
    file = write_rows(tmp_path / "sft.jsonl", rows)
    samples, ledger = read_samples(file, LLAMA, "ziya", max_length=60, bad_share=0.9)
    assert ledger.rows == 6 == len(samples) + sum(ledger.dropped.values())
    assert ledger.kept == {"a": 1, "b": 1}
    assert ledger.dropped["too long"] == 1
    assert ledger.examples["too long"] == ["sft.jsonl:2"]
    assert ledger.turns_cut == 1
    assert ledger.tokens == sum(len(s.ids) for s in samples)


def test_weights_change_how_often_a_task_comes():
    tasks = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    mixture = Mixture(tasks, {"b": 2.0, "c": 0}, seed=1)
    assert mixture.quota == {"a": 50, "b": 50, "c": 0}
    drawn = np.concatenate([mixture.epoch(n) for n in range(6)])
    counts = np.bincount(drawn, minlength=100)
    assert set(counts[:60]) == {5}  # 6 × 50 places for 60 samples: each comes equally often
    assert set(counts[60:90]) == {10}
    assert set(counts[90:]) == {0}


@pytest.mark.parametrize("weights", [{"d": 1.0}, {"a": -1.0}, {"a": 0.0}])
def test_weights_that_fit_no_task_are_refused(weights):
    with pytest.raises(BadRecipe, match=r"task 'd'.*\n.*tasks: a|-1.0 for task 'a'|every task"):
        Mixture(["a"], weights, seed=1)


@given(st.integers(0, 40), st.integers(1, 7))
def test_the_stream_can_be_entered_anywhere(start, size):
    samples = [sample(2 + n % 5, learnt_from=1) for n in range(11)]
    batches = stream(samples, Mixture(["t"] * 11, {}, 3), size)
    from_start, entered = batches(0), batches(start)
    for _ in range(start):
        next(from_start)
    for _ in range(3):
        for a, b in zip(next(from_start), next(entered), strict=True):
            assert torch.equal(a, b)


def test_the_gate_and_the_card_say_what_was_reached(tmp_path, checkpoint_path):
    write_data(tmp_path)
    run_section(sft_recipe(tmp_path, checkpoint_path), "sft")
    out = tmp_path / "sft"
    gate = json.loads((out / "gate.json").read_text("utf-8"))
    assert gate["training"] == gate["validation"]  # the same questions here
    assert gate["training"]["colour"] >= 0.5
    matrix = json.loads((out / "matrix.json").read_text("utf-8"))
    assert gate["validation"] == {t: r["accuracy"] for t, r in matrix["stages"]["stage 1"].items()}
    readme = (out / "checkpoint/README.md").read_text("utf-8")
    assert "| colour | 24 |" in readme
    assert "# toy-sft" in readme
    assert not (out / "stage-1").exists()
    assert not list(out.glob("state*"))


def test_a_reply_that_does_not_end_is_wrong(tmp_path, checkpoint_path, model):
    """An untrained model never says EOS within three tokens: no rule may credit its text."""
    row = {"id": "1", "task": "t", "prompt": "你好", "reference": "好",
           "rules": [{"type": "max_characters", "value": 9999}]}  # fmt: skip
    file = write_rows(tmp_path / "asked.jsonl", [row])
    tokenizer = load_tokenizer(checkpoint_path)
    asked = Examination(file, tokenizer, "ziya", items=5, max_length=99, max_new_tokens=3)
    assert asked.ask(model)["t"].accuracy == 0.0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 0}, "give steps or epochs"),
        ({"epochs": 1.0}, "give steps or epochs"),
        ({"replay": 1.0}, "replay is 1.0"),
        ({"stages": 0}, "stages is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"template": "yayi"}, "'yayi'.*is not a single token"),
        ({"max_length": 300}, "max_length is 300, the model's context only 256"),
        ({"stages": 3, "steps": 2}, "2 steps for 3 stages"),
        ({"data": "data/none.jsonl"}, "no such file: data/none.jsonl"),
        ({"weights": {"color": 2.0}}, "tasks: colour, count"),
        ({"max_length": 10}, "none of 48 rows can be learnt from.*too long"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_trained(
    tmp_path, checkpoint_path, settings, says
):
    write_data(tmp_path)
    recipe = sft_recipe(
        tmp_path, checkpoint_path, **{"validation": None, "training": None} | settings
    )
    with pytest.raises((BadRecipe, BadData), match=f"(?s){says}"):
        run_section(recipe, "sft")
    assert not (tmp_path / "sft/checkpoint").exists()


@pytest.mark.parametrize("content", ["", "\n\n", '{"a": 1}\n', "nonsense\n"])
def test_data_without_conversations_are_refused(tmp_path, checkpoint_path, content):
    write_data(tmp_path)
    (tmp_path / "data/sft.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(BadData, match=r"sft\.jsonl"):
        run_section(sft_recipe(tmp_path, checkpoint_path), "sft")


def test_a_loss_that_is_no_number_stops_and_keeps_the_old_checkpoint(tmp_path, checkpoint_path):
    write_data(tmp_path)
    old = tmp_path / "sft/checkpoint/model.safetensors"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"good")
    broken = load_model(checkpoint_path)
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    for file in ("tokenizer.model", "tokenizer_config.json"):
        (tmp_path / "broken" / file).write_bytes((checkpoint_path / file).read_bytes())
    recipe = sft_recipe(tmp_path, tmp_path / "broken", validation=None, training=None)
    with pytest.raises(Diverged, match="step 1"):
        run_section(recipe, "sft")
    assert old.read_bytes() == b"good"


def test_a_parent_that_is_asked_with_another_template_is_refused(tmp_path, checkpoint_path):
    """evalsuite takes the folder's chat template first: it has to be the one that was trained with."""
    write_data(tmp_path)
    parent = tmp_path / "parent"
    shutil.copytree(checkpoint_path, parent)
    settings = {"validation": None, "training": None, "steps": 1}
    (parent / "chat_template.jinja").write_text(BUILTIN["chatllama"].source, encoding="utf-8")
    with pytest.raises(
        BadRecipe, match=r"'ziya'.*chat template of its own.*\n.*chat_template\.jinja"
    ):
        run_section(sft_recipe(tmp_path, parent, **settings), "sft")
    (parent / "chat_template.jinja").write_text(BUILTIN["ziya"].source, encoding="utf-8")
    run_section(sft_recipe(tmp_path, parent, **settings), "sft")


def test_epochs_are_counted_over_the_samples(tmp_path, checkpoint_path):
    write_data(tmp_path)
    recipe = sft_recipe(
        tmp_path, checkpoint_path, steps=0, epochs=2, validation=None, training=None
    )
    run_section(recipe, "sft")
    assert read_card(tmp_path / "sft/checkpoint")["step"] == 2 * 48 / 16


def test_the_published_settings_of_yayi_are_expressible():
    config = Config(
        learning_rate=5e-4, method="lora", epochs=2, batch=8, warmup=100, precision="bf16",
        template="yayi", zero="zero2.json",
    )  # fmt: skip
    assert config.adapter.rank == 16
