"""DPO, GRPO and RLOO through trl: two steps each on a tiny model, and what they must not get wrong."""

from __future__ import annotations

import inspect
import json
import math

import pytest
import torch
from evalsuite_train.alternatives import dpo, grpo, rloo
from evalsuite_train.alternatives.online import make_judge, online_arguments
from evalsuite_train.alternatives.prompts import prompt_rows
from evalsuite_train.alternatives.reward import Reward
from evalsuite_train.alternatives.states import STATE
from evalsuite_train.alternatives.training import arguments, open_tokenizer
from evalsuite_train.errors import BadData, BadRecipe, GateClosed
from evalsuite_train.feedback.rows import Asked
from evalsuite_train.ladder import run_section
from evalsuite_train.model import load_model
from evalsuite_train.ppo.reward import Judge
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.pairs import Pair
from evalsuite_train.rules import Rule
from evalsuite_train.templates import encode_prompt
from transformers import Trainer, TrainingArguments

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch and accelerate, inside trl
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]
PARENT = "sft/checkpoint"
SHORT = {
    "parent": PARENT,
    "steps": 2,
    "batch": 4,
    "warmup": 0,
    "learning_rate": 1e-3,
    "precision": "fp32",
    "device": "cpu",
    "save_every": 1,
    "log_every": 1,
}
ONLINE = SHORT | {
    "prompts": "prompts.jsonl",
    "validation": "prompts.jsonl",
    "samples": 2,
    "max_new_tokens": 8,
    "sft_bar": 0.8,
}
PAIRS = [
    Pair("t", "题目：中国在哪里？", "亚洲", "欧洲"),
    Pair("t", "What is 2 + 3?", "The answer is 5.", "The answer is 6."),
    Pair("t", "你好", "你好，有什么可以帮你？", "</s>"),
]


@pytest.fixture
def recipe(checkpoint_path, tmp_path, monkeypatch):
    """A copy of the tiny checkpoint that has passed its gate, prompts with rules, and pairs."""
    parent = tmp_path / "sft" / "checkpoint"
    parent.mkdir(parents=True)
    for file in checkpoint_path.iterdir():
        (parent / file.name).write_bytes(file.read_bytes())
    (parent / "gate.json").write_text(json.dumps({"training": {"t": 0.9}}))
    rule = {"type": "max_characters", "value": 30}
    prompts = [{"id": str(i), "task": "t", "prompt": f"说{i}", "rules": [rule]} for i in range(6)]
    write(tmp_path / "prompts.jsonl", prompts)
    pairs = [
        {"task": p.task, "prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected}
        for p in PAIRS
    ]
    write(tmp_path / "preferences.jsonl", pairs * 3)
    monkeypatch.chdir(tmp_path)
    sections = {
        "dpo": SHORT | {"data": "preferences.jsonl", "batch": 3},
        "grpo": dict(ONLINE),
        "rloo": dict(ONLINE),
    }
    return Recipe("toy", 1, tmp_path, (), sections, "toy.yaml")


def write(file, rows):
    file.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


def finished(recipe, section):
    """Run a section and check what every one of them leaves behind."""
    run_section(recipe, section)
    out = recipe.folder(section)
    card = json.loads((out / "checkpoint" / "evalsuite.json").read_text())
    assert (card["stage"], card["step"], card["chat_template"]) == (section, 2, "ziya")
    config = json.loads((out / "checkpoint" / "config.json").read_text())
    before = json.loads((recipe.parent(PARENT) / "config.json").read_text())
    assert config.get("pad_token_id") == before.get("pad_token_id")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert not (out / STATE).exists()
    old, new = load_model(recipe.parent(PARENT)), load_model(out / "checkpoint")
    assert any(
        not torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True)
    )
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_alternative_dpo_through_trl(recipe):
    log = finished(recipe, "dpo")
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)  # policy = reference
    assert [row["step"] for row in log if "loss" in row] == [1, 2]
    ledger = json.loads((recipe.folder("dpo") / "ledger.json").read_text())
    assert ledger == {"pairs": 9, "kept": 9, "dropped": {}}


@pytest.mark.parametrize("section", ["grpo", "rloo"])
def test_alternatives_that_sample_through_trl(recipe, section):
    log = finished(recipe, section)
    rows = [row for row in log if "reward" in row]
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert -1.0 <= row["reward"] <= 1.0
        assert math.isfinite(row["loss"])


