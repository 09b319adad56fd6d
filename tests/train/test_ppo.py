"""The stage ppo: it learns, it is gated, it stops when reward and gold part, and it can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise

import msgspec
import numpy as np
import pytest
import torch
from evalsuite_train.checkpoint import load_tokenizer, read_card
from evalsuite_train.errors import BadData, BadRecipe, GateClosed, TrainError
from evalsuite_train.experience import ExperiencePool
from evalsuite_train.feedback.rows import Asked
from evalsuite_train.generation import generate
from evalsuite_train.ladder import run_section
from evalsuite_train.model import Shape, load_model, new_model
from evalsuite_train.ppo.config import Config
from evalsuite_train.ppo.iteration import portion
from evalsuite_train.ppo.learner import Learner
from evalsuite_train.ppo.retained import Retained
from evalsuite_train.ppo.reward import Judge
from evalsuite_train.ppo.rollout import rollout
from evalsuite_train.ppo.validation import Measured, Validation, sign_flip_p
from evalsuite_train.processes import ALONE
from evalsuite_train.recipe import Recipe
from evalsuite_train.rules import read_rules
from hypothesis import given
from hypothesis import strategies as st
from policy_factory import QUESTIONS, write_gamed_rm, write_policy
from scipy.stats import permutation_test

EOS = 2


# What PPO does to a policy, without a stage around it.


@pytest.mark.parametrize("value", ["shared", "policy"])
def test_ppo_learns_a_toy_reward(value):
    """A random model learns to say token 7 and to end; with a huge KL coefficient it stays."""
    gains = {}
    for kl in (0.01, 100.0):
        shape = Shape(hidden=32, layers=1, heads=2, key_value_heads=2, feed_forward=64, context=32)
        policy = new_model(shape, 16, seed=1).eval()
        config = Config(
            device="cpu",
            kl=kl,
            iterations=20,
            precision="fp32",
            learning_rate=3e-3,
            value_learning_rate=1e-2,
            minibatches=2,
            epochs=3,
            value=value,
        )
        learner = Learner(
            policy, policy.get_decoder() if value == "policy" else None, config, allowed=16
        )
        prompts = [[1, 3 + i % 5] for i in range(64)]
        means, drift = [], 0.0
        for iteration in range(config.iterations):
            replies = generate(
                policy, prompts, max_new_tokens=8, temperature=1.0, seed=iteration, eos=EOS
            )
            worth = [r.ids.count(7) / 4 if r.finished else -1.0 for r in replies]
            batch = rollout(prompts, replies, EOS)
            learner.anneal(iteration)
            targets = learner.targets(batch, torch.tensor(worth))
            learner.update(batch, targets, seed=iteration)
            means.append(float(np.mean(worth)))
            drift = float(targets.kl.sum(-1).mean())
        gains[kl] = (means[-1] - means[0], drift)
    assert gains[0.01][0] > 0.8
    assert gains[0.01][1] > 1.0
    assert abs(gains[100.0][1]) < gains[0.01][1] / 10
    assert gains[100.0][0] < gains[0.01][0] / 3


def test_what_is_retained_is_not_unlearnt(checkpoint_path, tmp_path):
    """Rewarded for one token, a policy forgets a conversation; learnt beside the reward, it does not."""
    tokenizer = load_tokenizer(checkpoint_path)
    turns = [{"from": "human", "value": "你好"}, {"from": "assistant", "value": "今天天气很好。"}]
    with (tmp_path / "sft.jsonl").open("w", encoding="utf-8") as lines:
        for task in ("greeting", "wishes"):
            lines.write(json.dumps({"task": task, "conversations": turns}) + "\n")
    losses = {}
    for retain in (True, False):
        policy = load_model(checkpoint_path)
        retained = Retained.read(
            tmp_path / "sft.jsonl",
            tokenizer,
            "ziya",
            trained={"wishes"},
            max_length=100,
            batch=4,
            seed=1,
            processes=ALONE,
        )
        assert [sample.task for sample in retained._samples] == ["greeting"]
        start = float(retained.loss(policy, 0, None).detach())
        config = Config(device="cpu", precision="fp32", learning_rate=3e-3, minibatches=2)
        learner = Learner(
            policy, None, config, len(tokenizer), retained=retained if retain else None
        )
        prompts = [[1, 10 + i % 5] for i in range(32)]
        for iteration in range(4):
            replies = generate(
                policy,
                prompts,
                max_new_tokens=6,
                temperature=1.0,
                seed=iteration,
                eos=EOS,
                allowed=len(tokenizer),
            )
            worth = torch.tensor([r.ids.count(7) / 3 if r.finished else -1.0 for r in replies])
            batch = rollout(prompts, replies, EOS)
            means = learner.update(batch, learner.targets(batch, worth), seed=iteration)
            assert ("retained_loss" in means) == retain
        losses[retain] = float(retained.loss(policy, 0, None).detach())
    assert losses[True] < start / 2 < start < losses[False] * 1.05
    with pytest.raises(BadData, match="no conversation of another task"):
        Retained.read(
            tmp_path / "sft.jsonl",
            tokenizer,
            "ziya",
            trained={"wishes", "greeting"},
            max_length=100,
            batch=4,
            seed=1,
            processes=ALONE,
        )


# The reward.


class Fixed:
    """A reward model whose opinion is given."""

    def __init__(self, value):
        self.value = value

    def scores(self, asked):
        return [self.value] * len(asked)


VETO = read_rules(
    [{"type": "contains", "value": "好", "veto": True}, {"type": "max_characters", "value": 2}]
)


@given(
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6),
    st.floats(0, 10),
    st.floats(0, 10),
    st.floats(0.01, 5),
    st.floats(0.1, 10),
)
def test_no_truncated_sample_is_rewarded(high, low, rm_weight, rules_weight, penalty, clip):
    """Whatever the reward model thinks of it, it lies below every finished reply without a veto."""
    settings = {
        "rm_weight": rm_weight,
        "rules_weight": rules_weight,
        "veto": True,
        "rm_clip": clip,
        "penalty": penalty,
    }
    asked = Asked("1", "问", "wishes", VETO)
    best, worst = Judge(Fixed(high), **settings), Judge(Fixed(low), **settings)
    truncated, vetoed, empty = best([asked] * 3, ["好", "坏", "  "], [False, True, True])
    finished = worst([asked] * 2, ["好", "好好好好"], [True, True])
    assert truncated.total == vetoed.total == empty.total
    assert all(worth.total > truncated.total for worth in finished)
    assert truncated.gold == empty.gold == 0
    assert truncated.rm is None


def test_the_reward_is_the_weighted_sum_of_its_parts():
    judge = Judge(Fixed(0.4), rm_weight=2, rules_weight=3, veto=False, rm_clip=3, penalty=1)
    asked = Asked("1", "问", "wishes", VETO)
    worth = judge([asked, asked], ["好好好", "坏"], [True, True])
    assert worth[0].total == pytest.approx(2 * 0.4 + 3 * 0.5)
    assert worth[1].total == pytest.approx(2 * 0.4 + 3 * 0.5)  # the veto is off
    assert worth[1].vetoed
    assert not worth[0].vetoed
    clipped = Judge(Fixed(90.0), rm_weight=2, rules_weight=0, veto=False, rm_clip=3, penalty=1)
    assert clipped([asked], ["好"], [True])[0].total == 6


def test_the_reward_model_judges_the_tasks_it_may():
    judge = Judge(
        Fixed(0.4),
        rm_weight=1,
        rules_weight=1,
        veto=True,
        rm_clip=3,
        penalty=1,
        rm_tasks=frozenset({"safety"}),
    )
    worth = judge(
        [Asked("1", "问", "wishes", VETO), Asked("2", "问", "safety", VETO)],
        ["好", "好"],
        [True, True],
    )
    assert [w.rm for w in worth] == [None, 0.4]
    assert [w.total for w in worth] == [1.0, 1.4]


# The alarm.


def test_sign_flips_give_the_p_value_of_scipys_permutation_test():
    draw = np.random.default_rng(1)
    for shift in (0.0, 0.1, 0.3):
        differences = draw.normal(shift, 1, 60)
        expected = permutation_test(
            (differences,), np.mean, permutation_type="samples", alternative="greater", n_resamples=20_000,
            rng=np.random.default_rng(2),
        ).pvalue  # fmt: skip
        assert sign_flip_p(differences) == pytest.approx(expected, abs=0.015)
    assert sign_flip_p(np.zeros(5)) == 1.0


@pytest.fixture
def validation(checkpoint_path):
    asked = [Asked(f"{t}/{i}", "问", t, VETO) for t in ("a", "b") for i in range(100)]
    judge = Judge(None, rm_weight=1, rules_weight=1, veto=True, rm_clip=3, penalty=1)
    tokenizer = load_tokenizer(checkpoint_path)
    return Validation(
        asked, tokenizer, judge, template="ziya", max_new_tokens=4, temperature=1.0, seed=1
    )


@pytest.mark.parametrize(
    ("reward", "gold_a", "gold_b", "task"),
    [
        (+0.3, -0.3, -0.3, "all"),  # both tasks fall
        (+0.3, -0.4, +0.4, "a"),  # one falls behind another's rise
        (+0.3, +0.1, +0.1, None),  # honest
        (-0.3, -0.3, -0.3, None),  # both down: bad, but the reward is not gamed
        (+0.3, -0.01, +0.01, None),  # noise
    ],
)
def test_parting_is_found_in_all_prompts_and_in_each_task(validation, reward, gold_a, gold_b, task):
    draw = np.random.default_rng(1)
    start = Measured([0.5] * 200, [0.5] * 200, [0.0] * 200)
    gold = np.repeat([gold_a, gold_b], 100) + draw.normal(0, 0.3, 200) + 0.5
    now = Measured(gold.tolist(), gold.tolist(), (reward + draw.normal(0, 0.3, 200)).tolist())
    alarm = validation.parted(start, now, alpha=0.01)
    assert (alarm and alarm.task) == task
    if alarm:
        assert alarm.gold < 0 < alarm.reward
        assert f"({task})" in str(alarm)


def test_false_alarms_are_rare_when_nothing_changes(validation):
    """With no effect at all, the test keeps its level over many looks."""
    draw = np.random.default_rng(3)
    start = Measured([0.5] * 200, [0.5] * 200, [0.0] * 200)
    alarms = 0
    for _ in range(30):
        gold = (0.5 + draw.normal(0, 0.3, 200)).tolist()
        alarms += (
            validation.parted(start, Measured(gold, gold, [0.5] * 200), alpha=0.05) is not None
        )
    assert alarms <= 5  # 30 × 0.05 = 1.5 expected at most; P(X > 5) < 0.4 %


# The stage.


@pytest.fixture(scope="module")
def parent(checkpoint_path, tmp_path_factory):
    folder = write_policy(checkpoint_path, tmp_path_factory.mktemp("sft") / "checkpoint", steps=90)
    write(folder / "gate.json", {"stage": "sft", "training": {"wishes": 0.9, "safety": 0.9}})
    write(folder / "evalsuite.json", {"name": "toy-sft"})
    return folder


@pytest.fixture(scope="module")
def gamed_rm(parent, tmp_path_factory):
    """A reward model of high pair accuracy that learnt the wrong thing: it loves one sentence."""
    return write_gamed_rm(parent, tmp_path_factory.mktemp("rm"))


def write(file, content):
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_prompts(file, start, count):
    with file.open("w", encoding="utf-8") as lines:
        for i in range(start, start + count):
            for task, form in QUESTIONS.items():
                row = {
                    "id": f"{task}/{i}",
                    "task": task,
                    "prompt": form.format(i),
                    "rules": [
                        {"type": "contains", "value": "好"},
                        {"type": "contains", "value": "天气"},
                    ],
                    "reference": "今天天气很好。",
                }
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")


@pytest.fixture
def recipe(parent, tmp_path):
    write_prompts(tmp_path / "prompts.jsonl", 0, 50)
    write_prompts(tmp_path / "validation.jsonl", 500, 20)
    section = {
        "parent": str(parent),
        "rm": None,
        "prompts": "prompts.jsonl",
        "validation": "validation.jsonl",
        "iterations": 8,
        "prompts_per_iteration": 48,
        "max_new_tokens": 16,
        "learning_rate": 2e-3,
        "minibatches": 3,
        "kl": 0.02,
        "evaluate_every": 4,
        "save_every": 2,
        "device": "cpu",
    }
    return Recipe("toy", 1, tmp_path, ("ppo",), {"ppo": section}, "toy.yaml")


def changed(recipe, **settings):
    return msgspec.structs.replace(recipe, sections={"ppo": {**recipe.sections["ppo"], **settings}})


def read_rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


def test_row_human_feedback_ppo(recipe, parent):
    """The gold score rises with the reward, every sample is in the pool, the checkpoint is whole."""
    run_section(recipe, "ppo")
    folder = recipe.folder("ppo")
    rows = read_rows(folder)
    looks = [row for row in rows if "validation" in row]
    assert [row["iteration"] for row in looks] == [0, 4, 8]
    first, last = looks[0]["validation"], looks[-1]["validation"]
    assert last["gold_sampled"] > first["gold_sampled"] + 0.3
    assert last["gold_greedy"] >= first["gold_greedy"]
    assert last["reward"] > first["reward"] + 0.1  # half of it is greedy, which was good before
    trained = [row for row in rows if "kl" in row]
    assert len(trained) == 8
    for key in (
        "reward",
        "rules",
        "gold",
        "kl",
        "entropy",
        "clipped",
        "value_loss",
        "length",
        "truncated",
    ):
        assert all(isinstance(row[key], float) for row in trained), key
    pool = list(ExperiencePool(folder / "experience.jsonl.gz"))
    assert len(pool) == 8 * 48
    assert [row["reward"] for row in trained] == pytest.approx(
        [np.mean([s.reward for s in pool if s.iteration == i]) for i in range(1, 9)], abs=1e-3
    )
    assert all(s.reward == -1.0 for s in pool if not s.finished)
    model = load_model(folder / "checkpoint")
    assert model.config.vocab_size == load_model(parent).config.vocab_size
    assert read_card(folder / "checkpoint")["parent"] == "toy-sft"
    assert read_card(folder / "checkpoint")["chat_template"] == "ziya"
    card = (folder / "checkpoint" / "README.md").read_text("utf-8")
    assert "8 of 8 iterations, 384 sampled replies" in card
    assert "guards were off" not in card
    assert (folder / "checkpoint" / "train_log.jsonl").is_file()
    assert "<svg" in (folder / "curves.svg").read_text("utf-8")
    assert not (folder / "state.pt").exists()


def test_reward_hacking_is_detected_and_stops(recipe, gamed_rm):
    """A reward model that loves one sentence: reward up, gold down; the last good policy is kept."""
    gamed = changed(
        recipe,
        rm=str(gamed_rm),
        rules_weight=0.0,
        evaluate_every=2,
        iterations=12,
        learning_rate=5e-4,
    )
    # Gold is that a reply is not the loved sentence: nearly every reply of the parent is good.
    for name in ("prompts", "validation"):
        file = gamed.work / f"{name}.jsonl"
        file.write_text(
            file.read_text("utf-8").replace(
                '[{"type": "contains", "value": "好"}, {"type": "contains", "value": "天气"}]',
                '[{"type": "excludes", "value": "Sorry"}]',
            ),
            "utf-8",
        )
    run_section(gamed, "ppo")
    folder = gamed.folder("ppo")
    looks = [row for row in read_rows(folder) if "validation" in row]
    assert "reward and gold have parted" in looks[-1]["alarm"]
    assert looks[-1]["validation"]["gold_sampled"] < looks[0]["validation"]["gold_sampled"]
    assert looks[-1]["validation"]["reward"] > looks[0]["validation"]["reward"]
    assert looks[-1]["iteration"] < 12
    assert all("alarm" not in row for row in looks[:-1])
    assert read_card(folder / "checkpoint")["step"] == looks[-2]["iteration"]
    assert "**Stopped early**: reward and gold have parted" in (
        folder / "checkpoint" / "README.md"
    ).read_text("utf-8")

    hacked = changed(gamed, guards=False, iterations=looks[-1]["iteration"] + 2)
    run_section(hacked, "ppo")
    looks = [row for row in read_rows(folder) if "validation" in row]
    assert "alarm" in looks[-1]
    assert read_card(folder / "checkpoint")["step"] == hacked.sections["ppo"]["iterations"]
    assert "**The guards were off.**" in (folder / "checkpoint" / "README.md").read_text("utf-8")


def test_a_run_killed_by_kill_9_ends_the_same(recipe):
    """Weights, log and pool are those of a run that was never interrupted, bit for bit."""
    recipe = changed(recipe, iterations=6)
    folder = recipe.folder("ppo")

    def result():
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(folder)]
        pool = (folder / "experience.jsonl.gz").read_bytes()
        return (folder / "checkpoint" / "model.safetensors").read_bytes(), rows, pool

    run_section(recipe, "ppo")
    whole = result()
    shutil.rmtree(folder)
    file = recipe.work / "toy.yaml"
    write(file, {"name": "toy", "seed": 1, "work": str(recipe.work), **recipe.sections})
    command = "import sys; sys.argv[0] = 'x'; from evalsuite_train.cli import main; main()"
    paths = os.pathsep.join(path for path in sys.path if path)
    threads = str(torch.get_num_threads())
    with subprocess.Popen(
        [sys.executable, "-c", command, "ppo", "--recipe", str(file)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": threads},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith('{"iteration": 3'):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    saved = torch.load(folder / "state.pt", weights_only=True)["step"]
    assert saved in (2, 4)  # the process may have come further before the signal did
    assert len(ExperiencePool(folder / "experience.jsonl.gz")) >= 3 * 48
    with pytest.raises(TrainError, match=r"other settings: kl 0\.02 \(now 0\.03\)"):
        run_section(changed(recipe, kl=0.03), "ppo")
    run_section(recipe, "ppo")
    assert result() == whole


def test_no_rl_before_sft_reaches_its_bar(recipe, parent):
    below = changed(recipe, sft_bar=0.95)
    with pytest.raises(
        GateClosed,
        match=r"accuracy on its training split is below 0\.95: safety 0\.900, wishes 0\.900",
    ):
        run_section(below, "ppo")
    assert not (below.folder("ppo") / "checkpoint").exists()


def test_no_reward_before_the_reward_model_reaches_its_bar(recipe, gamed_rm, tmp_path):
    rm = tmp_path / "rm"
    shutil.copytree(gamed_rm, rm)
    write(rm / "gate.json", {"stage": "rm", "bar": 0.85, "tasks": {"wishes": 0.9, "safety": 0.6}})
    with pytest.raises(
        GateClosed, match=r"the reward model's pair accuracy is below 0\.85: safety 0\.600"
    ):
        run_section(changed(recipe, rm=str(rm)), "ppo")
    quick = {"iterations": 1, "prompts_per_iteration": 6}
    run_section(changed(recipe, rm=str(rm), rm_tasks=["wishes"], **quick), "ppo")
    pool = list(ExperiencePool(recipe.folder("ppo") / "experience.jsonl.gz"))
    assert {s.task for s in pool if s.rm is not None} == {"wishes"}
    assert {s.task for s in pool if s.finished and s.rm is None} == {"safety"}
    run_section(changed(recipe, rm=str(rm), tasks=["wishes"], **quick), "ppo")
    run_section(changed(recipe, rm=str(rm), guards=False, **quick), "ppo")


def test_every_prompt_comes_once_before_any_comes_again(recipe):
    asked = [Asked(str(i), f"问{i}") for i in range(10)]
    portions = [[a.id for a in portion(asked, i, 7, seed=1)] for i in range(20)]
    flat = [i for portion in portions for i in portion]
    epochs = [flat[at : at + 10] for at in range(0, 140, 10)]
    assert all(sorted(epoch, key=int) == [str(i) for i in range(10)] for epoch in epochs)
    assert all(a != b for a, b in pairwise(epochs))


def test_a_prompt_that_nothing_judges_is_named(recipe, gamed_rm):
    lines = (recipe.work / "prompts.jsonl").read_text("utf-8").splitlines()
    row = {**json.loads(lines[0]), "rules": []}
    (recipe.work / "prompts.jsonl").write_text("\n".join([json.dumps(row), *lines[1:]]), "utf-8")
    with pytest.raises(BadData, match="prompt 'wishes/0' has no rules, and no reward model"):
        run_section(recipe, "ppo")
    run_section(changed(recipe, rm=str(gamed_rm), iterations=1, prompts_per_iteration=6), "ppo")


def test_an_unknown_task_is_named(recipe):
    with pytest.raises(BadData, match="no prompt of poetry"):
        run_section(changed(recipe, tasks=["wishes", "poetry"]), "ppo")


def test_the_reward_models_backbone_needs_the_policys_vocabulary(
    recipe, gamed_rm, parent, tmp_path
):
    quick = {"iterations": 1, "prompts_per_iteration": 6, "value": "rm"}
    run_section(changed(recipe, rm=str(gamed_rm), **quick), "ppo")
    from evalsuite_train.vocabulary import extend, write_tokenizer

    other = tmp_path / "other"
    shutil.copytree(parent, other)
    write_tokenizer(other, extend((parent / "tokenizer.model").read_bytes(), "稻谷"))
    shutil.rmtree(recipe.folder("ppo"))
    with pytest.raises(BadRecipe, match="another vocabulary than the policy"):
        run_section(changed(recipe, parent=str(other), rm=str(gamed_rm), **quick), "ppo")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": 0}, "iterations is 0"),
        ({"kl": -0.1}, "kl is -0.1"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"minibatches": 99}, "99 minibatches of 48 prompts"),
        ({"value": "rm"}, "no rm is named"),
        ({"clipp": 0.3}, "did you mean 'clip'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(recipe, settings, message):
    with pytest.raises(BadRecipe, match=message):
        run_section(changed(recipe, **settings), "ppo")
