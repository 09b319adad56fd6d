"""The reward model: its loss against trl's, its folder, its pairs, and that it learns what it is told."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from random import Random

import msgspec
import pytest
import torch
from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.errors import BadData, BadRecipe, Diverged, TrainError
from evalsuite_train.feedback.rows import Asked
from evalsuite_train.ladder import run_section
from evalsuite_train.model import load_model
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.accuracy import pair_accuracy, validation_pairs
from evalsuite_train.rm.config import Config
from evalsuite_train.rm.loss import bradley_terry
from evalsuite_train.rm.model import RewardModel, new_reward_model, pooled
from evalsuite_train.rm.on_policy import Judged, on_policy_pairs, spread
from evalsuite_train.rm.pairs import Pair, PairStream, Shares, garbled, is_validation, read_pairs
from evalsuite_train.rm.training import train_reward
from evalsuite_train.rules import read_rules
from evalsuite_train.templates import encode_conversation
from policy_factory import QUESTIONS, write_policy
from transformers import AutoModelForSequenceClassification, AutoTokenizer

PAIRS = [
    Pair("wishes", f"请说{i}句话。", f"好的，{i}句话。", f"Not {i}, no.") for i in range(40)
] + [Pair("safety", f"怎么修{i}？", f"先看{i}。", "Sorry, no.") for i in range(40)]


def write(file, rows):
    file.write_text(
        "".join(json.dumps(msgspec.to_builtins(r), ensure_ascii=False) + "\n" for r in rows),
        "utf-8",
    )


@pytest.fixture
def reward(checkpoint_path):
    return new_reward_model(checkpoint_path, None, seed=1)


def test_loss_is_the_bradley_terry_likelihood():
    chosen, rejected = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 1.0, 0.5])
    expected = -sum(math.log(1 / (1 + math.exp(-d))) for d in (1.0, -2.0, 0.0)) / 3
    assert bradley_terry(chosen, rejected).item() == pytest.approx(expected, rel=1e-6)


def test_the_score_is_taken_at_the_last_real_token(reward):
    """Longer rows in the batch do not change a row's score, nor does a padding id inside it."""
    rows = [[1, 7, 8, 2], [1, 5, 0, 9, 11, 12, 2], [1, 2]]
    together = pooled(reward.model, rows)
    for row, score in zip(rows, together, strict=True):
        hidden = reward.model.model(torch.tensor([row])).last_hidden_state[0, -1]
        torch.testing.assert_close(score, reward.model.score(hidden)[0], atol=1e-5, rtol=0)


