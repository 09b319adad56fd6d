"""Rewards of a run's answers: what a real reward model says, kept, resumed, never mixed up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from checkpoint_factory import write_tokenizer, write_weights
from runs_factory import make_part, make_record, make_run, on_disk

from evalsuite.chat import BUILTIN
from evalsuite.engines.reward import TransformersReward
from evalsuite.errors import BadCheckpoint, DataMissing, RunDamaged, RunIncomplete, RunLocked
from evalsuite.request import Failure
from evalsuite.reward import RewardSource, _Part, read_rewards, reward_run

WORDS = "今天天气很好我们去公园散步Human:Assistant 0123456789+=?abcdefghij"
TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def write_reward_model(folder, *, labels=1, card=None):
    """A random LLaMA with one score, and a tokenizer of its own: one token a character."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    folder.mkdir(parents=True)
    known = ["<pad>", "<s>", "</s>", "<unk>", *dict.fromkeys(WORDS + TEMPLATE)]
    tokenizer = Tokenizer(
        models.WordLevel({piece: number for number, piece in enumerate(known)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(known),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        num_labels=labels,
        pad_token_id=0,
        initializer_range=0.3,
    )
    torch.manual_seed(7)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    card = {"name": "tiny-rm", "stage": "rm", "parent": "tiny-sft"} | (card or {})
    (folder / "evalsuite.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def rm(tmp_path_factory):
    return write_reward_model(tmp_path_factory.mktemp("rm") / "tiny-rm")


@pytest.fixture(scope="module")
def model(rm):
    return TransformersReward(str(rm), device="cpu")


SOURCE = RewardSource(
    name="rm", source="rm", fingerprint="ab" * 32, template="none", template_sha256="", engine="x"
)


def a_run(out, texts, **changes):
    records = [
        make_record(f"q{i}", 1.0, text=text, prompt=f"{i}+{i}=?", truncated=i == 1)
        for i, text in enumerate(texts)
    ]
    return on_disk(make_run("policy", records, **changes), out)


def lengths(asked):
    """A model that rewards length, the longest first."""
    for index in sorted(range(len(asked)), key=lambda i: -len(asked[i].answer)):
        yield index, float(len(asked[index].answer))


def by_hand(rm, text, *, end):
    """The reward of a text by transformers' own forward, one row without padding."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(rm))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + ([2] if end else [])
    loaded = AutoModelForSequenceClassification.from_pretrained(str(rm), dtype=torch.float32).eval()
    with torch.no_grad():
        return float(loaded(input_ids=torch.tensor([ids])).logits[0, 0])


def test_pitfall_reward_model_has_its_own_template_and_vocabulary(tmp_path, rm, model):
    """The policy's ids and template are not the reward model's: text alone passes between them."""
    policy = tmp_path / "policy"
    write_tokenizer(policy)
    write_weights(policy, seed=1)
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(policy))("今天天气很好")["input_ids"]
    [ours] = model.ids([("1+1=?", "今天天气很好", True)])
    assert set(theirs) - set(ours)
    assert max(theirs) >= len(AutoTokenizer.from_pretrained(str(rm)))
    policy_text = BUILTIN["ziya"].source
    assert policy_text != model.template.source
    [(_, reward)] = model.score([("1+1=?", "今天天气很好", True)])
    text = "[user] 1+1=? [assistant] 今天天气很好"
    assert reward == pytest.approx(by_hand(rm, text, end=True), abs=1e-5)
    assert reward != pytest.approx(
        by_hand(rm, "<human>:1+1=?\n<bot>:今天天气很好", end=True), abs=1e-3
    )


def test_padding_on_the_right_changes_nothing(rm, model):
    """Rows of many lengths in one batch, one of them full of what pads."""
    asked = [("a?", "b" * n, n != 3) for n in (1, 3, 20, 70)] + [("<pad>", "<pad><pad>", True)]
    found = dict(model.score(asked))
    for index, (question, answer, finished) in enumerate(asked[:4]):
        text = f"[user] {question} [assistant] {answer}"
        assert found[index] == pytest.approx(by_hand(rm, text, end=finished), abs=1e-5)
    alone = dict(model.score(asked[4:]))
    assert found[4] == pytest.approx(alone[0], abs=1e-5)


def test_what_does_not_fit_is_a_failure_of_its_own(model):
    found = dict(
        model.score([("a", "b" * 300, True), ("a", "b", True), ("\ud800", "\udfff", True)])
    )
    assert isinstance(found[0], Failure)
    assert "context is 128" in found[0].message
    assert isinstance(found[1], float)
    assert isinstance(found[2], float)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("policy", "not a reward model: a LlamaForCausalLM of stage 'sft'"), ("labels", "3 labels")],
)
def test_what_is_no_reward_model_is_refused(tmp_path, kind, words):
    folder = tmp_path / kind
    if kind == "policy":
        write_tokenizer(folder)
        write_weights(folder, seed=1)
        (folder / "evalsuite.json").write_text('{"name": "tiny-sft", "stage": "sft"}')
    else:
        write_reward_model(folder, labels=3)
    with pytest.raises(BadCheckpoint, match=words):
        TransformersReward(str(folder), device="cpu")


def changed(rm, folder, **entries):
    shutil.copytree(rm, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))
    return folder


def test_the_configuration_may_normalise(tmp_path, rm, model):
    other = changed(rm, tmp_path / "rm", reward_offset=2.0, reward_scale=0.5)
    [(_, raw)] = model.score([("a", "b", True)])
    [(_, normal)] = TransformersReward(str(other), device="cpu").score([("a", "b", True)])
    assert normal == pytest.approx((raw - 2.0) / 0.5)
    broken = changed(rm, tmp_path / "broken", reward_scale=0)
    with pytest.raises(BadCheckpoint, match="reward_scale 0"):
        TransformersReward(str(broken), device="cpu")


def test_a_template_that_is_named_and_not_there_is_missed(tmp_path, rm):
    other = changed(rm, tmp_path / "rm", reward_template="rm")
    (other / "chat_template.jinja").unlink()
    with pytest.raises(BadCheckpoint, match=r"write it there as chat_template\.jinja"):
        TransformersReward(str(other), device="cpu")


def test_rewards_stand_beside_the_records(tmp_path):
    run = a_run(tmp_path, ["abc", "a", ""])
    file = reward_run(run, lengths, SOURCE)
    assert file.name == "rewards-abababababab.jsonl"
    assert sorted(p.name for p in run.path.glob("*reward*")) == [file.name]
    [table] = read_rewards(run)
    assert table.source == SOURCE
    found = {sample: line for (_, sample), line in table.rewards.items()}
    assert [found[f"q{i}"].reward for i in range(3)] == [3.0, 1.0, 0.0]
    assert [found[f"q{i}"].truncated for i in range(3)] == [False, True, False]


def test_a_stopped_start_goes_on_where_it_was(tmp_path):
    run = a_run(tmp_path, ["a" * n for n in range(10)])

    def stops(asked):
        for number, answer in enumerate(lengths(asked)):
            if number == 4:
                raise KeyboardInterrupt
            yield answer

    with pytest.raises(KeyboardInterrupt):
        reward_run(run, stops, SOURCE)
    assert read_rewards(run) == []
    part = run.path / ".rewards-abababababab.jsonl.part"
    with part.open("ab") as stream:
        stream.write(b'{"task":"qu')  # torn by a kill
    asked_again = []

    def counts(asked):
        asked_again.extend(asked)
        yield from lengths(asked)

    reward_run(run, counts, SOURCE)
    assert len(asked_again) == 6
    whole = (run.path / SOURCE.file).read_bytes()
    reward_run(run, counts, SOURCE)
    assert len(asked_again) == 6
    assert (run.path / SOURCE.file).read_bytes() == whole


def test_another_answer_or_another_template_is_rewarded_anew(tmp_path):
    first = a_run(tmp_path / "a", ["aa", "bb"])
    reward_run(first, lengths, SOURCE)
    second = a_run(tmp_path / "b", ["aa", "cccc"])
    (second.path / SOURCE.file).write_bytes((first.path / SOURCE.file).read_bytes())
    asked = []

    def counts(wanted):
        asked.extend(c.answer for c in wanted)
        yield from lengths(wanted)

    reward_run(second, counts, SOURCE)
    assert asked == ["cccc"]
    changed = RewardSource(
        name="rm", source="rm", fingerprint="ab" * 32, template="ziya", template_sha256="1"
    )
    reward_run(second, counts, changed)
    assert asked[1:] == ["aa", "cccc"]


def test_failed_rewards_are_tried_again(tmp_path):
    run = a_run(tmp_path, ["aa", "b"])

    def fails(asked):
        for index, value in lengths(asked):
            yield index, Failure("out_of_memory", "too large") if value == 2 else value

    reward_run(run, fails, SOURCE)
    lines = read_rewards(run)[0].rewards
    assert lines["quiz", "q0"].reward is None
    assert "out_of_memory" in lines["quiz", "q0"].fault
    reward_run(run, lengths, SOURCE)
    assert read_rewards(run)[0].rewards["quiz", "q0"].reward == 2.0


def test_faults_are_named(tmp_path):
    stopped = a_run(tmp_path / "a", ["a"], status="interrupted")
    with pytest.raises(RunIncomplete, match="interrupted"):
        reward_run(stopped, lengths, SOURCE)
    failed = on_disk(make_run("dead", [make_record("q", None)], [make_part()]), tmp_path)
    with pytest.raises(DataMissing, match="no generated answer"):
        reward_run(failed, lengths, SOURCE)
    run = a_run(tmp_path / "b", ["a"])
    with _Part(run.path / SOURCE.file, SOURCE), pytest.raises(RunLocked, match="another process"):
        reward_run(run, lengths, SOURCE)
    reward_run(run, lengths, SOURCE)
    (run.path / SOURCE.file).write_text("{}\n")
    with pytest.raises(RunDamaged, match="remove the file"):
        read_rewards(run)


def test_the_command_line(tmp_path, rm):
    run = a_run(tmp_path, ["abc", "a"])
    arguments = [run.path, "--rm", rm, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite", "reward", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2/2 answers" in done.stderr
    [table] = read_rewards(run)
    assert table.source.name == "tiny-rm"
    assert table.rewards["quiz", "q0"].reward == pytest.approx(
        by_hand(rm, "[user] 0+0=? [assistant] abc", end=True), abs=1e-5
    )


def test_only_the_tasks_asked_for_are_rewarded_and_the_others_are_kept(tmp_path):
    run = a_run(tmp_path, ["one", "three"])
    [task] = {record.task for record in run.records()}
    with pytest.raises(DataMissing, match="no generated answer"):
        reward_run(run, lengths, SOURCE, tasks=["other_*"])
    first = reward_run(run, lengths, SOURCE).read_bytes()
    assert reward_run(run, lengths, SOURCE, tasks=[f"{task[:1]}*"]).read_bytes() == first
    assert b"3.0" in first
