"""Quality, speed and memory on the leaderboard, and the files beside a bench record."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as tree

import pytest
from bench_factory import make_bench, make_configuration, on_other
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.stats import Stats
from runs_factory import make_record, make_run, on_disk

from evalsuite.leaderboard import Definition, Entry, build_leaderboard
from evalsuite.measurements import write_bench
from evalsuite.report.bench_chart import bench_svg
from evalsuite.report.bench_table import print_bench
from evalsuite.report.pareto import dominates
from evalsuite.report.pytest_benchmark import pytest_benchmark_json, stats

HOSTILE = "</style><script>x</script>\x1b[2J\u202e&lt;b&gt;"


def run_of(name: str, dtype: str, right: int, out):
    records = [make_record(f"q{n}", float(n < right)) for n in range(20)]
    run = make_run(
        f"{name}-{dtype}",
        records,
        checkpoint={"name": name, "fingerprint": name * 8},
        engine={"name": "transformers", "dtype": dtype},
    )
    return on_disk(run, out)


@pytest.fixture
def page(tmp_path):
    """fast and good; slow and good (beaten); slow and better; small and bad; on another machine."""
    planned = {
        ("fast", "float32"): (10, 2000, 500e6),
        ("slow", "float32"): (10, 1000, 600e6),
        ("better", "float32"): (15, 1000, 600e6),
        ("small", "int8"): (5, 900, 100e6),
    }
    runs = [
        run_of(name, dtype, right, tmp_path) for (name, dtype), (right, _, _) in planned.items()
    ]
    runs.append(run_of("elsewhere", "float32", 19, tmp_path))
    runs.append(run_of("unmeasured", "float32", 20, tmp_path))
    configurations = [
        make_configuration(
            name, speed=speed, memory=memory, dtype=dtype, fingerprint=name * 8, noise=0.001
        )
        for (name, dtype), (_, speed, memory) in planned.items()
    ]
    write_bench(tmp_path, make_bench("here", configurations))
    other = make_configuration("elsewhere", speed=9999, memory=1e6, fingerprint="elsewhere" * 8)
    write_bench(tmp_path, make_bench("there", [other], hardware=on_other(cpu="Another")))
    definition = Definition(title="Board", tasks=(Entry("quiz"),))
    return build_leaderboard(definition, runs, tmp_path / "site").read_text("utf-8")


def dots(page: str) -> dict[str, str]:
    found = re.findall(r"<g><title>([^:<]+): [^<]*tokens/s.*?<circle class=\"([^\"]+)\"", page)
    return dict(found)


def test_the_front_is_what_no_other_beats(page):
    found = dots(page)
    assert found.pop("elsewhere float32") == "dot", "another machine is no rival"
    assert found == {
        "fast float32": "dot",
        "slow float32": "dot own",
        "better float32": "dot",
        "small int8": "dot",
    }


def test_each_machine_has_its_own_picture_and_is_named(page):
    assert page.count("tokens/s,") == 5
    pictures = re.findall(r'<svg class="chart" role="img" viewBox.*?</svg>', page)
    assert sorted(picture.count("<circle") for picture in pictures) == [1, 4]
    assert "cpu:Test CPU" in page
    assert "cpu:Another" in page
    assert "unmeasured: " not in " ".join(dots(page))


def test_a_page_without_records_has_no_such_section(tmp_path):
    run = run_of("only", "float32", 10, tmp_path)
    page = build_leaderboard(
        Definition(title="B", tasks=(Entry("quiz"),)), [run], tmp_path / "site"
    )
    assert "cost-title" not in page.read_text("utf-8")


def test_another_dtype_or_other_weights_are_not_taken_for_these(tmp_path):
    run = run_of("model", "float32", 10, tmp_path)
    others = [
        make_configuration("int8", fingerprint="model" * 8, dtype="int8"),
        make_configuration("new", fingerprint="weights" * 8),
    ]
    write_bench(tmp_path, make_bench("b", others))
    page = build_leaderboard(
        Definition(title="B", tasks=(Entry("quiz"),)), [run], tmp_path / "site"
    )
    assert "cost-title" not in page.read_text("utf-8")


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=8))
def test_dominance_is_a_strict_order_and_leaves_somebody(points):
    assert not any(dominates(p, p) for p in points)
    front = [p for p in points if not any(dominates(q, p) for q in points)]
    assert front
    for point in points:
        assert point in front or any(dominates(q, point) for q in front)


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=30))
def test_statistics_are_those_of_pytest_benchmark(data):
    theirs = Stats()
    for second in data:
        theirs.update(second)
    mine = stats(data)
    for name, value in theirs.as_dict().items():
        if isinstance(value, float):
            assert mine[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
        elif name not in ("outliers", "iqr_outliers", "stddev_outliers"):
            assert mine[name] == pytest.approx(value), name
        else:
            assert mine[name] == value, name


def test_hostile_names_act_nowhere(tmp_path, capsys):
    bench = make_bench("h", [make_configuration(HOSTILE, fingerprint="x", failure=HOSTILE)])
    picture = bench_svg(bench)
    root = tree.fromstring(picture)
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    print_bench(bench, HOSTILE)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    json.loads(pytest_benchmark_json(bench))