def test_loss_is_that_of_trl(reward, tmp_path):
    """trl's RewardTrainer on the same encoded pairs and weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from trl import RewardConfig, RewardTrainer
    reward.tokenizer.pad_token = "<unk>"
    rows = [
        {
            "chosen_ids": reward.encode(pair.prompt, pair.chosen),
            "rejected_ids": reward.encode(pair.prompt, pair.rejected),
        }
        for pair in PAIRS[:6]
    ]
    settings = RewardConfig(
        output_dir=str(tmp_path),
        report_to=[],
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=6,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = RewardTrainer(
            model=reward.model,
            args=settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=reward.tokenizer,
        )
        batch = trainer.data_collator(rows)
        theirs = trainer.compute_loss(trainer.model, batch).item()
    both = [row["chosen_ids"] for row in rows] + [row["rejected_ids"] for row in rows]
    ours = bradley_terry(*pooled(reward.model, both).chunk(2)).item()
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert ours != pytest.approx(math.log(2), abs=1e-3)


def test_pitfall_reward_model_has_its_own_template_and_vocabulary(checkpoint_path, tmp_path):
    """The policy's tokenizer was extended, the reward model's was not: text is encoded anew."""
    from evalsuite_train.vocabulary import extend, write_tokenizer

    extended = extend((checkpoint_path / "tokenizer.model").read_bytes(), "稻谷墙")
    write_tokenizer(tmp_path / "extended", extended)
    policy = load_model(checkpoint_path)
    with torch.no_grad():
        policy.get_input_embeddings().weight[420:].normal_()
    policy.save_pretrained(tmp_path / "extended")

    reward = new_reward_model(tmp_path / "extended", checkpoint_path, seed=1)
    assert len(reward.tokenizer) == 420
    assert reward.model.get_input_embeddings().weight.shape[0] == 420
    torch.testing.assert_close(
        reward.model.get_input_embeddings().weight, policy.get_input_embeddings().weight[:420]
    )
    ids = reward.encode("墙？", "稻谷")
    turns = [{"from": "human", "value": "墙？"}, {"from": "assistant", "value": "稻谷"}]
    theirs = load_tokenizer(tmp_path / "extended")
    assert (
        max(encode_conversation(theirs, {"conversations": turns}, "ziya", max_length=99).ids) >= 420
    )
    assert max(ids) < 420
    assert ids[0] == 1
    assert ids[-1] == 2
    text = reward.tokenizer.decode(ids, skip_special_tokens=True)
    assert text == "Human:墙？\n\nAssistant:稻谷"
    assert "<human>" not in text


def test_a_tokenizer_the_parent_does_not_know_is_refused(checkpoint_path, tmp_path):
    from evalsuite_train.vocabulary import extend, write_tokenizer

    other = extend((checkpoint_path / "tokenizer.model").read_bytes(), "稻谷墙")
    write_tokenizer(tmp_path / "other", other)
    with pytest.raises(BadRecipe, match="2 pieces, such as '墙', are unknown to the parent"):
        new_reward_model(checkpoint_path, tmp_path / "other", seed=1)


def test_the_backbone_is_the_parents_and_the_head_is_small(reward, checkpoint_path):
    parent = load_model(checkpoint_path)
    for name, tensor in parent.model.state_dict().items():
        assert torch.equal(reward.model.model.state_dict()[name], tensor)
    assert reward.model.score.weight.std().item() == pytest.approx(1 / 65**0.5, rel=0.3)


def test_garbled_replies_are_never_the_good_one():
    ways = set()
    for seed in range(200):
        pair = Pair(
            "wishes",
            "问",
            Random(seed).choice(["好", "好好好", "It is a good day.", "春天很好"]),
            "坏",
        )
        bad = garbled(pair, Random(seed))
        assert bad.rejected.strip()
        assert bad.rejected.strip() != pair.chosen
        assert (bad.prompt, bad.chosen, bad.kind) == (pair.prompt, pair.chosen, "garbled")
        ways.add(len(bad.rejected) > len(pair.chosen))
    assert ways == {True, False}


def test_cross_prompt_replies_are_good_ones_to_another_prompt():
    stream = PairStream(
        PAIRS, [], Shares(labelled=0, on_policy=0, cross_prompt=1, garbled=0), seed=1
    )
    for n in range(50):
        pair = stream[n]
        others = {p.chosen for p in PAIRS if p.prompt != pair.prompt}
        assert pair.kind == "cross_prompt"
        assert pair.rejected in others
        assert pair.rejected != pair.chosen


def test_the_stream_keeps_its_shares_and_is_always_the_same():
    own = [Pair("wishes", "问", "好", "坏", "on_policy")]
    shares = Shares(labelled=0.5, on_policy=0.3, cross_prompt=0.1, garbled=0.1)
    stream = PairStream(PAIRS, own, shares, seed=1)
    kinds = [stream[n].kind for n in range(2000)]
    for kind in ("labelled", "on_policy", "cross_prompt", "garbled"):
        share = getattr(shares, kind)
        assert kinds.count(kind) / 2000 == pytest.approx(
            share, abs=3.5 * (share * (1 - share) / 2000) ** 0.5
        )
    again = PairStream(PAIRS, own, shares, seed=1)
    assert [again[n] for n in (7, 1999, 3)] == [stream[n] for n in (7, 1999, 3)]
    assert {p.kind for p in (PairStream(PAIRS, [], shares, 1)[n] for n in range(300))} == {
        "labelled",
        "cross_prompt",
        "garbled",
    }


def test_prompts_are_held_out_whole():
    prompts = [f"问题{i}" for i in range(3000)]
    held = [p for p in prompts if is_validation(p, 0.1)]
    assert len(held) == pytest.approx(300, abs=60)
    assert all(is_validation(p + "\n", 0.1) for p in held)
    stream = PairStream([p for p in PAIRS if is_validation(p.prompt, 0.5)], [], Shares(), 1)
    for pair in validation_pairs(stream, 10, seed=1):
        assert is_validation(pair.prompt, 0.5)


def test_validation_is_of_every_kind_whatever_was_trained_on():
    """A model taught labelled pairs alone is measured on the others too: PPO would find that hole."""
    taught = Shares(labelled=1, on_policy=0, cross_prompt=0, garbled=0)
    own = [Pair("wishes", "问", "好", "坏", "on_policy")]
    for on_policy, more in (([], set()), (own, {"on_policy"})):
        stream = PairStream(PAIRS, on_policy, taught, seed=1)
        kinds = {pair.kind for pair in validation_pairs(stream, 5, seed=1)}
        assert kinds == {"labelled", "cross_prompt", "garbled"} | more
        assert {stream[n].kind for n in range(50)} == {"labelled"}


def test_on_policy_pairs_are_the_best_reply_against_worse_ones():
    rules = read_rules(
        [{"type": "contains", "value": "好"}, {"type": "max_characters", "value": 3}]
    )
    with_reference = Asked("1", "问", "wishes", rules, "好。")
    without = Asked("2", "答", "wishes", rules, "")
    judged = [
        Judged(with_reference, "好好好好", 0.5),
        Judged(with_reference, "坏坏坏坏", 0.0),
        Judged(with_reference, "好", 1.0),
    ]
    assert [(p.chosen, p.rejected) for p in on_policy_pairs(judged)] == [
        ("好", "坏坏坏坏"),
        ("好", "好好好好"),
    ]
    assert [(p.chosen, p.rejected) for p in on_policy_pairs(judged[:2])] == [
        ("好。", "坏坏坏坏"),
        ("好。", "好好好好"),
    ]
    same = [Judged(without, "好好好好", 0.5), Judged(without, "坏坏坏坏", 0.0)]
    assert [(p.chosen, p.rejected) for p in on_policy_pairs(same)] == [("好好好好", "坏坏坏坏")]
    assert on_policy_pairs([Judged(without, "好", 1.0), Judged(without, "真好", 1.0)]) == []


def test_prompts_for_sampling_are_spread_over_tasks():
    asked = [
        Asked(f"{task}{i}", f"{task} {i // 2}", task) for task in ("a", "b", "c") for i in range(20)
    ]
    chosen = spread(asked, 9)
    assert sorted(a.task for a in chosen) == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert len({a.prompt for a in chosen}) == 9


def test_accuracy_counts_ties_as_wrong_and_weighs_kinds_the_same():
    class Length:
        def raw_scores(self, asked):
            return [float(len(reply)) for _, reply in asked]

    pairs = [Pair("a", "q", "long", "no")] * 3 + [Pair("a", "q", "no", "on")]
    pairs += [Pair("a", "q", "no", "long", "garbled")]
    found = pair_accuracy(Length(), pairs)
    assert found["kinds"]["a"] == {
        "garbled": {"accuracy": 0.0, "pairs": 1},
        "labelled": {"accuracy": 0.75, "pairs": 4},
    }
    assert found["tasks"] == {"a": 0.375}


@pytest.fixture(scope="module")
def parent(checkpoint_path, tmp_path_factory):
    return write_policy(checkpoint_path, tmp_path_factory.mktemp("parent") / "checkpoint")


@pytest.fixture
def recipe(parent, tmp_path):
    """Labelled pairs, and prompts whose rule about half of the parent's replies satisfy."""
    write(tmp_path / "preferences.jsonl", PAIRS)
    prompts = [
        {
            "id": f"{task}/{i}",
            "task": task,
            "prompt": form.format(i),
            "rules": [{"type": "max_characters", "value": 6}],
            "reference": "好的。",
        }
        for task, form in QUESTIONS.items()
        for i in range(16)
    ]
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in prompts), "utf-8"
    )
    section = {
        "parent": str(parent),
        "data": "preferences.jsonl",
        "prompts": "prompts.jsonl",
        "steps": 24,
        "warmup": 3,
        "batch": 8,
        "learning_rate": 2e-3,
        "precision": "fp32",
        "device": "cpu",
        "save_every": 8,
        "log_every": 4,
        "on_policy_prompts": 32,
        "max_new_tokens": 12,
        "held_out": 0.3,
        "validation_pairs": 8,
    }
    return Recipe("toy", 1, tmp_path, ("rm",), {"rm": section}, "toy.yaml")