def test_a_killed_alternative_goes_on_from_its_state(recipe, monkeypatch):
    from evalsuite_train.alternatives import training

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            run_section(recipe, "dpo")
    state = recipe.folder("dpo") / STATE
    assert (state / "checkpoint-2").is_dir()
    (state / "checkpoint-2").rename(recipe.work / "gone")
    log = finished(recipe, "dpo")
    assert [row["step"] for row in log if "loss" in row] == [1, 2]


def by_hand(policy, reference, row, beta):
    """−log σ(β((π−ref) of the better − (π−ref) of the worse)), one sequence at a time."""
    margins = []
    for reply in (row["good_ids"], row["bad_ids"]):
        ids = torch.tensor([row["asked_ids"] + reply])
        start = len(row["asked_ids"])
        sums = []
        for model in (policy, reference):
            logprobs = model(ids).logits.double().log_softmax(-1)[0]
            sums.append(sum(logprobs[i - 1, ids[0, i]] for i in range(start, ids.shape[1])))
        margins.append(sums[0] - sums[1])
    return -torch.nn.functional.logsigmoid(beta * (margins[0] - margins[1]))


def test_the_dpo_loss_is_that_of_the_paper(
    recipe, checkpoint_path, other_checkpoint_path, tmp_path
):
    config = dpo.Config(**SHORT | {"beta": 0.5})
    tokenizer = open_tokenizer(checkpoint_path)
    rows, _ = dpo.encoded_pairs(tokenizer, PAIRS, config)
    policy, reference = load_model(checkpoint_path), load_model(other_checkpoint_path)
    trainer = dpo.make_trainer(policy, reference, tokenizer, rows, config, tmp_path, 1)
    batch = trainer.data_collator(rows)
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, batch)
        plain, other = load_model(checkpoint_path), load_model(other_checkpoint_path)
        expected = torch.stack([by_hand(plain, other, row, 0.5) for row in rows]).mean()
    assert float(expected) != pytest.approx(math.log(2), abs=0.05)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_a_pair_is_encoded_as_in_sft(checkpoint_path):
    config = dpo.Config(**SHORT)
    tokenizer = open_tokenizer(checkpoint_path)
    rows, _ = dpo.encoded_pairs(tokenizer, PAIRS, config)
    for row, pair in zip(rows, PAIRS, strict=True):
        assert row["asked_ids"] == encode_prompt(tokenizer, pair.prompt, "ziya")
        for ids in (row["good_ids"], row["bad_ids"]):
            assert ids[-1] == tokenizer.eos_token_id
            assert ids.count(tokenizer.eos_token_id) == 1
            assert tokenizer.bos_token_id not in ids


def test_a_pair_that_is_too_long_is_left_out_and_never_cut(checkpoint_path, recipe):
    tokenizer = open_tokenizer(checkpoint_path)
    config = dpo.Config(**SHORT | {"max_length": 30})
    rows, ledger = dpo.encoded_pairs(tokenizer, PAIRS, config)
    assert ledger["pairs"] == len(PAIRS) == ledger["kept"] + sum(ledger["dropped"].values())
    assert 0 < len(rows) < len(PAIRS)
    recipe.sections["dpo"]["max_length"] = 5
    with pytest.raises(BadData, match="no pair can be learnt from"):
        run_section(recipe, "dpo")


def test_no_truncated_or_vetoed_reply_is_rewarded(checkpoint_path):
    tokenizer = open_tokenizer(checkpoint_path)
    veto = Rule(type="excludes", value="差", veto=True)
    asked = [Asked("q", "p", rules=(Rule(type="contains", value="好"), veto))]
    judge = Judge(None, rm_weight=1.0, rules_weight=1.0, veto=True, rm_clip=3.0, penalty=1.0)
    reward = Reward(judge, asked, tokenizer)
    eos = tokenizer.eos_token_id
    good, poor, bad = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in ("你好", "天气", "你好差")
    )
    unk = tokenizer.unk_token_id
    replies = [[*good, eos], [*poor, eos], good, [*bad, eos], [eos], [*good, unk], []]
    values = reward(completion_ids=replies, id=["q"] * len(replies), prompts=[], completions=[])
    assert values == [1.0, 0.5, -1.0, -1.0, -1.0, -1.0, -1.0]


