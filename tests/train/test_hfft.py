"""HFFT: what is kept of the sampled replies, what is dropped and why, and that it is learnt."""

from __future__ import annotations

import json

import pytest
from evalsuite_train.errors import BadData, BadRecipe
from evalsuite_train.experience import Experience, ExperiencePool
from evalsuite_train.feedback.candidates import Candidate, Judged, Sampling, best, judge, sample
from evalsuite_train.feedback.rows import Asked, read_prompts
from evalsuite_train.ladder import run_section
from evalsuite_train.recipe import Recipe
from evalsuite_train.rules import Rule

SETTINGS = {
    "prompts": "prompts.jsonl",
    "data": "sft.jsonl",
    "samples": 4,
    "bar": 1.0,
    "max_new_tokens": 12,
    "temperature": 1.0,
    "batch": 8,
    "steps": 30,
    "warmup": 2,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "max_length": 128,
    "device": "cpu",
}


@pytest.fixture
def recipe(checkpoint_path, tmp_path):
    """Prompts for which a short reply of a random model is good, and a few SFT conversations."""
    prompts = [
        {
            "id": f"q{i}",
            "task": "wishes",
            "prompt": f"说{i}句话",
            "rules": [{"type": "max_characters", "value": 40}],
            "reference": "好",
        }
        for i in range(12)
    ]
    turns = [
        {"from": "human", "value": "你好"},
        {"from": "assistant", "value": "你好，有什么可以帮你？"},
    ]
    write(tmp_path / "prompts.jsonl", prompts)
    write(tmp_path / "sft.jsonl", [{"task": "chat", "conversations": turns}] * 3)
    section = {"parent": str(checkpoint_path), **SETTINGS}
    return Recipe("toy", 1, tmp_path, ("hfft",), {"hfft": section}, "toy.yaml")


def write(file, rows):
    file.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


def test_row_human_feedback_hfft(recipe):
    run_section(recipe, "hfft")
    assert not [*recipe.folder("hfft").glob("state*.pt")]  # they go once the checkpoint stands
    out = recipe.folder("hfft")
    ledger = json.loads((out / "ledger.json").read_text())
    assert ledger["sampled"] == 48
    assert ledger["kept"] + sum(ledger["dropped"].values()) == 48
    assert ledger["dropped"]["truncated"] > 0
    kept = [json.loads(line) for line in (out / "kept.jsonl").read_text().splitlines()]
    assert len(kept) == ledger["kept"] == ledger["prompts with a kept reply"] > 0
    card = json.loads((out / "checkpoint" / "evalsuite.json").read_text())
    assert (card["stage"], card["step"], card["chat_template"]) == ("hfft", 30, "ziya")
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]


def test_the_experience_pool_of_ppo_is_judged_instead_of_sampling(recipe):
    def experience(prompt, reply, finished=True):
        return Experience(prompt, "wishes", reply, 1.0, 0.0, 1, finished)

    pool = ExperiencePool(recipe.work / "pool.jsonl.gz")
    pool.append(
        [
            experience("q1", "今天天气很好"),
            experience("q1", "今" * 50),
            experience("q2", "好", False),
        ]
    )
    pool.append([experience("q3", "公园"), experience("unknown", "好")])
    recipe.sections["hfft"]["pool"] = "pool.jsonl.gz"
    run_section(recipe, "hfft")
    out = recipe.folder("hfft")
    kept = [
        json.loads(line)["conversations"] for line in (out / "kept.jsonl").read_text().splitlines()
    ]
    assert [(c[0]["value"], c[1]["value"]) for c in kept] == [
        ("说1句话", "今天天气很好"),
        ("说3句话", "公园"),
    ]
    ledger = json.loads((out / "ledger.json").read_text())
    assert (ledger["sampled"], ledger["dropped"]) == (4, {"below the bar": 1, "truncated": 1})
    assert not (out / "state-candidates.jsonl").exists()


def candidate(number, reply="好", finished=True, id="q"):
    return Candidate(f"{id}{number}" if id == "n" else id, "t", "p", reply, finished)


def test_only_the_best_finished_and_allowed_replies_are_kept():
    judged = [
        Judged(candidate(0, "a"), (0.5,)),
        Judged(candidate(1, "b"), (1.0,)),
        Judged(candidate(2, "b"), (1.0,)),
        Judged(candidate(3, "c"), (0.9,)),
        Judged(candidate(4, "d", finished=False), None, "truncated"),
        Judged(candidate(5, "e"), None, "vetoed"),
    ]
    kept, ledger = best(judged, bar=0.8, keep=1)
    assert [c.reply for c in kept] == ["b"]
    assert ledger["dropped"] == {
        "below the bar": 1,
        "not the best": 1,
        "the same reply again": 1,
        "truncated": 1,
        "vetoed": 1,
    }
    assert [c.reply for c in best(judged, bar=0.0, keep=2)[0]] == ["b", "c"]


