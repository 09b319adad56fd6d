"""The rungs in train/checkpoints: what a stranger finds there is what the README says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evalsuite.checkpoint import open_checkpoint

FOLDER = Path(__file__).parent.parent / "train" / "checkpoints"
RUNGS = ("pt", "sft", "rm", "rm-weak", "hfft", "cohft", "ppo", "ppo-hacked")
PARENTS = {"pt": None, "sft": "tiny-pt"}


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_is_small_and_says_what_it_is(rung):
    folder = FOLDER / f"tiny-{rung}"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 5_000_000
    card = open_checkpoint(str(folder)).card
    assert (card.name, card.family, card.seed) == (f"tiny-{rung}", "tiny", 1)
    assert card.parent == PARENTS.get(rung, "tiny-sft")
    assert f"# tiny-{rung}" in (folder / "README.md").read_text(encoding="utf-8")
    assert (folder / "model.safetensors").is_file()
    assert (folder / "train_log.jsonl").is_file()


def test_nothing_else_lies_there():
    assert {path.name for path in FOLDER.iterdir()} == {f"tiny-{rung}" for rung in RUNGS}


def test_the_hacked_rung_says_so_itself():
    text = (FOLDER / "tiny-ppo-hacked" / "README.md").read_text(encoding="utf-8")
    assert "guards were off" in text


@pytest.mark.slow
def test_ppo_is_above_sft_where_it_was_trained_and_the_gamed_reward_is_flagged(tmp_path):
    """The whole way on real checkpoints: run, reward, stages. Sampled, as the policy was trained."""

    def evalsuite(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "evalsuite", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    names = [f"tiny-{rung}" for rung in ("pt", "sft", "ppo", "ppo-hacked")]
    models = [part for name in names for part in ("--model", FOLDER / name)]
    tasks = "ladder_safety,ladder_wishes"
    evalsuite("run", *models, "--tasks", tasks, "--sampling", "temperature=1")
    runs = [Path("runs") / name for name in names]
    evalsuite("reward", *runs, "--rm", FOLDER / "tiny-rm-weak")
    found = json.loads(evalsuite("stages", "--runs", "runs", "--json"))
    changes = {
        (transition["rung"], change["task"]): change
        for transition in found["transitions"]
        for change in transition["changes"]
    }
    for rung in ("tiny-sft", "tiny-ppo"):
        for task in tasks.split(","):
            change = changes[rung, task]
            assert change["score"]["difference"] > 0.05, (rung, task, change)
            assert change["p_holm"] < 0.01, (rung, task, change)
    raised = [alarm for alarm in found["alarms"] if alarm["severity"] == "alarm"]
    alarms = {(alarm["rung"], alarm["kind"]) for alarm in raised}
    assert ("tiny-ppo-hacked", "hacking") in alarms
    assert not {rung for rung, _ in alarms} & {"tiny-sft", "tiny-ppo"}
