"""The leaderboard page: what stands in it, and what must never."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_factory import make_part, make_record, make_run, on_disk

from evalsuite.errors import BadDefinition, CannotWrite, DataMissing
from evalsuite.leaderboard import (
    Definition,
    Entry,
    build_leaderboard,
    missing_baseline,
    parse_definition,
    read_definition,
    run_folders,
)
from evalsuite.metrics.metric import Metric
from evalsuite.report.chart import Dot, interval_chart, nice_ticks
from evalsuite.report.html import embedded_json
from evalsuite.report.samples import SHOWN
from evalsuite.report.visible import visible
from evalsuite.report.words import WORDS
from evalsuite.stats.paired import paired_difference

HOSTILE = (
    "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='x'\">"
    "\x00\x1b[31m\u202eevil\u2028\ud800&lt;b&gt;"
)


class Page(HTMLParser):
    """What a browser would find: elements, attributes, and the text of each cell."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("td", "th"):
            self.cells.append("")
            self._open = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cells[-1] = " ".join(self.cells[-1].split())
            self._open = False

    def handle_data(self, data):
        if self._open:
            self.cells[-1] += data


def quiz(name, scores, **changes):
    records = [
        make_record(f"q{i}", score, text=f"{name} says {i}", tags={"subject": "ab"[i % 2]})
        for i, score in enumerate(scores)
    ]
    return make_run(name, records, **changes)


def build(tmp_path, runs, **changes):
    fields = {"title": "Quiz board", "tasks": (Entry("quiz"),)} | changes
    page = build_leaderboard(Definition(**fields), runs, tmp_path / "site")
    return page.read_text(encoding="utf-8")


def embedded(text):
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert block is not None
    return json.loads(block[1])


def test_scores_with_intervals_and_counts(tmp_path):
    cells = Page(build(tmp_path, [quiz("alpha", [1.0] * 9 + [0.0])])).cells
    assert "90.0 59.6 – 98.2 n 10" in cells


def test_runs_from_disk_give_the_same_page(tmp_path):
    run = quiz("alpha", [1.0, 0.0, None])
    memory = build(tmp_path / "a", [run])
    assert build(tmp_path / "b", [on_disk(run, tmp_path)]) == memory


def test_errors_and_truncation_are_flagged(tmp_path):
    records = [
        make_record("a", 1.0),
        make_record("b", 0.0, truncated=True),
        make_record("c", None),
    ]
    (cell,) = [
        c for c in Page(build(tmp_path, [make_run("m", records)])).cells if c.startswith("50.0")
    ]
    assert "n 2" in cell
    assert "1 errors engine_failed" in cell
    assert "33% truncated" in cell


def test_every_missing_cell_says_why(tmp_path):
    other = make_part(metrics=(Metric("f1", formula="f1"),), main_metric="f1")
    runs = [
        quiz("good", [1.0, 0.0]),
        make_run("elsewhere", [make_record("z", task="maths")]),
        quiz("stopped", [1.0], status="interrupted"),
        make_run("dead", [make_record("q0", None), make_record("q1", None)]),
        make_run("other", [make_record("q0", [1.0, 1.0, 1.0], metric="f1")], [other]),
        quiz("unscored", [1.0], results={}),
    ]
    cells = Page(build(tmp_path, runs, tasks=(Entry("quiz", "accuracy"),))).cells
    for reason in (
        "not run",
        "run is interrupted",
        "no score: engine_failed ×2 Samples",
        "has only f1",
        "not scored",
    ):
        assert reason in cells
    assert not {"-", "–", "", "nan"} & set(cells)


def test_unfinished_runs_are_not_read(tmp_path):
    stopped = quiz("stopped", [1.0], status="running")
    stopped.records = None
    assert "run is running" in build(tmp_path, [quiz("good", [1.0]), stopped])


def test_the_newest_finished_run_of_a_checkpoint_counts(tmp_path):
    old = quiz("m", [0.0, 0.0], run_id="old", finished="2026-01-01T00:00:00+00:00")
    new = quiz("m", [1.0, 0.0], run_id="new", finished="2026-02-01T00:00:00+00:00")
    text = build(tmp_path, [new, old])
    assert any(c.startswith("50.0") for c in Page(text).cells)
    assert not any(c.startswith("0.0 ") for c in Page(text).cells)
    assert "2026-02-01 00:00 UTC" in text


