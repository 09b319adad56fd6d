"""Fetching, against a real HTTP server that speaks the hub's protocol, in a real process."""

import hashlib
import io
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evalsuite import fetching
from evalsuite.errors import BadOption, DataMissing
from evalsuite.fetching import default_folder, fetch, unpack
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.registry import load_task

ROOT = Path(__file__).parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The three end points of the hub that a download uses."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {}
        self.paths = []
        self.status = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.paths.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        if self.server.status:
            self.reply(self.server.status, b"")
        elif parts[:4] == ["api", "datasets", "our", "data"]:
            files = [{"rfilename": name} for name in self.server.files]
            body = {"id": "our/data", "sha": COMMIT, "siblings": files}
            if parts[4:] == ["revision", "v1"]:
                self.reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
            else:
                self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif parts[:5] == ["datasets", "our", "data", "resolve", COMMIT]:
            content = self.server.files["/".join(parts[5:])]
            etag = hashlib.sha256(content).hexdigest()
            self.reply(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})
        else:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})

    def reply(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


PLUGIN = """
from tests_plugin_base import OwnQuestions, msgspec

class Fetched(OwnQuestions):
    meta = msgspec.structs.replace(
        OwnQuestions.meta,
        name="fetched",
        source=msgspec.structs.replace(OwnQuestions.meta.source, {source}),
    )

TASK = Fetched()
"""
BASE = """
import msgspec
from evalsuite.registry import load_task
OwnQuestions = type(load_task("mcq"))
"""


@pytest.fixture
def run_fetch(hub, tmp_path):
    """Write a plugin whose data is on the hub, and run ``evalsuite fetch`` on it."""

    def run(endpoint=None, out=None, **source):
        source = {"hub": "our/data", "revision": "v1", "files": ("*.jsonl",)} | source
        plugins = tmp_path / "plugins"
        plugins.mkdir(exist_ok=True)
        arguments = ", ".join(f"{key}={value!r}" for key, value in source.items())
        (plugins / "fetched.py").write_text(PLUGIN.format(source=arguments), encoding="utf-8")
        (plugins / "tests_plugin_base.py").write_text(BASE, encoding="utf-8")
        own = {
            "HF_ENDPOINT": endpoint or hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "EVALSUITE_HOME": str(tmp_path / "home"),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{plugins}",
        }
        proxies = ("http_proxy", "https_proxy", "all_proxy")
        inherited = {k: v for k, v in os.environ.items() if k.lower() not in proxies}
        code = "from evalsuite.cli.main import main; main()"
        command = [sys.executable, "-c", code, "fetch", "fetched", "--task-path", str(plugins)]
        command += ["--out", str(out)] if out else []
        return subprocess.run(
            command, env=inherited | own, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def question(text="?"):
    row = {"question": text, "options": ["a", "b"], "answer": "A"}
    return (json.dumps(row) + "\n").encode()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_fetch_writes_files_and_where_they_came_from(hub, run_fetch, tmp_path):
    hub.files = {
        "questions.jsonl": question(),
        "README.md": b"unwanted",
        "dev.jsonl": question("!"),
    }
    done = run_fetch()
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "home" / "data" / "fetched"
    assert str(folder) in done.stdout
    there = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert there == ["dev.jsonl", "questions.jsonl", "source.json"]
    note = json.loads((folder / "source.json").read_text(encoding="utf-8"))
    assert (note["hub"], note["requested"], note["revision"]) == ("our/data", "v1", COMMIT)
    assert note["sha256"] == {
        name: hashlib.sha256(hub.files[name]).hexdigest()
        for name in ("dev.jsonl", "questions.jsonl")
    }
    assert list(folder.parent.iterdir()) == [folder]
    planned = plan_task(TaskChoice(label="mcq", data=folder, num_fewshot=1))
    assert planned.part.data.revision == COMMIT


def test_fetch_unpacks_an_archive_into_the_official_layout(hub, run_fetch, tmp_path):
    files = {"questions.jsonl": question(), "__MACOSX/._questions.jsonl": b"x", "more/": b""}
    hub.files = {"all.zip": zipped(files)}
    out = tmp_path / "new" / "folder"
    done = run_fetch(out=out, files=("all.zip",))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["questions.jsonl", "source.json"]
    note = json.loads((out / "source.json").read_text(encoding="utf-8"))
    assert note["sha256"] == {"all.zip": hashlib.sha256(hub.files["all.zip"]).hexdigest()}


def test_a_second_fetch_replaces_the_first(hub, run_fetch, tmp_path):
    hub.files = {"questions.jsonl": question(), "dev.jsonl": question("!")}
    assert run_fetch().returncode == 0
    hub.files = {"questions.jsonl": question("new")}
    assert run_fetch().returncode == 0
    folder = tmp_path / "home" / "data" / "fetched"
    assert sorted(path.name for path in folder.iterdir()) == ["questions.jsonl", "source.json"]
    assert (folder / "questions.jsonl").read_bytes() == question("new")


def test_published_checksums_are_checked(hub, run_fetch, tmp_path):
    hub.files = {"questions.jsonl": question()}
    right = hashlib.sha256(question()).hexdigest()
    listing = f"{right}  questions.jsonl\n".encode()
    whole = hashlib.sha256(listing).hexdigest()
    done = run_fetch(sha256={"questions.jsonl": right, "*": whole})
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "home" / "data" / "fetched"
    assert json.loads((folder / "source.json").read_bytes())["layout"] == "published"
    done = run_fetch(sha256={"*": right})
    assert json.loads((folder / "source.json").read_bytes())["layout"] == whole
    hub.files = {"questions.jsonl": question("changed")}
    done = run_fetch(sha256={"questions.jsonl": right})
    assert done.returncode == 2
    assert "E111 not the published file" in done.stderr
    assert (folder / "questions.jsonl").read_bytes() == question()


def test_data_that_the_task_cannot_read_is_not_put_in_place(hub, run_fetch, tmp_path):
    hub.files = {"questions.jsonl": b'{"question": "?"}\n'}
    done = run_fetch()
    assert done.returncode == 2
    assert "E112 no options, answer" in done.stderr
    assert list((tmp_path / "home" / "data").iterdir()) == []


def test_a_folder_with_other_things_is_left_alone(hub, run_fetch, tmp_path):
    hub.files = {"questions.jsonl": question()}
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    done = run_fetch(out=tmp_path)
    assert done.returncode == 2
    assert "E102" in done.stderr
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert hub.paths == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"hub": "our/nothing"}, "E101 no data set on the hub named 'our/nothing'"),
        ({"revision": "v2"}, "E101 no revision named 'v2'"),
        ({"files": ("question.jsonl",)}, "did you mean 'questions.jsonl'?"),
    ],
)
def test_what_the_hub_does_not_have(hub, run_fetch, source, message):
    hub.files = {"questions.jsonl": question()}
    done = run_fetch(**source)
    assert done.returncode == 2
    assert message in done.stderr
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_network_says_how_to_do_it_by_hand(run_fetch, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = run_fetch(endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert done.returncode == 2
    assert "E111" in done.stderr
    assert "by hand" in done.stderr
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "home" / "data").iterdir()) == []