def test_the_rules_come_before_the_reward_model():
    asked = [
        Asked(
            "q",
            "p",
            rules=(Rule(type="contains", value="a"), Rule(type="excludes", value="x", veto=True)),
        )
    ]
    replies = [candidate(0, "a"), candidate(1, "a b"), candidate(2, "b"), candidate(3, "ax")]
    judged = judge(replies, asked, lambda pairs: [0.1, 0.9, 5.0, 9.0], rules=True)
    assert [one.value for one in judged] == [(1.0, 0.1), (1.0, 0.9), (0.5, 5.0), None]
    assert best(judged, bar=1.0, keep=1)[0] == [replies[1]]
    alone = judge(replies, asked, lambda pairs: [0.1, 0.9, 5.0, 9.0], rules=False)
    assert best(alone, bar=0.0, keep=1)[0] == [replies[3]]


def test_a_truncated_reply_is_worth_nothing_whoever_judges():
    asked = [Asked("q", "p", rules=(Rule(type="contains", value="a"),))]
    cut = [candidate(0, "a", finished=False)]
    for rules, model in (
        (True, None),
        (False, lambda pairs: [99.0] * len(pairs)),
        (True, lambda pairs: [99.0] * len(pairs)),
    ):
        assert judge(cut, asked, model, rules=rules) == [Judged(cut[0], None, "truncated")]


def test_sampling_goes_on_after_a_torn_write(recipe, checkpoint_path, tmp_path, monkeypatch):
    from evalsuite_train.checkpoint import load_tokenizer
    from evalsuite_train.feedback import candidates
    from evalsuite_train.model import load_model

    monkeypatch.setattr(candidates, "PORTION", 4)
    asked = read_prompts(tmp_path / "prompts.jsonl")
    sampling = Sampling(template="ziya", samples=2, max_new_tokens=6, temperature=1.0, top_p=1.0)
    model, tokenizer = load_model(checkpoint_path), load_tokenizer(checkpoint_path)

    def again(file, identity="a"):
        return sample(asked, model, tokenizer, sampling, file, seed=1, identity=identity)

    whole = again(tmp_path / "whole.jsonl")
    assert len(whole) == 24
    content = (tmp_path / "whole.jsonl").read_bytes()
    calls = []
    real = candidates.generate
    monkeypatch.setattr(
        candidates, "generate", lambda *a, **k: calls.append(len(a[1])) or real(*a, **k)
    )
    for size, portions in (
        (len(content), 0),
        (len(content) - 3, 1),
        (len(content) // 2, 2),
        (5, 3),
        (0, 3),
    ):
        calls.clear()
        (tmp_path / "torn.jsonl").write_bytes(content[:size])
        assert again(tmp_path / "torn.jsonl") == whole
        assert (tmp_path / "torn.jsonl").read_bytes() == content
        assert calls == [8] * portions
    calls.clear()
    again(tmp_path / "torn.jsonl", identity="another parent")
    assert calls == [8] * 3


def test_nothing_kept_is_an_error_that_says_what_was_dropped(recipe):
    recipe.sections["hfft"]["bar"] = 1.5
    with pytest.raises(BadData, match=r"none of 48 candidates.*below the bar"):
        run_section(recipe, "hfft")
    assert not (recipe.folder("hfft") / "checkpoint").exists()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("replay", 1.0, "replay is 1.0"),
        ("temperature", 0, "temperature is 0"),
        ("reward", "rm", "no rm is named"),
        ("samples", 0, "at least 1"),
        ("reward", "rule", "Invalid enum value"),
        ("sample", 3, "did you mean 'samples'"),
    ],
)
def test_a_bad_setting_is_refused(recipe, key, value, says):
    recipe.sections["hfft"][key] = value
    with pytest.raises(BadRecipe, match=says):
        run_section(recipe, "hfft")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("{", ":1: not JSON"),
        ("[]", ":1: not a JSON object"),
        ('{"id": "a", "prompt": " "}', "prompt is empty"),
        ('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}', ":2: the id 'a' stands twice"),
        (
            '{"id": "a", "prompt": "x", "rules": [{"type": "exact", "value": "b"}]}',
            "did you mean 'exactly'",
        ),
        ('{"prompt": "x"}', "missing required field `id`"),
    ],
)
def test_bad_prompts_are_refused_by_line(tmp_path, text, says):
    (tmp_path / "prompts.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(BadData, match=says):
        read_prompts(tmp_path / "prompts.jsonl")