def test_other_protocols_stand_in_their_own_column(tmp_path):
    records = [make_record("a"), make_record("b", 0.0)]
    plain = make_run("plain", records, [make_part()])
    chat = make_run("chat", records, [make_part(variant="chat", num_fewshot=5)])
    page = Page(build(tmp_path, [plain, chat]))
    keys = [a["data-key"] for tag, a in page.elements if tag == "th" and "data-key" in a]
    assert keys == ["model", "quiz", "quiz.2"]
    assert "only plain · 0-shot" in page.cells
    assert "only chat · 5-shot" in page.cells


def test_twins_are_told_apart(tmp_path):
    one = quiz("m", [1.0], run_id="r1", checkpoint={"fingerprint": "a" * 64})
    two = quiz("m", [1.0], run_id="r2", checkpoint={"fingerprint": "b" * 64})
    three = quiz(
        "m", [1.0], run_id="r3", checkpoint={"fingerprint": "b" * 64, "chat_template": "chatml"}
    )
    names = embedded(build(tmp_path, [one, two, three]))["rows"]
    assert len(set(names)) == 3


def test_differences_to_the_baseline_are_paired(tmp_path):
    ours, theirs = quiz("base", [1.0, 0.0] * 20), quiz("new", [1.0, 1.0, 1.0, 0.0] * 10)
    found = paired_difference(Metric("accuracy"), ours.records(), theirs.records())
    (cell,) = [
        c
        for c in Page(build(tmp_path, [theirs, ours], baseline="base")).cells
        if c.startswith("+25.00")
    ]
    assert f"+{100 * found.low:.2f} … +{100 * found.high:.2f}" in cell
    assert f"p = {found.p_value:.3f}" in cell
    assert "10 better, 0 worse" in cell


def test_lower_is_better_columns_sort_upwards_first(tmp_path):
    loss = make_part(
        metrics=(Metric("loss", unit="points", higher_is_better=False),), main_metric="loss"
    )
    run = make_run("m", [make_record(s, 2.5, metric="loss") for s in "abc"], [loss])
    page = Page(build(tmp_path, [run]))
    (head,) = [a for tag, a in page.elements if tag == "th" and a.get("data-key") == "quiz"]
    assert head["data-first"] == "ascending"


def test_breakdown_shows_every_value(tmp_path):
    cells = Page(build(tmp_path, [quiz("m", [1.0, 0.0, 1.0, 1.0])])).cells
    at = cells.index("subject")
    assert cells[at + 2] == "a"
    assert cells[at + 3].startswith("100.0")
    assert cells[at + 5].startswith("50.0")


def test_signatures_and_commands_are_there(tmp_path):
    run = quiz("m", [1.0], signature="task:quiz|v:1", command=("evalsuite", "run", "--x", "a b"))
    text = html.unescape(build(tmp_path, [run]))
    assert "task:quiz|v:1" in text
    assert "evalsuite run --x 'a b'" in text


def test_samples_are_bounded_and_disagreements_come_first(tmp_path):
    agree = [1.0] * 300
    differ = [1.0] * 200 + [0.0] * 45 + [1.0] * 55
    last = make_record("q299", None)
    runs = [quiz("a", agree), make_run("b", [*quiz("b", differ[:-1]).records(), last])]
    (column,) = embedded(build(tmp_path, runs))["columns"]
    samples = column["set"]["samples"]
    assert column["set"]["counts"] == {"all": 300, "differ": 45, "errors": 1, "truncated": 0}
    assert len(samples) == SHOWN
    assert ["differ" in s["kinds"] for s in samples] == [True] * 45 + [False] * 15
    assert "q299" in [s["id"] for s in samples]
    assert samples[0]["outputs"][0]["text"].startswith("a says")
    assert [o["state"] for o in samples[0]["outputs"]] == ["good", "bad"]


def test_failures_keep_their_place_among_many_disagreements(tmp_path):
    runs = [quiz("a", [1.0] * 199), make_run("b", [*quiz("b", [0.0] * 199).records()])]
    runs.append(make_run("c", [make_record(f"q{i}", None) for i in range(180, 199)]))
    (column,) = embedded(build(tmp_path, runs))["columns"]
    kinds = [s["kinds"] for s in column["set"]["samples"]]
    assert len(kinds) == SHOWN
    assert sum("errors" in kind for kind in kinds) >= 10