def test_a_hub_that_refuses(hub, run_fetch):
    hub.status = 403
    done = run_fetch()
    assert done.returncode == 2
    assert "E111" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_without_data_on_the_hub(tmp_path):
    with pytest.raises(BadOption, match="mcq has no data on the hub"):
        fetch(load_task("mcq"), tmp_path / "x")
    with pytest.raises(BadOption, match="mcq has no data on the hub"):
        fetch(load_task("mcq").meta, tmp_path / "x")


def test_default_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("EVALSUITE_HOME", str(tmp_path))
    assert default_folder("cmmlu") == tmp_path / "data" / "cmmlu"
    monkeypatch.delenv("EVALSUITE_HOME")
    assert default_folder("cmmlu") == Path.home() / ".cache" / "evalsuite" / "data" / "cmmlu"


# --- archives that nobody vouches for -------------------------------------------------------


@pytest.fixture
def archive(tmp_path):
    def write(files):
        file = tmp_path / "in" / "a.zip"
        file.parent.mkdir()
        file.write_bytes(files if isinstance(files, bytes) else zipped(files))
        return file, tmp_path / "in" / "out"

    return write


@pytest.mark.parametrize(
    "name", ["../up.csv", "a/../../up.csv", "/up.csv", "..\\up.csv", "C:/up.csv", "C:up.csv", "."]
)
def test_a_member_that_leads_outside_is_refused(archive, tmp_path, name):
    file, out = archive({name: "x"})
    with pytest.raises(DataMissing, match="leads outside"):
        unpack(file, out)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_a_link_is_refused(archive):
    link = zipfile.ZipInfo("link.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    file, out = archive({link: "/etc/passwd"})
    with pytest.raises(DataMissing, match="leads outside"):
        unpack(file, out)
    assert not out.exists()


def test_an_archive_of_too_many_bytes_or_files_is_refused(archive, monkeypatch):
    file, out = archive({"a.csv": b"0" * 1_000_000, "b.csv": b"0" * 1_000_000})
    assert file.stat().st_size < 10_000
    monkeypatch.setattr(fetching, "MAX_UNPACKED", 1_999_999)
    with pytest.raises(DataMissing, match="far more"):
        unpack(file, out)
    monkeypatch.setattr(fetching, "MAX_UNPACKED", 2_000_000)
    assert len(unpack(file, out)) == 2
    monkeypatch.setattr(fetching, "MAX_MEMBERS", 1)
    with pytest.raises(DataMissing, match="far more"):
        unpack(file, out)


def test_an_archive_that_lies_about_its_size_writes_no_more_than_it_says(archive):
    raw = zipped({"a.csv": b"0" * 1_000_000})
    said = (1_000_000).to_bytes(4, "little")
    file, out = archive(raw.replace(said, (10).to_bytes(4, "little")))
    with pytest.raises(DataMissing):
        unpack(file, out)
    assert not (out / "a.csv").exists() or (out / "a.csv").stat().st_size <= 10


@pytest.mark.parametrize("raw", [b"", b"<html>", zipped({"a.csv": "x" * 1000})[:-30]])
def test_a_broken_archive_is_an_error_of_ours(archive, raw):
    file, out = archive(raw)
    with pytest.raises(DataMissing, match=r"cannot be used.*a\.zip"):
        unpack(file, out)
