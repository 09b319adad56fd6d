"""What tables, pages and documents of stages show, and what they must never."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from chromium import dom, needs_chromium
from runs_factory import on_disk
from stages_factory import ladder_run, rewards_in_memory

from evalsuite.report.stages_markdown import stages_markdown
from evalsuite.report.stages_numbers import lost
from evalsuite.report.stages_page import curves_svg, render_stages
from evalsuite.report.stages_terminal import print_stages
from evalsuite.report.stages_words import STAGES_WORDS, reason
from evalsuite.stages import Definition, study

HOSTILE = (
    "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='x'\">"
    "\x00\x1b[31m\u202eevil|`*_"
)


def ladder(**more):
    """PT, SFT and a PPO whose reward rises while its safety falls, in three seeds."""
    rng = np.random.default_rng(1)
    runs = []
    shares = {"t-pt": (0.1, 0.1), "t-sft": (0.6, 0.5), "t-ppo": (0.6, 0.1)}
    for place, (name, (maths, safety)) in enumerate(shares.items()):
        for seed in (1, 2, 3):
            scores = {
                "maths": (rng.random(60) < maths).astype(float).tolist(),
                "safety": (rng.random(60) < safety).astype(float).tolist(),
            }
            rewards = {task: rng.normal(place, 1, 60) for task in scores}
            fields = {"stage": name[2:], "parent": ["", "t-pt", "t-sft"][place]} | more
            runs.append(ladder_run(name, scores, seed=seed, rewards=rewards, **fields))
    return runs


@pytest.fixture(scope="module")
def stages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evalsuite.stages.answers.read_rewards", rewards_in_memory)
        yield study(ladder(), Definition(title="The ladder"))


@pytest.fixture(scope="module")
def hostile():
    """Names, answers and tags that would act on a page, a terminal or a document."""
    texts = {"maths": [HOSTILE] * 60, "safety": [HOSTILE] * 60}
    runs = ladder(texts=texts, tags={"category": HOSTILE}, family=HOSTILE)
    for run in runs:
        run.manifest.command = ("evalsuite", HOSTILE)
    return study(runs, Definition(title=HOSTILE, compare=("t-sft", "t-ppo")))


def test_the_hacked_rung_is_marked_with_its_reason(stages):
    [alarm] = [a for a in stages.alarms if a.kind == "hacking"]
    why = reason(alarm, "en")
    assert re.fullmatch(
        r"reward hacking: the reward of tiny-rm rose \d\.\d\d while the checks fell \d\d\.\d points"
        r" on safety \(p .*for both\) \(seeds 1, 2, 3\)",
        why,
    )
    page = render_stages(stages).replace("&lt;", "<")
    banner = page[page.index('role="alert"') : page.index("<section>")]
    assert why in banner
    table = page[page.index('<tr class="alarmed">') :]
    assert "⚠ t-ppo" in table
    assert why in table[: table.index("</table>")]
    document = stages_markdown(stages, "ladder.svg").replace("&lt;", "<")
    assert f"⚠ **t-ppo** (greedy): {why}" in document


def test_the_terminal_names_the_reason_too(stages, capsys):
    print_stages(stages)
    shown = capsys.readouterr().out
    assert "⚠ t-ppo" in shown
    assert "Warning: t-ppo, greedy: reward hacking: the reward of tiny-rm rose" in shown
    assert "▲▲" in shown


def shown_everywhere(stages, capsys):
    """The terminal, the page without its style and script, and the document."""
    print_stages(stages)
    page = render_stages(stages)
    parts = capsys.readouterr().out, page[page.index("<body>") :], stages_markdown(stages, "a.svg")
    return [" ".join(part.split()) for part in parts]


@pytest.mark.parametrize("draws", [1, 2])
def test_one_seed_claims_nothing_about_others(draws, monkeypatch, capsys):
    """A change beyond doubt in one seed, drawn once or twice: one mark, and no word of two."""
    monkeypatch.setattr("evalsuite.stages.answers.read_rewards", rewards_in_memory)
    runs = [
        ladder_run(
            name, {"maths": values}, stage=name[2:], parent=parent, temperature=1.0, run_seed=draw
        )
        for name, parent, values in (("t-pt", "", [0.0] * 60), ("t-sft", "t-pt", [1.0] * 60))
        for draw in range(draws)
    ]
    for shown in shown_everywhere(study(runs), capsys):
        assert "▲" in shown
        assert "▲▲" not in shown
        assert "A mark: the change holds for these checkpoints." in shown
        assert "Two marks" not in shown


def test_the_legend_explains_no_mark_that_cannot_occur(stages, monkeypatch, capsys):
    for shown in shown_everywhere(stages, capsys):
        assert "Two marks: the change holds for other seeds too. One mark:" in shown
    monkeypatch.setattr("evalsuite.stages.answers.read_rewards", rewards_in_memory)
    first = study([ladder_run("t-pt", {"maths": [1.0, 0.0] * 30}, stage="pt")])
    assert not [shown for shown in shown_everywhere(first, capsys) if "mark:" in shown]


def test_a_loss_of_the_margin_is_excluded_found_or_not_settled(monkeypatch):
    """Of 400 answers 50 were lost; none changed; of ten answers one was lost."""
    monkeypatch.setattr("evalsuite.stages.answers.read_rewards", rewards_in_memory)
    before = {"fell": [1.0] * 400, "stayed": [1.0, 0.0] * 200, "few": [1.0] * 10}
    after = before | {"fell": [0.0] * 50 + [1.0] * 350, "few": [0.0] + [1.0] * 9}
    runs = [
        ladder_run("t-sft", before, stage="sft"),
        ladder_run("t-ppo", after, stage="ppo", parent="t-sft"),
    ]
    stages = study(runs, Definition(margin=5))
    answers = {"fell": "found", "stayed": "excluded", "few": "not settled"}
    document, page = stages_markdown(stages, "a.svg"), render_stages(stages)
    for task, answer in answers.items():
        assert re.search(rf"^\| t-sft → t-ppo \| {task} \|.*\| {answer} \|$", document, re.M), task
        row = page[page.index(f'<th scope="row">{task}</th>') :]
        assert f"<td>{answer}</td>" in row[: row.index("</tr>")], task
    assert "loss of 5.0 points" in document
    change = stages.transition("t-ppo", "greedy").change("fell")
    errors = msgspec.structs.replace(change.metric, higher_is_better=False)
    assert lost(change, 5) == "regression"
    assert lost(msgspec.structs.replace(change, metric=errors), 5) == "pass"


def test_numbers_of_the_document_are_those_of_the_study(stages):
    document = stages_markdown(stages, "ladder.svg")
    score = stages.score("t-sft", "maths", "greedy")
    found = score.pooled
    reach = 100 * max(found.high - found.value, found.value - found.low)
    assert f"**{100 * found.value:.1f} ± {reach:.1f}**" in document
    for label, own in score.by_seed.items():
        assert f"| t-sft | {label} | {100 * own.value:.1f} ± " in document
    assert document.startswith("<!-- written by evalsuite stages")
    assert "(ladder.svg)" in document
    assert "evalsuite run --model models/t-sft" in document
    rows = [line for line in document.splitlines() if line.startswith("|")]
    for head, rule in itertools.pairwise(rows):
        if set(rule) <= set("|-"):
            assert head.count("|") == rule.count("|")


def test_the_same_runs_give_the_same_bytes(stages, monkeypatch):
    monkeypatch.setattr("evalsuite.stages.answers.read_rewards", rewards_in_memory)
    again = study(list(reversed(ladder())), Definition(title="The ladder"))
    assert render_stages(again) == render_stages(stages)
    assert stages_markdown(again, "a.svg") == stages_markdown(stages, "a.svg")
    assert curves_svg(again) == curves_svg(stages)


def test_both_languages_have_every_word():
    assert STAGES_WORDS["en"].keys() == STAGES_WORDS["zh"].keys()
    for key, text in STAGES_WORDS["en"].items():
        fields = set(re.findall(r"\{(\w+)\}", text))
        assert fields == set(re.findall(r"\{(\w+)\}", STAGES_WORDS["zh"][key])), key


def test_the_page_in_chinese(stages):
    page = render_stages(msgspec.structs.replace(stages, language="zh"))
    assert '<html lang="zh-CN">' in page
    assert "奖励作弊：在 safety 上，tiny-rm 给出的奖励上升" in page


def test_curves_stand_where_the_scores_are(stages):
    """A picture of its own, well-formed, with a dot a rung at a height in order of the scores."""
    picture = ElementTree.fromstring(curves_svg(stages))
    space = "{http://www.w3.org/2000/svg}"
    groups = [g for g in picture.iter(f"{space}g") if g.find(f"{space}title") is not None]
    heights = {
        g.find(f"{space}title").text.split(",")[0]: float(g.find(f"{space}circle").get("cy"))
        for g in groups[:3]
    }
    values = {name: stages.score(name, "maths", "greedy").pooled.value for name in heights}
    assert sorted(heights, key=heights.get) == sorted(values, key=values.get, reverse=True)
    assert len(groups) == 6
    assert sum("alarmed" in g.find(f"{space}circle").get("class") for g in groups) == 2
    assert len(list(picture.iter(f"{space}polygon"))) == 4


def test_hostile_text_is_harmless(hostile, capsys):
    page = render_stages(hostile)
    assert page.count("<script") == 1
    assert "<img" not in page
    print_stages(hostile)
    for shown in (
        page,
        stages_markdown(hostile, "a.svg"),
        curves_svg(hostile),
        capsys.readouterr().out,
    ):
        assert not re.search("[\x00\x1b\u202e]", shown)
    document = stages_markdown(hostile, "a.svg")
    outside_code = [line for line in document.splitlines() if not line.startswith("    ")]
    assert not any("<img" in line or "<script" in line for line in outside_code)
    ElementTree.fromstring(curves_svg(hostile))


@pytest.mark.browser
@needs_chromium
def test_a_browser_shows_the_page_and_runs_nothing_of_it(hostile, tmp_path):
    page = tmp_path / "stages.html"
    page.write_text(render_stages(hostile), encoding="utf-8")
    text = dom(page.as_uri(), tmp_path / "profile")
    assert "<title>pwned" not in text
    assert "<title>x<" not in text
    assert 'class="banner"' in text


def test_the_command_line_writes_everything(tmp_path):
    runs = tmp_path / "runs"
    for run in ladder():
        on_disk(run, runs)
    definition = tmp_path / "ladder.yaml"
    definition.write_text("title: Four stages\ncompare: [t-sft, t-ppo]\n", encoding="utf-8")
    arguments = ["--runs", runs, "--html", tmp_path / "site", "--markdown", tmp_path / "ladder.md"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "evalsuite",
            "stages",
            *map(str, [definition, *arguments]),
            "--json",
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [rung["name"] for rung in found["rungs"]] == ["t-pt", "t-sft", "t-ppo"]
    assert found["rungs"][1]["seeds"] == [1, 2, 3]
    assert found["rungs"][2]["parent"] == "t-sft"
    assert {alarm["kind"] for alarm in found["alarms"] if alarm["severity"] == "alarm"} == {"loss"}
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "Four stages" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "![Curves over the stages](ladder.svg)" in (tmp_path / "ladder.md").read_text("utf-8")
    ElementTree.fromstring((tmp_path / "ladder.svg").read_text("utf-8"))
