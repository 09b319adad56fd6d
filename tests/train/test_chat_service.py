"""The chat service: real HTTP against a real server with a tiny random model."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import logging
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch
from chat_server import Slow, call, events, running
from evalsuite_train.chat.answer import Text, answer
from evalsuite_train.chat.prompt import Prompter, TooLong, Turn
from evalsuite_train.chat.service import MOST_BYTES, MOST_CHARACTERS
from evalsuite_train.chat.settings import SAMPLING, Sampling, sampling
from evalsuite_train.chat.speaker import Speaker, open_speaker
from evalsuite_train.checkpoint import load_tokenizer
from evalsuite_train.errors import BadRecipe, TrainError
from evalsuite_train.model import load_model
from evalsuite_train.templates import encode_conversation, encode_prompt

SHORT = Sampling(max_new_tokens=24, temperature=1.0, top_p=0.9)


@pytest.fixture(scope="module")
def tokenizer(checkpoint_path):
    return load_tokenizer(checkpoint_path)


@pytest.fixture(scope="module")
def model(checkpoint_path):
    return load_model(checkpoint_path)


@pytest.fixture(scope="module")
def port(model, tokenizer):
    speaker = Speaker(model, tokenizer, name="tiny", chat_template="ziya", sampling=SHORT, seed=3)
    with running(speaker) as port:
        yield port


def test_row_service_http_and_web_chat(port, model, tokenizer):
    """The contract: a question in, an answer out, the same one as a stream, and a page."""
    response, content = call(port, body={"question": "今天天气怎么样？"})
    assert (response.status, response.getheader("content-type")) == (200, "application/json")
    said = json.loads(content)
    assert set(said) == {"answer", "finish_reason", "tokens", "model"}
    assert said["model"] == "tiny"
    assert said["answer"]
    assert said["finish_reason"] in ("stop", "length")
    prompt = encode_prompt(tokenizer, "今天天气怎么样？", "ziya")
    pieces = list(answer(model, tokenizer, prompt, SHORT, seed=3, cancelled=threading.Event()))
    assert "".join(piece.text for piece in pieces) == said["answer"]

    response, content = call(port, "/chat/stream", {"question": "今天天气怎么样？"})
    assert response.getheader("content-type") == "text/event-stream; charset=utf-8"
    *texts, (last, end) = events(content)
    assert last == "done"
    assert end == {key: said[key] for key in ("finish_reason", "tokens", "model")}
    assert len(texts) > 1
    assert "".join(data["text"] for _, data in texts) == said["answer"]

    response, content = call(port, "/", method="GET")
    assert response.status == 200
    assert "text/html" in response.getheader("content-type")
    assert b"http" not in content.replace(b"<!doctype html>", b"")  # nothing from elsewhere
    assert json.loads(call(port, "/model", method="GET")[1])["template"] == "ziya"


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"question=1", {"content-type": "application/x-www-form-urlencoded"}, 415, "Content-Type"),
        (b'{"question": "a"}', {"content-type": "text/plain"}, 415, "Content-Type"),
        (b"{", None, 400, "not a question"),
        (b"[" * 50_000, None, 400, "not a question"),
        (b"\xff\xfe", None, 400, "not a question"),
        ({}, None, 400, "question"),
        ({"question": 3}, None, 400, "question"),
        ({"question": "a", "top_p": 3}, None, 400, "top_p"),
        ({"question": " \n"}, None, 400, "is empty"),
        ({"question": "a", "history": [["b", ""]]}, None, 400, "is empty"),
        ({"question": "a" * (MOST_CHARACTERS + 1)}, None, 400, "more than 8000 characters"),
        ({"question": "12345678" * 100}, None, 400, "too long for the model"),
        (b'{"question": "' + b"a" * MOST_BYTES + b'"}', None, 413, "more than"),
    ],
)
def test_bad_input_is_refused_as_json(port, path, body, headers, status, says):
    response, content = call(port, path, body, headers)
    assert response.status == status
    fault = json.loads(content)["error"]
    assert fault["status"] == status
    assert says in fault["message"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/chat", "GET", 405),
        ("/nothing", "GET", 404),
        ("/../../etc/passwd", "GET", 404),
        ("/page.js", "POST", 405),
    ],
)
def test_other_faults_are_json_too(port, path, method, status):
    response, content = call(port, path, method=method)
    assert response.status == status
    assert json.loads(content)["error"]["status"] == status


def test_a_stranger_s_site_cannot_ask(port):
    response, content = call(port, "/model", headers={"host": "evil.example"}, method="GET")
    assert response.status == 421
    assert "evil.example" in json.loads(content)["error"]["message"]
    response, _ = call(port, headers={"origin": "http://evil.example"}, method="OPTIONS")
    assert response.status == 405
    assert response.getheader("access-control-allow-origin") is None
    for path, method in (("/", "GET"), ("/nothing", "GET"), ("/page.js", "GET")):
        response, _ = call(port, path, method=method)
        assert "script-src 'self'" in response.getheader("content-security-policy")
        assert response.getheader("x-content-type-options") == "nosniff"


def test_requests_wait_their_turn():
    speaker = Slow(pieces=3)
    with running(speaker) as port, concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda i: call(port, body={"question": str(i)}), range(8)))
    assert [json.loads(content)["answer"].split() for _, content in replies] == [
        [str(i)] * 3 for i in range(8)
    ]
    assert speaker.most_busy == 1


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_too_many_waiting_are_turned_away(path):
    with (
        running(Slow(pieces=1, seconds=0.5), waiting=2) as port,
        concurrent.futures.ThreadPoolExecutor(5) as pool,
    ):
        replies = list(pool.map(lambda i: call(port, path, {"question": str(i)}), range(5)))
    statuses = sorted(response.status for response, _ in replies)
    assert statuses.count(200) == 2
    assert statuses.count(503) == 3
    assert all(r.getheader("retry-after") for r, _ in replies if r.status == 503)


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_reply_that_nobody_reads_is_cancelled(path):
    speaker = Slow(pieces=2000, seconds=0.005)
    with running(speaker) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", path, b'{"question": "a"}', {"content-type": "application/json"})
        until = time.monotonic() + 5
        while speaker.spoken < 3 and time.monotonic() < until:
            time.sleep(0.005)
        connection.close()
        while not speaker.ended and time.monotonic() < until:
            time.sleep(0.005)
        assert speaker.ended == ["a"]
        assert speaker.spoken < 500
        speaker.pieces = 1
        assert call(port, body={"question": "b"})[0].status == 200


def test_a_failing_model_is_a_fault_without_details():
    with running(Slow(fails=True)) as port:
        response, content = call(port, body={"question": "a"})
        assert response.status == 500
        assert "secret" not in content.decode()
        found = events(call(port, "/chat/stream", {"question": "a"})[1])
        assert found == [("error", {"error": {"status": 500, "message": "the model failed"}})]
        assert call(port, "/model", method="GET")[0].status == 200


def test_settings_are_those_of_the_published_systems():
    assert SAMPLING["ziya"] == Sampling(
        max_new_tokens=1024, temperature=1.0, top_p=0.85, repetition_penalty=1.0
    )
    assert SAMPLING["atom"] == Sampling(
        max_new_tokens=512, temperature=0.3, top_k=50, top_p=0.95, repetition_penalty=1.3
    )
    assert SAMPLING["yayi"] == Sampling(max_new_tokens=100, temperature=0.3, repetition_penalty=1.1)
    with pytest.raises(BadRecipe, match="did you mean 'yayi'"):
        sampling("yaya")


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_a_greedy_reply_is_that_of_transformers(model, tokenizer, penalty):
    """Independent: ``generate`` itself, with the padding rows forbidden."""
    prompt = encode_prompt(tokenizer, "What is 2 + 3?", "ziya")
    settings = Sampling(max_new_tokens=20, temperature=0.0, repetition_penalty=penalty)
    said = list(answer(model, tokenizer, prompt, settings, seed=1, cancelled=threading.Event()))
    ids = model.generate(
        torch.tensor([prompt]), max_new_tokens=20, do_sample=False, repetition_penalty=penalty,
        suppress_tokens=list(range(len(tokenizer), 448)), pad_token_id=0,
    )[0, len(prompt) :].tolist()  # fmt: skip
    expected = tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert "".join(piece.text for piece in said) == expected
    assert said[-1].tokens == len(ids)


def test_top_k_1_is_greedy_and_a_seed_repeats(model, tokenizer):
    prompt = encode_prompt(tokenizer, "你好", "ziya")

    def text(settings, seed):
        pieces = answer(model, tokenizer, prompt, settings, seed=seed, cancelled=threading.Event())
        return "".join(piece.text for piece in pieces)

    greedy = text(Sampling(max_new_tokens=12, temperature=0.0), 1)
    assert text(Sampling(max_new_tokens=12, temperature=0.7, top_k=1), 2) == greedy
    assert text(Sampling(max_new_tokens=12, top_p=1e-6), 3) == greedy
    free = Sampling(max_new_tokens=12)
    assert text(free, 1) == text(free, 1) != text(free, 2)


def test_text_is_handed_out_whole_characters_at_a_time(tokenizer):
    said = "😀 你好， world 龘\n end  "
    ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    text = Text(tokenizer)
    parts = [text.add(token) for token in ids]
    assert "".join(parts) + text.rest() == said.strip()
    assert not any("\ufffd" in part for part in parts)
    assert any("😀" in part for part in parts[:-1])


def test_an_unfinished_character_is_shown_at_the_end(tokenizer):
    text = Text(tokenizer)
    for token in tokenizer("a😀", add_special_tokens=False)["input_ids"][:-1]:
        text.add(token)
    assert "\ufffd" in text.rest()


def test_a_reply_never_leaves_the_context(model, tokenizer):
    prompt = [1] + [5] * 249
    free = Sampling(max_new_tokens=1024)
    pieces = list(answer(model, tokenizer, prompt, free, seed=1, cancelled=threading.Event()))
    assert pieces[-1].tokens <= 6


HISTORY = [Turn("你好", "你好，有什么可以帮你？"), Turn("What is 2 + 3?", "The answer is 5.")]


def test_a_conversation_is_encoded_as_in_training(tokenizer):
    prompter = Prompter(tokenizer, "ziya")
    assert prompter.ids([], "你好</s>", 200) == encode_prompt(tokenizer, "你好</s>", "ziya")
    said = [
        {"from": s, "value": v}
        for t in HISTORY
        for s, v in zip(("human", "assistant"), t, strict=True)
    ]
    said += [{"from": "human", "value": "再见"}, {"from": "assistant", "value": "走吧"}]
    whole = encode_conversation(tokenizer, {"conversations": said}, "ziya", max_length=400)
    ids = prompter.ids(HISTORY, "再见", 400)
    assert ids == whole.ids[: len(ids)]
    assert not whole.learnt[len(ids) - 1]
    assert all(whole.learnt[len(ids) :])


def test_the_oldest_turns_are_left_out_first(tokenizer):
    prompter = Prompter(tokenizer, "ziya")
    whole, last, alone = (prompter.ids(HISTORY[n:], "再见", 400) for n in (0, 1, 2))
    for room in range(len(alone), len(whole) + 1):
        expected = whole if room >= len(whole) else last if room >= len(last) else alone
        assert prompter.ids(HISTORY, "再见", room) == expected
    with pytest.raises(TooLong):
        prompter.ids(HISTORY, "再见", len(alone) - 1)


def test_a_checkpoint_is_asked_with_its_own_template(checkpoint_path, tmp_path):
    from evalsuite_train.cohft import CHAT_TEMPLATE, prompt_text

    folder = tmp_path / "cohft"
    shutil.copytree(checkpoint_path, folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    tokenizer = load_tokenizer(folder)
    prompter = Prompter(tokenizer, "ziya")
    assert prompter.name == "checkpoint"
    for question in ("你好", "What?", "a </s> b"):
        ids = prompter.ids([], question, 200)
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1
        assert tokenizer.eos_token_id not in ids
        expected = tokenizer(prompt_text(question), split_special_tokens=True)["input_ids"]
        assert ids == expected
    speaker = open_speaker(str(folder), SHORT)
    assert speaker.description["template"] == "checkpoint"


def test_the_command_serves_and_stops(checkpoint_path):
    command = [
        sys.executable,
        "-m",
        "evalsuite_train.chat",
        str(checkpoint_path),
        "--port",
        "0",
        "--settings",
        "yayi",
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        lines = iter(child.stdout.readline, "")
        found = next(
            filter(
                None, (re.fullmatch(r"tiny: http://127\.0\.0\.1:(\d+)/\n", line) for line in lines)
            )
        )
        response, content = call(int(found[1]), body={"question": "你好"})
        assert response.status == 200
        assert json.loads(content)["tokens"] <= 100
        child.send_signal(signal.SIGINT)
        said, _ = child.communicate(timeout=30)
        assert "Traceback" not in said
    finally:
        child.kill()
        child.communicate()


def test_a_client_that_goes_away_in_its_body_leaves_no_traceback(port, monkeypatch):
    logged: list[logging.LogRecord] = []
    log, listener = logging.getLogger("uvicorn.error"), logging.Handler()
    listener.emit = logged.append
    monkeypatch.setattr(log, "handlers", [listener])
    monkeypatch.setattr(log, "level", logging.ERROR)
    log.manager._clear_cache()
    head = (
        b"POST /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head)
            time.sleep(0.02)
    time.sleep(0.2)
    assert call(port, body={"question": "你好"})[0].status == 200
    assert not [record for record in logged if record.exc_info]


def test_a_chat_template_that_breaks_is_said_at_the_start(checkpoint_path, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint_path, folder)
    (folder / "chat_template.jinja").write_text("{{ 1/0 }}")
    with pytest.raises(TrainError, match="broken: its chat template breaks: ZeroDivisionError"):
        open_speaker(str(folder), SHORT)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nowhere/at-all/x"], "no such"), (["x", "--settings", "zia"], "did you mean 'ziya'")],
)
def test_a_wrong_command_is_one_message(tmp_path, arguments, says, capsys):
    from evalsuite_train.chat.command import main

    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