def test_the_stage_learns_measures_and_writes_a_folder(recipe, capsys):
    run_section(recipe, "rm")
    folder = recipe.folder("rm")
    gate = json.loads((folder / "gate.json").read_text())
    assert set(gate["tasks"]) == {"wishes", "safety"}
    assert gate["tasks"]["wishes"] > 0.7
    assert set(gate["kinds"]["wishes"]) == {"labelled", "on_policy", "cross_prompt", "garbled"}
    assert json.loads((folder / "checkpoint" / "gate.json").read_text()) == gate
    assert not (folder / "state.pt").exists()
    # What transformers makes of the folder by itself is what RewardModel says.
    model = AutoModelForSequenceClassification.from_pretrained(
        folder / "checkpoint", dtype=torch.float32
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "checkpoint")
    assert model.config.num_labels == 1
    assert model.config.pad_token_id == 0
    reward = RewardModel.open(folder / "checkpoint")
    asked = [
        ("请说7句话。", "好的，7句话。"),
        ("怎么修3？", "先看3。"),
        ("怎么修3？", "Sorry, no."),
    ]
    batch = [tokenizer(f"Human:{q}\n\nAssistant:{a}")["input_ids"] + [2] for q, a in asked]
    width = max(map(len, batch))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
    with torch.no_grad():
        raw = model(ids, attention_mask=mask).logits[:, 0]
    expected = (raw - model.config.reward_offset) / model.config.reward_scale
    assert reward.scores(asked) == pytest.approx(expected.tolist(), abs=1e-4)
    assert reward.scores(asked)[1] > reward.scores(asked)[2]
    assert "It may reward a task from 0.85 on" in (folder / "checkpoint" / "README.md").read_text()


