"""Whole runs against the servers of transformers and llama.cpp, on this machine: the embedded engine's answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from free_port import free_port
from real_server import serving

from evalsuite.chat import BUILTIN

LADDER = Path(__file__).parents[2] / "train" / "checkpoints" / "tiny-sft"
TASKS = ("--tasks", "ladder_safety,ladder_arithmetic,ladder_code", "--limit", "8")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The shipped rung with a chat template of its own that writes BOS, as published chat models have it."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(LADDER, folder)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + BUILTIN["ziya"].source, "utf-8")
    return folder


def evaluated(out, *arguments):
    """The manifest of a run and its records by sample."""
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite", "run", *map(str, arguments), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = out.iterdir()
    rows = map(json.loads, (folder / "records.jsonl").read_text("utf-8").splitlines())
    manifest = json.loads((folder / "run.json").read_text("utf-8"))
    return manifest, {(row["task"], row["sample"]): row for row in rows}


@pytest.fixture(scope="module")
def transformers_server(checkpoint, tmp_path_factory):
    pytest.importorskip("fastapi", reason="transformers' server needs the package fastapi")
    port = free_port()
    command = [Path(sys.executable).with_name("transformers"), "serve", checkpoint]
    command += ["--port", port, "--device", "cpu", "--dtype", "float32"]
    log = tmp_path_factory.mktemp("log") / "transformers"
    with serving(command, port, log, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1") as address:
        yield address


def said(records):
    """What was written, and why it ended. Servers drop a space at the beginning, half a character at the end."""
    return {
        place: (
            row["response"]["text"].lstrip(" ").rstrip("\ufffd"),
            row["response"]["finish_reason"],
        )
        for place, row in records.items()
    }


@pytest.mark.parametrize(("template", "embedded"), [("none", "none"), ("server", "auto")])
def test_transformers_server_gives_the_embedded_answers(
    checkpoint, transformers_server, tmp_path, template, embedded
):
    """Chat and plain text; it takes no log-probabilities, and calls its model ``NAME@main``."""
    served, theirs = evaluated(
        tmp_path / "served",
        *("--base-url", transformers_server, "--model", checkpoint, "--chat-template", template),
        *TASKS,
    )
    _, ours = evaluated(
        tmp_path / "here", "--model", checkpoint, "--chat-template", embedded, *TASKS
    )
    assert served["engine"]["model"] == f"{checkpoint}@main"
    assert len(ours) == 24
    assert said(theirs) == said(ours)


def test_letters_from_a_server_without_log_probabilities_are_refused_with_the_remedy(
    checkpoint, transformers_server, tmp_path
):
    arguments = ("--base-url", transformers_server, "--model", checkpoint, "--tasks", "mcq")
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite", "run", *map(str, arguments), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert "E102" in done.stderr
    assert "--choices written" in done.stderr


@pytest.fixture(scope="module")
def llama_cpp_server(checkpoint, tmp_path_factory):
    """llama-cpp-python's server, which ignores what it does not know and has defaults of its own."""
    for package in ("llama_cpp", "gguf", "fastapi", "sse_starlette", "starlette_context"):
        pytest.importorskip(package, reason="llama-cpp-python's server is not installed")
    from gguf_writer import write_gguf

    port, folder = free_port(), tmp_path_factory.mktemp("llama")
    file = write_gguf(checkpoint, folder / "tiny.gguf", "F32")
    command = [sys.executable, "-m", "llama_cpp.server", "--model", file, "--model_alias", "tiny"]
    command += ["--port", port, "--n_ctx", 1024, "--n_threads", 1, "--logits_all", "true"]
    command += ["--type_k", 0, "--type_v", 0]  # keys and values in float32, as here
    with serving(command, port, folder / "log", ready="/v1/models") as address:
        yield address


def test_llama_cpp_server_gives_the_embedded_answers(checkpoint, llama_cpp_server, tmp_path):
    """Texts and letters; the letters by the likeliest first tokens, for it has no tokenizer where we ask."""
    tasks = ("--tasks", "ladder_safety,ladder_arithmetic,mcq", "--limit", "8")
    served, theirs = evaluated(
        tmp_path / "served",
        *("--base-url", llama_cpp_server, "--model", "tiny", "--chat-template", "none", *tasks),
    )
    _, ours = evaluated(tmp_path / "here", "--model", checkpoint, "--chat-template", "none", *tasks)
    extras = served["engine"]["extras"]
    assert (extras["repetition_penalty"], extras["min_p"]) == ("repeat_penalty", "min_p")
    assert theirs.keys() == ours.keys()
    letters = {place for place in ours if place[0].startswith("mcq")}
    texts = ours.keys() - letters
    assert said({p: theirs[p] for p in texts}) == said({p: ours[p] for p in texts})
    compared = 0
    for place in letters:
        they, we = theirs[place]["response"], ours[place]["response"]
        assert they["picked"] in (we["picked"], None)  # none of the letters is among the likeliest
        if they["logprobs"]:
            compared += 1
            # 3e-4 apart, relatively; why was not found out (its server repacks matrices, llama_cpp here does not)
            assert they["logprobs"] == pytest.approx(we["logprobs"], rel=1e-3, abs=1e-3)
    assert compared >= 3