def test_long_outputs_are_cut_and_say_so(tmp_path):
    run = make_run("m", [make_record("a", text="x" * 1_000_000)])
    text = build(tmp_path, [run])
    assert len(text) < 100_000
    assert "… [+996,000]" in text


def test_hostile_text_stays_text(tmp_path):
    records = [
        make_record(
            HOSTILE,
            0.0,
            text=HOSTILE,
            answer=HOSTILE,
            prompt=HOSTILE,
            target=[HOSTILE],
            tags={HOSTILE: HOSTILE},
        ),
        make_record("e", None, message=HOSTILE),
    ]
    part = make_part(title=HOSTILE, variant=HOSTILE)
    run = make_run(
        HOSTILE,
        records,
        [part],
        run_id=HOSTILE,
        checkpoint={"stage": HOSTILE, "chat_template": HOSTILE, "source": HOSTILE},
        command=("evalsuite", HOSTILE),
        signature=HOSTILE,
        warnings=(HOSTILE,),
        engine={HOSTILE: HOSTILE},
        finished=HOSTILE,
    )
    text = build(tmp_path, [run, quiz("b", [1.0])], title=HOSTILE, baseline=HOSTILE)
    elements = Page(text).elements
    assert [tag for tag, _ in elements].count("script") == 2
    assert "img" not in [tag for tag, _ in elements]
    assert not [a for _, a in elements if any(name.startswith("on") for name in a)]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028]", text)
    (column,) = [c for c in embedded(text)["columns"] if "pwned" in c["title"]]
    outputs = [o for s in column["set"]["samples"] for o in s["outputs"]]
    assert visible(HOSTILE) in [o["text"] for o in outputs]


def test_nothing_is_asked_of_a_network(tmp_path):
    text = build(tmp_path, [quiz("m", [1.0, 0.0])])
    elements = Page(text).elements
    for tag, attributes in elements:
        assert tag not in ("iframe", "object", "embed", "base", "form", "img", "audio", "video")
        assert "src" not in attributes
        assert "style" not in attributes
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
    (policy,) = [
        a["content"] for _, a in elements if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|innerHTML|insertAdjacent", text)


@given(st.text())
def test_embedded_json_never_leaves_its_element(text):
    encoded = embedded_json({"text": text})
    assert not set("<>&\u2028\u2029") & set(encoded)
    assert json.loads(encoded) == {"text": text}


def test_both_languages_have_every_word(tmp_path):
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    text = build(tmp_path, [quiz("m", [1.0, 0.0])], language="zh")
    assert '<html lang="zh-CN">' in text
    assert "置信区间" in text
    script = text[text.rindex("<script>") :]
    assert set(re.findall(r"\bwords\.(\w+)", script)) <= WORDS["en"].keys()


def test_no_runs_at_all(tmp_path):
    assert "Quiz board" in build(tmp_path, [])


def test_an_older_page_survives_a_failed_write(tmp_path):
    before = build(tmp_path, [quiz("m", [1.0])])
    (tmp_path / "blocked").write_text("a file", encoding="utf-8")
    with pytest.raises(CannotWrite):
        build_leaderboard(
            Definition(title="t", tasks=(Entry("quiz"),)), [], tmp_path / "blocked" / "site"
        )
    assert (tmp_path / "site" / "index.html").read_text(encoding="utf-8") == before
    assert [p.name for p in (tmp_path / "site").iterdir()] == ["index.html"]


@given(
    st.tuples(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300)).map(sorted)
    | st.tuples(st.floats(-100, 100), st.floats(0, 100)).map(lambda pair: (pair[0], sum(pair)))
)
def test_ticks_enclose_the_range(span):
    low, high = span
    ticks = nice_ticks(low, high)
    slack = 1e-9 * max(abs(low), abs(high), 1)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert ticks == sorted(set(ticks))


def test_chart_places_dots_on_its_axis():
    dots = [
        Dot(name="m<b>", value=0.5, low=0.4, high=0.6, label="50.0"),
        Dot(name="n", value=0.6, low=float("nan"), high=float("nan"), label="60.0"),
    ]
    svg = interval_chart(dots, "Quiz", 100)
    first, second = (float(x) for x in re.findall(r'<circle[^>]* cx="([\d.]+)%"', svg))
    ticks = [float(t) for t in re.findall(r'class="tick"[^>]*>([\d.]+)<', svg)]
    share = (50 - ticks[0]) / (ticks[-1] - ticks[0])
    assert first == pytest.approx(1.5 + 97 * share, abs=0.01)
    assert second > first
    assert "m&lt;b&gt;" in svg
    assert svg.count('class="range"') == 3