@pytest.mark.parametrize("module", [grpo, rloo])
def test_ids_beyond_the_tokenizer_are_never_sampled(checkpoint_path, tmp_path, module):
    tokenizer = open_tokenizer(checkpoint_path)
    made = online_arguments(module.Config(**ONLINE), tokenizer, 448, tmp_path, 1)
    assert made["generation_kwargs"] == {"suppress_tokens": [0, *range(420, 448)]}
    assert made["mask_truncated_completions"] is False


def test_prompts_are_tokenized_by_trl_as_in_training(checkpoint_path):
    tokenizer = open_tokenizer(checkpoint_path)
    asked = [Asked("a", "中国？"), Asked("b", "a </s> b"), Asked("c", "What?\n")]
    rows = prompt_rows(tokenizer, asked, "ziya")
    assert rows["id"] == ["a", "c"]
    for text, prompt in zip(rows["prompt"], ("中国？", "What?\n"), strict=True):
        assert tokenizer(text=[text])["input_ids"] == [encode_prompt(tokenizer, prompt, "ziya")]
    with pytest.raises(BadRecipe, match="cannot be asked through trl"):
        prompt_rows(tokenizer, asked, "atom")


def test_padding_is_never_eos(checkpoint_path):
    tokenizer = open_tokenizer(checkpoint_path)
    assert tokenizer.pad_token_id == tokenizer.unk_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize("section", ["grpo", "rloo"])
def test_no_rl_before_sft_reaches_its_bar(recipe, section):
    gate = recipe.parent(PARENT) / "gate.json"
    gate.write_text(json.dumps({"training": {"t": 0.79}}))
    with pytest.raises(GateClosed, match=r"below 0\.8: t 0\.790"):
        run_section(recipe, section)
    assert not (recipe.folder(section) / "checkpoint").exists()


def test_prompts_that_nobody_judges_are_refused(recipe, checkpoint_path):
    write(recipe.work / "prompts.jsonl", [{"id": "x", "task": "t", "prompt": "说", "rules": []}])
    with pytest.raises(BadData, match="'x' has no rules"):
        run_section(recipe, "rloo")
    recipe.sections["rloo"]["tasks"] = ["u"]
    with pytest.raises(BadData, match="no prompts of these tasks"):
        run_section(recipe, "rloo")


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("grpo", "samples", 3, "divisor of batch"),
        ("rloo", "temperature", 0, "must be above 0"),
        ("dpo", "steps", 0, "at least 1"),
        ("grpo", "evaluate_every", 0, "at least 1"),
        ("dpo", "betta", 0.1, "did you mean 'beta'"),
    ],
)
def test_a_bad_setting_is_refused(recipe, section, key, value, says):
    recipe.sections[section][key] = value
    with pytest.raises(BadRecipe, match=says):
        run_section(recipe, section)


def test_pitfall_transformers_5_trainer_arguments_are_gone(tmp_path):
    """What older recipes pass is refused by this transformers, and nothing here passes it."""
    for gone in ("evaluation_strategy", "overwrite_output_dir"):
        with pytest.raises(TypeError, match=gone):
            TrainingArguments(output_dir=str(tmp_path), **{gone: "no"})
    assert "tokenizer" not in inspect.signature(Trainer.__init__).parameters
    made = arguments(dpo.Config(**SHORT), tmp_path, 1)
    assert {"evaluation_strategy", "overwrite_output_dir", "tokenizer"}.isdisjoint(made)
    known = inspect.signature(TrainingArguments.__init__).parameters
    assert set(made) <= set(known)


def test_the_reward_model_adds_to_the_rules(recipe, checkpoint_path):
    class Fixed:
        def scores(self, asked, *, batch=64):
            return [5.0 if "好" in reply else -5.0 for _, reply in asked]

    asked = [Asked("q", "p", rules=(Rule(type="contains", value="好"),))]
    tokenizer = open_tokenizer(checkpoint_path)
    judge = make_judge(grpo.Config(**ONLINE), recipe)
    judge = Judge(
        Fixed(),
        rm_weight=judge.rm_weight,
        rules_weight=judge.rules_weight,
        veto=judge.veto,
        rm_clip=3.0,
        penalty=1.0,
    )
    reward = Reward(judge, asked, tokenizer)
    eos = tokenizer.eos_token_id
    good, bad = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("你好", "天气"))
    values = reward(completion_ids=[[*good, eos], [*bad, eos], good], id=["q"] * 3)
    assert values == [4.0, -3.0, -4.0]
