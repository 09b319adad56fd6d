"""The PT stage as the command runs it: from scratch, continued, cut off, and with wrong input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from evalsuite_train.checkpoint import read_card
from evalsuite_train.curves import draw, read_log, shipped_log
from evalsuite_train.errors import BadRecipe
from evalsuite_train.ladder import run_section
from evalsuite_train.model import load_model
from evalsuite_train.recipe import Recipe, open_recipe
from evalsuite_train.vocabulary import train_base, write_tokenizer

SECTION = {
    "shape": {
        "hidden": 32,
        "layers": 2,
        "heads": 2,
        "key_value_heads": 1,
        "feed_forward": 64,
        "context": 64,
    },
    "steps": 20,
    "learning_rate": 1e-2,
    "warmup": 2,
    "batch": 4,
    "length": 32,
    "save_every": 5,
    "log_every": 5,
    "peak_tflops": 1.0,
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    texts = [f"{a} 加 {b} 等于 {a + b}。" for a in range(8) for b in range(8)]
    (tmp_path / "data").mkdir()
    rows = [json.dumps({"text": t, "source": "sums", "language": "zh"}) for t in texts]
    (tmp_path / "data" / "pt.jsonl").write_text("\n".join(rows), encoding="utf-8")
    write_tokenizer(tmp_path / "vocabulary" / "tokenizer", train_base(texts, 360))
    return tmp_path


def recipe(work: Path, **sections: dict[str, object]) -> Recipe:
    content = {"name": "small", "work": str(work), "vocabulary": {"base": "train"}, **sections}
    (work / "recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return open_recipe(str(work / "recipe.yaml"))


def test_from_scratch_and_further(work: Path) -> None:
    """The checkpoint loads, has learnt, says what it is; a second PT goes on from it."""
    further = {k: v for k, v in SECTION.items() if k != "shape"} | {"stage": "pt", "parent": "pt"}
    opened = recipe(work, pt=SECTION, further=further)
    run_section(opened, "pt")
    run_section(opened, "further")
    folder = work / "pt" / "checkpoint"
    first, second = (read_log(work / name / "log.jsonl") for name in ("pt", "further"))
    assert first[-1]["loss"] < first[0]["loss"] - 1
    assert second[0]["loss"] < first[0]["loss"] - 1
    card = read_card(folder)
    assert (card["name"], card["stage"], card["step"], card["parent"]) == (
        "small-pt",
        "pt",
        20,
        None,
    )
    assert read_card(work / "further" / "checkpoint")["parent"] == "small-pt"
    assert load_model(folder).get_input_embeddings().weight.shape == (384, 32)  # a multiple of 128
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in text
    assert f"{first[-1]['tokens']:,} learnt tokens" in text
    assert "64 documents" in text
    assert (folder / "train_log.jsonl").read_text().count("\n") == 4
    assert (work / "pt" / "curves.svg").is_file()


def test_no_state_is_left_beside_a_finished_checkpoint(work: Path) -> None:
    """Neither this training's nor DeepSpeed's, which is several times as large as the model."""
    opened = recipe(work, pt=SECTION)
    shards = opened.folder("pt") / "zero" / "global_step2"
    shards.mkdir(parents=True)
    (shards / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"x")
    run_section(opened, "pt")
    assert (opened.folder("pt") / "checkpoint" / "model.safetensors").is_file()
    assert not [*opened.folder("pt").rglob("*state*"), *opened.folder("pt").rglob("zero*")]


def test_evalsuite_reads_the_checkpoint(work: Path) -> None:
    from evalsuite.checkpoint import open_checkpoint

    run_section(recipe(work, pt=SECTION), "pt")
    checkpoint = open_checkpoint(str(work / "pt" / "checkpoint"))
    assert (checkpoint.card.name, checkpoint.card.stage) == ("small-pt", "pt")
    assert checkpoint.context == 64


def test_a_resumed_stage_makes_the_same_checkpoint(
    work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = recipe(work, pt=SECTION)
    run_section(opened, "pt")
    whole = (work / "pt" / "checkpoint" / "model.safetensors").read_bytes()
    again = recipe(work, other={**SECTION, "stage": "pt"})
    from evalsuite_train import trainer

    report, steps = trainer.Training.report, []

    def breaks(self: object, micro: object) -> None:
        steps.append(1)
        if len(steps) == 13:
            raise KeyboardInterrupt
        report(self, micro)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.Training, "report", breaks)
    with pytest.raises(KeyboardInterrupt):
        run_section(again, "other")
    monkeypatch.setattr(trainer.Training, "report", report)
    assert not (work / "other" / "checkpoint").exists()
    run_section(again, "other")
    assert (work / "other" / "checkpoint" / "model.safetensors").read_bytes() == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 128}, r"length is 128, the model's context only 64"),
        ({"parent": "pt"}, r"parent or shape, not both|no checkpoint"),
        ({"tokenizer": "nowhere"}, r"no tokenizer at nowhere"),
        ({"data": "data/none.jsonl"}, r"no such file: data/none\.jsonl"),
        ({"lenght": 32}, r"no setting named 'lenght'(.|\n)*did you mean 'length'"),
        ({"steps": 0}, r"steps is 0, it must be at least 1"),
        ({"learning_rate": -1.0}, r"learning_rate is -1\.0, it must be a number above 0"),
        ({"precision": "int8"}, r"precision"),
        ({"batch": 0}, r"batch is 0"),
    ],
)
def test_a_wrong_recipe_is_named(work: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        run_section(recipe(work, pt={**SECTION, **changes}), "pt")
    assert not (work / "pt" / "checkpoint").exists()


def test_pitfall_tokenizer_larger_than_the_embedding(work: Path) -> None:
    """49,954 pieces against 49,953 rows broke merges: refused before the first step."""
    run_section(recipe(work, pt=SECTION), "pt")
    texts = [f"{chr(0x4E00 + i)}{chr(0x4F00 + i)}" for i in range(40)]
    write_tokenizer(work / "larger", train_base(texts * 2, 440))
    further = {"parent": "pt", "stage": "pt", "steps": 2, "learning_rate": 1e-3, "length": 32}
    opened = recipe(work, pt=SECTION, further={**further, "tokenizer": str(work / "larger")})
    with pytest.raises(BadRecipe, match="has 440 pieces, the model only 384 embedding rows"):
        run_section(opened, "further")


def test_a_log_cut_off_by_a_crash_is_read_up_to_its_last_whole_row(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 2.0, "accuracy": 0.1}\n{"step": 2, "lo')
    assert [row["step"] for row in read_log(path)] == [1]


def test_the_shipped_log_keeps_its_limit_its_events_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [{"step": i, "loss": 1.0, "tokens": i * 1000} for i in range(1, 5001)]
    rows.insert(777, {"step": 777, "event": "spike"})  # type: ignore[dict-item]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = shipped_log(path)
    kept = [json.loads(line) for line in text.splitlines()]
    assert len(text.encode()) <= 30_000
    assert len(kept) > 300
    assert kept[-1]["step"] == 5000
    assert sum("event" in row for row in kept) == 1


def test_the_plot_shows_every_row_and_every_spike(tmp_path: Path) -> None:
    log, svg = tmp_path / "log.jsonl", tmp_path / "curves.svg"
    rows = [{"step": 10 * i, "loss": 8 / i, "accuracy": i / 40} for i in range(1, 31)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    log.write_text(text + '{"step": 155, "event": "spike"}\n')
    draw(log, svg)
    drawn = svg.read_text(encoding="utf-8")
    lines = re.findall(r'points="([^"]+)"', drawn)
    assert [len(line.split()) for line in lines] == [30, 30]
    heights = [float(point.split(",")[1]) for point in lines[0].split()]
    assert heights == sorted(heights)  # the loss falls: down the page
    assert drawn.count("spike at step 155") == 2
    log.write_text("")
    draw(log, tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


def test_padding_rows_do_not_disturb(work: Path) -> None:
    """Ids beyond the tokenizer are never a target; their logits fall, and stay numbers."""
    run_section(recipe(work, pt={**SECTION, "steps": 60}), "pt")
    model = load_model(work / "pt" / "checkpoint")
    with torch.no_grad():
        logits = model(torch.tensor([[1, 300, 301]])).logits[0, -1]
    assert logits.isfinite().all()
    assert logits.argmax() < 360