def test_definition_is_read(tmp_path):
    file = tmp_path / "board.yaml"
    file.write_text(
        "title: 榜\nlanguage: zh\ntasks:\n  - cmmlu\n  - {task: mgsm/zh, metric: accuracy}\n"
        "runs: ['runs/*']\nbaseline: base\nsort: mgsm/zh\n",
        encoding="utf-8",
    )
    assert read_definition(file) == Definition(
        title="榜",
        language="zh",
        tasks=(Entry("cmmlu"), Entry("mgsm/zh", "accuracy")),
        runs=("runs/*",),
        baseline="base",
        sort="mgsm/zh",
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"titel": "t", "tasks": ["a"]}, "did you mean 'title'"),
        ({"title": "t", "tasks": [{"task": "a", "metrics": "b"}]}, "did you mean 'metric'"),
        ({"title": "t", "tasks": [{"metric": "b"}]}, "task"),
        ({"title": "t"}, "tasks is not a list"),
        ({"title": "t", "tasks": []}, "tasks is not a list"),
        ({"tasks": ["a"]}, "title"),
        ({"title": 3, "tasks": ["a"]}, "title"),
        ({"title": "t", "tasks": ["a"], "language": "ch"}, "did you mean 'zh'|known: en, zh"),
        ({"title": "t", "tasks": ["cmmlu"], "sort": "cmmul"}, "did you mean 'cmmlu'"),
        (["title"], "not a mapping"),
        (None, "not a mapping"),
    ],
)
def test_bad_definitions_are_refused_with_advice(raw, message):
    with pytest.raises(BadDefinition, match=message):
        parse_definition(raw, "board.yaml")


@pytest.mark.parametrize("text", ["title: [", "\t- x", "a: *b", "!!python/object:os.system {}"])
def test_broken_yaml_names_the_file(tmp_path, text):
    file = tmp_path / "board.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadDefinition, match=r"board\.yaml"):
        read_definition(file)


def test_a_missing_definition(tmp_path):
    with pytest.raises(DataMissing, match=r"no\.yaml"):
        read_definition(tmp_path / "no.yaml")


def test_a_missing_baseline_is_noted_with_the_nearest_name(tmp_path):
    runs = [quiz("alpha", [1.0])]
    absent = Definition(title="t", tasks=(Entry("quiz"),), baseline="alhpa")
    assert "did you mean 'alpha'" in missing_baseline(absent, runs)
    assert "alpha" in build(tmp_path, runs, baseline="alhpa")
    present = Definition(title="t", tasks=(Entry("quiz"),), baseline="alpha")
    assert missing_baseline(present, runs) == ""


def test_the_run_that_asked_the_most_samples_stands_in_the_table(tmp_path):
    full = quiz("alpha", [1.0, 0.0, 0.0, 0.0])
    partial = quiz("alpha", [1.0])
    partial.manifest.run_id += "-later"
    partial.manifest.finished = "2099-01-01T00:00:00+00:00"
    assert any(cell.startswith("25.0") for cell in Page(build(tmp_path, [partial, full])).cells)


def test_an_unknown_metric_is_refused(tmp_path):
    runs = [quiz("alpha", [1.0])]
    with pytest.raises(BadDefinition, match="did you mean 'accuracy'"):
        build(tmp_path, runs, tasks=(Entry("quiz", "acuracy"),))


def test_run_patterns_are_relative_to_the_definition(tmp_path):
    run = on_disk(quiz("m", [1.0]), tmp_path / "runs")
    (tmp_path / "runs" / "empty").mkdir()
    boards = tmp_path / "boards"
    boards.mkdir()

    def folders(pattern):
        definition = Definition(title="t", tasks=(Entry("quiz"),), runs=(pattern,))
        return [folder.resolve() for folder in run_folders(definition, boards)]

    assert folders("../runs/*") == [run.path.resolve()]
    assert folders(f"{tmp_path}/runs/m-*") == [run.path.resolve()]
    with pytest.raises(DataMissing, match="no run matches"):
        folders("runs/*")


def test_the_demo_definition_is_valid():
    folder = Path(__file__).parents[2] / "leaderboards"
    definitions = [read_definition(file) for file in folder.glob("*.yaml")]
    assert definitions