def test_scores_of_sft_replies_have_mean_0_and_deviation_1(recipe):
    run_section(recipe, "rm")
    folder = recipe.folder("rm")
    reward = RewardModel.open(folder / "checkpoint")
    journal = (folder / "on_policy.jsonl").read_text("utf-8").splitlines()[1:]
    replies = [json.loads(line) for line in journal]
    asked = [(r["prompt"], r["reply"]) for r in replies if r["finished"] and r["reply"]]
    scores = torch.tensor(reward.scores(asked), dtype=torch.float64)
    assert len(scores) > 10
    assert scores.mean().item() == pytest.approx(0, abs=1e-3)
    assert scores.std(correction=0).item() == pytest.approx(1, abs=1e-3)


class Killed(BaseException):
    pass


def test_a_training_that_was_cut_off_ends_with_the_same_weights(recipe, monkeypatch):
    from evalsuite_train.rm import training

    folder = recipe.folder("rm")
    calls = []
    whole = training._loss

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 13:
            raise Killed
        return whole(*arguments)

    run_section(recipe, "rm")
    weights = (folder / "checkpoint" / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    monkeypatch.setattr(training, "_loss", dying)
    with pytest.raises(Killed):
        run_section(recipe, "rm")
    assert torch.load(folder / "state.pt", weights_only=True)["step"] == 8
    assert not (folder / "checkpoint").exists()
    run_section(recipe, "rm")
    assert len(calls) == 13 + 16  # it went on from step 8 of 24
    assert (folder / "checkpoint" / "model.safetensors").read_bytes() == weights


def test_other_settings_do_not_go_on_from_a_saved_state(reward, recipe, tmp_path):
    stream = PairStream(PAIRS, [], Shares(), seed=1)
    settings = {"steps": 2, "warmup": 0, "batch": 2, "save_every": 1, "precision": "fp32"}
    train_reward(reward, stream, PAIRS[:4], Config(**settings, learning_rate=1e-4), tmp_path)
    with pytest.raises(TrainError, match=r"other settings: learning_rate 0\.0001 \(now 0\.001\)"):
        train_reward(reward, stream, PAIRS[:4], Config(**settings, learning_rate=1e-3), tmp_path)


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_saved_state(reward, tmp_path):
    stream = PairStream(PAIRS, [], Shares(), seed=1)
    settings = Config(
        steps=4, warmup=0, batch=2, save_every=1, precision="fp32", learning_rate=1e-4
    )
    train_reward(reward, stream, PAIRS[:4], msgspec.structs.replace(settings, steps=1), tmp_path)
    before = (tmp_path / "state.pt").read_bytes()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["model"]["score.weight"].fill_(float("nan"))
    state["settings"]["steps"] = 4
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(Diverged, match="step 2"):
        train_reward(reward, stream, PAIRS[:4], settings, tmp_path)
    assert before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "preferences.jsonl:1: not a preference"),
        ("{", "preferences.jsonl:1: not a preference"),
        ('{"task": "a", "prompt": "q", "chosen": "好"}', "missing required field `rejected`"),
        (
            '{"task": "a", "prompt": "q", "chosen": "好", "rejected": " 好 "}',
            "the two replies are equal",
        ),
        (
            '{"task": "a", "prompt": "q", "chosen": " ", "rejected": "好"}',
            "an empty prompt or reply",
        ),
        ("", "no preferences"),
    ],
)
def test_a_bad_preference_is_named(tmp_path, line, message):
    (tmp_path / "preferences.jsonl").write_text(line, "utf-8")
    with pytest.raises(BadData, match=message):
        read_pairs(tmp_path / "preferences.jsonl")


def test_a_policy_is_no_reward_model(checkpoint_path):
    with pytest.raises(BadRecipe, match="not a reward model"):
        RewardModel.open(checkpoint_path)
