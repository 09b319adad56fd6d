"""Plugins are found by name in a fixed order, and a broken one says what is wrong with it."""

import sys

import pytest

from evalsuite.errors import BadTask, DataMissing, UnknownName
from evalsuite.registry import load_task, shipped_folder, task_names
from evalsuite.scaffold import new_task


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed distribution, with metadata, that offers tasks through its entry points."""

    def install(entry_points, **modules):
        site = tmp_path / "site"
        info = site / "their_tasks-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Name: their-tasks\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        for name, source in modules.items():
            (site / f"{name}.py").write_text(source, encoding="utf-8")
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(str(site))
        return site

    return install


def plugin(folder, name):
    """The source of a working plugin."""
    return new_task(name, folder / "made")[0].read_text(encoding="utf-8")


def test_shipped_tasks_are_found_and_sorted():
    names = task_names()
    assert list(names) == sorted(names)
    assert names["cmmlu"] == str(shipped_folder() / "cmmlu.py")
    task = load_task("cmmlu")
    assert task.meta.name == "cmmlu"
    assert task.folder == shipped_folder()


def test_task_path_comes_before_what_is_shipped(tmp_path):
    new_task("cmmlu", tmp_path / "one")
    new_task("cmmlu", tmp_path / "two")
    path = [tmp_path / "one", tmp_path / "two"]
    assert task_names(path)["cmmlu"] == str(tmp_path / "one" / "cmmlu.py")
    assert load_task("cmmlu", path).folder == tmp_path / "one"
    assert load_task("cmmlu").folder == shipped_folder()


def test_the_current_folder_is_never_looked_at(tmp_path, monkeypatch):
    new_task("rivers", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "rivers" not in task_names()
    with pytest.raises(UnknownName):
        load_task("rivers")


def test_an_entry_point_is_found_and_comes_before_what_is_shipped(tmp_path, package):
    site = package(
        "[evalsuite.tasks]\nrivers = their_rivers:TASK\ncmmlu = their_cmmlu:TASK\n",
        their_rivers=plugin(tmp_path, "rivers"),
        their_cmmlu=plugin(tmp_path, "cmmlu"),
    )
    for name in ("rivers", "cmmlu"):
        assert task_names()[name] == f"entry point their_{name}:TASK"
        assert load_task(name).folder == site
    assert load_task("cmmlu", [tmp_path / "made"]).folder == tmp_path / "made"


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("their_rivers:TASKS", "fails to load: AttributeError"),
        ("nowhere:TASK", "fails to load: ModuleNotFoundError"),
        ("their_rivers:RiversTask", "no TASK that is an evalsuite.Task"),
    ],
)
def test_an_entry_point_that_is_broken(tmp_path, package, point, message):
    package(f"[evalsuite.tasks]\nrivers = {point}\n", their_rivers=plugin(tmp_path, "rivers"))
    with pytest.raises(BadTask) as caught:
        load_task("rivers")
    assert message in caught.value.what
    assert point.partition(":")[0] in caught.value.where


def test_an_unknown_name_has_the_nearest_one():
    with pytest.raises(UnknownName, match="did you mean 'cmmlu'") as caught:
        load_task("cmlu")
    assert caught.value.nearest == "cmmlu"


@pytest.mark.parametrize(
    "name", ["", ".", "../cmmlu", "samples/x", "CMMLU", "cmmlu.py", "\x00", "🙂"]
)
def test_a_name_is_never_a_path(name):
    with pytest.raises(UnknownName):
        load_task(name)


def test_a_task_path_that_does_not_exist(tmp_path):
    with pytest.raises(DataMissing, match="check --task-path"):
        load_task("cmmlu", [tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("import annotations", "import annotation"), "fails to import: SyntaxError"),
        (("TASK = RiversTask()", "TASK = undefined"), "fails to import: NameError"),
        (("TASK = RiversTask()", ""), "no TASK that is an evalsuite.Task"),
        (("TASK = RiversTask()", "TASK = RiversTask"), "no TASK that is an evalsuite.Task"),
        (('name="rivers"', 'name="lakes"'), "its metadata says 'lakes' and its file says 'rivers'"),
        (('variants = (Variant("default"),)', "variants = ()"), "at least one variant"),
        (('main_metric="exact_match"', 'main_metric="bleu"'), "a main_metric among its metrics"),
        (("        version=1,\n", ""), "fails to import: TypeError"),
    ],
)
def test_a_plugin_that_breaks_the_contract(tmp_path, change, message):
    file, *_ = new_task("rivers", tmp_path)
    source = file.read_text(encoding="utf-8")
    assert change[0] in source
    file.write_text(source.replace(*change), encoding="utf-8")
    with pytest.raises(BadTask) as caught:
        load_task("rivers", [tmp_path])
    assert message in caught.value.what
    assert caught.value.where == str(file)


def test_a_variant_or_metric_that_does_not_exist():
    task = load_task("cmmlu")
    assert task.variant().name == "official"
    with pytest.raises(UnknownName, match=r"did you mean 'official'.*official, lm-eval, generate"):
        task.variant("offical")
    with pytest.raises(UnknownName, match="did you mean 'accuracy'"):
        task.metric("acuracy")
