"""The openai engine against a real server process that fails as it is told."""

from __future__ import annotations

import contextlib
import math
import socket
import time

import pytest
from contract import ask
from free_port import free_port
from openai_server import chances
from toy_server import HASTY, toy

from evalsuite.engines._serving import ServerOptions, probe_server, template_name
from evalsuite.engines._usage import Price, parse_price
from evalsuite.errors import BadOption, EngineFailed, EngineUnavailable, UnknownName
from evalsuite.request import (
    Choose,
    Chosen,
    Failure,
    Generate,
    Generated,
    Prompt,
    Sampling,
    Score,
)

LETTERS = ("A", "B", "C", "D")


@pytest.fixture(scope="module")
def server():
    with toy() as running:
        yield running


@pytest.fixture
def engine(server):
    with contextlib.closing(server.engine()) as opened:
        yield opened


def written(prompt):
    letters = chances(prompt)
    return f"答案是{max(letters, key=letters.get)}。"


def collected(engine, prepared, into):
    """Keep the answers, as a run does, for what comes before a fault."""
    for index, answer in engine.answer(prepared):
        into[index] = answer


def test_the_probe_finds_what_there_is(server):
    found = probe_server("toy", server.options())
    assert (found.completions, found.chat, found.top, found.chat_top) == (True, True, 4, 4)
    assert (found.model, found.software) == ("toy", "toy")
    assert not any((found.echo, found.chosen, found.token_ids, found.tokenize))
    assert found.likely


@pytest.mark.parametrize(
    ("settings", "template", "name"),
    [
        ({}, "auto", "server"),
        ({}, "none", "none"),
        ({}, "server", "server:always"),
        ({"chat": False}, "auto", "none"),
        ({"completions": False}, "auto", "server:always"),
    ],
    ids=str,
)
def test_plain_protocols_go_to_completions_where_there_are_any(settings, template, name):
    plain, spoken = Prompt("plain", plain=True), Prompt("spoken", system="be brief")
    with toy(**settings) as server, contextlib.closing(server.engine(template)) as engine:
        assert engine.template_name == name
        chats = [engine._chats(prompt) for prompt in (plain, spoken)]
        assert chats == [name == "server:always", name != "none"]
        answers = ask(engine, {"p": Generate(plain), "s": Generate(spoken)})
        assert [answers["p"].text, answers["s"].text] == [written("plain"), written("spoken")]


@pytest.mark.parametrize(
    ("settings", "template"),
    [({"completions": False}, "none"), ({"chat": False}, "server"), ({}, "ziya"), ({}, "x")],
    ids=str,
)
def test_a_template_that_the_server_cannot_apply_is_refused(settings, template):
    with toy(**settings) as server, pytest.raises(BadOption, match="--chat-template"):
        template_name(probe_server("toy", server.options()), template)


def test_letters_by_the_likeliest_first_tokens(engine):
    for plain in (True, False):
        prompt = f"Which? {plain}"
        asked = {"x": Choose(Prompt(prompt, plain=plain), (" A", " B", " C", " D"))}
        [answer] = ask(engine, asked).values()
        assert answer.logprobs == pytest.approx(tuple(chances(prompt).values()))
        assert answer.picked == max(range(4), key=answer.logprobs.__getitem__)


def test_letters_that_are_not_among_the_likeliest_have_no_number(engine):
    [answer] = ask(engine, {"x": Choose(Prompt("[[few]]"), LETTERS)}).values()
    assert (answer.picked, answer.logprobs) == (1, ())
    [answer] = ask(engine, {"x": Choose(Prompt("[[few]] 2"), ("A",))}).values()
    assert (answer.picked, answer.logprobs) == (None, ())


def test_what_cannot_be_read_from_first_tokens_says_so(engine):
    asked = {
        "words": Choose(Prompt("x"), ("yes", "no")),
        "empty": Choose(Prompt("x"), ("A", " ")),
        "score": Score(Prompt("x"), "y"),
        "right": Choose(Prompt("x"), LETTERS),
    }
    answers = ask(engine, asked)
    codes = [getattr(answers[name], "code", "") for name in asked]
    assert codes == ["no_logprobs", "empty_continuation", "no_logprobs", ""]


def test_without_log_probabilities_nothing_is_asked_and_the_remedy_named():
    with toy(logprobs=False) as server, contextlib.closing(server.engine()) as engine:
        before = server.state()["answered"]
        request = Choose(Prompt("x", plain=True), LETTERS)
        with pytest.raises(BadOption, match="--choices written"):
            engine.prepare(["g", "c"], [Generate(Prompt("y")), request])
        assert server.state()["answered"] == before


def test_a_written_letter_is_another_protocol():
    request = Choose(Prompt("Which?", plain=True), LETTERS)
    with (
        toy(logprobs=False) as server,
        contextlib.closing(server.engine(choices="written")) as engine,
    ):
        [prepared] = engine.prepare(["x"], [request])
        [(_, answer)] = engine.answer([prepared])
        assert engine.description["choices"] == "written"
    letter = written("Which?")[3]
    assert answer == Chosen(LETTERS.index(letter), prompt_tokens=6)
    with toy() as server, contextlib.closing(server.engine()) as engine:
        assert engine.prepare(["x"], [request])[0].key != prepared.key


def test_with_a_tokenizer_prompts_and_letters_go_by_their_ids(checkpoint_path):
    request = Choose(Prompt("Which?", plain=True), LETTERS)
    with toy(tokenize=True, chat=False) as server:
        with contextlib.closing(server.engine()) as engine:
            [prepared] = engine.prepare(["x"], [request])
            assert prepared.prompt == (1, *map(ord, "Which?"))
            assert prepared.tails == ((65,), (66,), (67,), (68,))
            answers = ask(
                engine,
                {
                    "x": request,
                    "written": Generate(Prompt("今天")),
                    "long": Choose(Prompt("x"), ("AB", "C")),
                    "empty": Choose(Prompt("x"), ("A", "")),
                    "score": Score(Prompt("x"), "y"),
                },
            )
            assert engine.description["prompts"] == "token ids"
        with pytest.raises(BadOption, match="not the served model's"):
            server.engine(tokenizer=str(checkpoint_path))
    assert answers["x"].logprobs == pytest.approx(tuple(chances("Which?").values()))
    assert answers["written"].text == written("今天")
    codes = [answers[name].code for name in ("long", "empty", "score")]
    assert codes == ["no_logprobs", "empty_continuation", "no_logprobs"]


def test_a_tokenizer_that_cannot_be_compared_is_refused(server, checkpoint_path):
    with pytest.raises(BadOption, match="no tokenizer to compare with"):
        server.engine(tokenizer=str(checkpoint_path))


FAULTS = {
    "long": "prompt_too_long",
    "bad": "server_refused",
    "key": "server_refused",
    "held": "server_refused",
    "broken": "unanswered",
    "torn": "unanswered",
    "page": "unanswered",
    "empty": "unanswered",
    "shape": "unanswered",
    "reset": "unanswered",
}


def test_the_failure_of_one_sample_is_not_the_runs(server, engine):
    asked = {name: Generate(Prompt(f"[[{name}]]")) for name in FAULTS}
    good = {f"good{i}": Generate(Prompt(f"good {i}")) for i in range(60)}
    answers = ask(engine, asked | good)
    assert {name: answers[name].code for name in FAULTS} == FAULTS
    assert all(answers[name].text == written(r.prompt.text) for name, r in good.items())
    for name, code in FAULTS.items():
        tries = server.tries(f"[[{name}]]")
        assert tries == (HASTY.attempts if code == "unanswered" else 1), name
        assert answers[name].message.isprintable()


@pytest.mark.parametrize("kind", ["broken", "torn", "page", "empty", "shape", "reset", "busy"])
def test_a_fault_that_passes_is_survived(server, engine, kind):
    prompt = f"[[{kind} 2]] please"
    began = time.monotonic()
    [answer] = ask(engine, {"x": Generate(Prompt(prompt))}).values()
    assert answer.text == written(prompt)
    assert server.tries(prompt) == 3
    assert engine.usage["retries"] == 2
    if kind == "busy":
        assert time.monotonic() - began >= 2.0, "Retry-After: 1 was not waited for"


def test_a_request_without_end_has_a_time_limit(server):
    patience = HASTY._replace(seconds=0.3, attempts=2)
    with contextlib.closing(server.engine(patience=patience)) as engine:
        answers = ask(
            engine,
            {"x": Generate(Prompt("[[hang]]"))}
            | {f"{i}": Generate(Prompt(f"meanwhile {i}")) for i in range(50)},
        )
    assert answers["x"].code == "unanswered"
    assert "no answer within 0.3 s" in answers["x"].message
    assert sum(isinstance(answer, Generated) for answer in answers.values()) == 50


@pytest.mark.parametrize("kind", ["broken", "reset", "hang"])
def test_a_sample_that_nothing_answers_to_is_a_failure_even_alone(kind):
    patience = HASTY._replace(seconds=0.3, attempts=2)
    with toy() as server, contextlib.closing(server.engine(patience=patience)) as engine:
        [answer] = ask(engine, {"x": Generate(Prompt(f"[[{kind}]]"))}).values()
    assert (type(answer), answer.code) == (Failure, "unanswered")


def test_one_unanswered_request_after_the_other_ends_the_run():
    patience = HASTY._replace(attempts=2)
    with toy() as server, contextlib.closing(server.engine(patience=patience)) as engine:
        names = [f"{i}" for i in range(100)]
        prepared = engine.prepare(names, [Generate(Prompt(f"[[broken]] {n}")) for n in names])
        failed = []
        with pytest.raises(EngineFailed, match="HTTP 500"):
            failed += (answer for _, answer in engine.answer(prepared))
    assert all(answer.code == "unanswered" for answer in failed)


def test_a_truncated_answer_says_so(engine):
    [answer] = ask(engine, {"x": Generate(Prompt("[[cut]]"))}).values()
    assert answer.finish_reason == "length"


def test_more_stop_strings_than_a_server_takes(engine):
    stops = ("w", "x", "y", "z", " thr")
    asked = {"x": Generate(Prompt("[[stops]]"), Sampling(stop=stops[1:]))}
    [answer] = ask(engine, asked).values()
    assert (answer.text, answer.finish_reason) == ("one two", "stop")
    asked = {"x": Generate(Prompt("[[stops]]"), Sampling(stop=stops))}
    assert ask(engine, asked)["x"].text == "one t"


def test_overload_is_answered_with_fewer_requests_at_once():
    with toy(most=3, slow=0.02) as server:
        patience = HASTY._replace(attempts=12)
        with contextlib.closing(server.engine(concurrency=32, patience=patience)) as engine:
            asked = {f"{i}": Generate(Prompt(f"question {i}")) for i in range(150)}
            answers = ask(engine, asked)
            assert all(a.text == written(asked[n].prompt.text) for n, a in answers.items())
            assert engine._server.limiter.limit < 8
        tries = server.state()["tries"]
        assert all(tries[request.prompt.text] == 1 for request in asked.values())


def test_never_more_at_once_than_allowed_and_soon_as_many():
    with toy(slow=0.1) as server:
        for most in (1, 12):
            with contextlib.closing(server.engine(concurrency=most)) as engine:
                ask(engine, {f"{i}": Generate(Prompt(f"{most} {i}")) for i in range(10 * most)})
                assert engine._server.limiter.highest == most
            assert most / 2 < server.state()["highest"] <= most


def test_answers_come_as_they_are_finished(engine):
    prepared = engine.prepare(
        ["slow", "fast"],
        [
            Generate(Prompt("[[busy 1]] later"), Sampling(max_tokens=9)),
            Generate(Prompt("now"), Sampling(max_tokens=2)),
        ],
    )
    assert [index for index, _ in engine.answer(prepared)] == [1, 0]


def test_whoever_stops_listening_stops_the_asking():
    with toy(slow=0.2) as server, contextlib.closing(server.engine(concurrency=2)) as engine:
        names = [f"{i}" for i in range(40)]
        before = server.state()["answered"]
        answers = engine.answer(engine.prepare(names, [Generate(Prompt(n)) for n in names]))
        next(answers)
        answers.close()
        time.sleep(1.0)
        assert server.state()["answered"] - before <= 4


def test_tokens_and_money_are_counted(server):
    with contextlib.closing(server.engine(price=Price(2.0, 8.0, 1.0))) as engine:
        ask(engine, {"x": Generate(Prompt("x" * 1000))})
        used = engine.usage
        assert engine.description["system_fingerprints"] == ["fp_1"]
    assert used == {
        "requests": 1,
        "retries": 0,
        "prompt_tokens": 1000,
        "completion_tokens": 5,
        "cached_tokens": 500,
        "cost": pytest.approx((500 * 2 + 500 * 1 + 5 * 8) / 1e6),
    }


def test_a_price_is_two_numbers_or_three():
    assert parse_price("") is None
    assert parse_price("0.15, 0.6") == Price(0.15, 0.6)
    for wrong in ("1", "1,2,3,4", "a,b", "-1,2", "nan,1", "1,inf"):
        with pytest.raises(BadOption, match="--price"):
            parse_price(wrong)


def test_parameters_that_the_server_ignores_are_refused():
    """It takes anything under any name, as a server does that leaves out what it does not know."""
    with toy(knows=[]) as server, contextlib.closing(server.engine()) as engine:
        for sampling in (Sampling(temperature=1.0, top_k=5), Sampling(repetition_penalty=1.2)):
            with pytest.raises(BadOption, match="this server has no"):
                engine.prepare(["x"], [Generate(Prompt("x"), sampling)])
        engine.prepare(["x"], [Generate(Prompt("x"), Sampling(top_k=5))])  # greedy: no use for it


def test_a_server_may_have_other_names_for_parameters():
    with toy(knows=["top_k", "repeat_penalty", "min_p"]) as server:
        found = probe_server("toy", server.options()).extras
    assert (found["repetition_penalty"], found["min_p"]) == ("repeat_penalty", "min_p")


def test_a_model_that_has_nothing_to_add_to_a_text_still_has_log_probabilities():
    with toy() as server:
        usual = probe_server("toy", server.options())
    with toy(speechless=["1", "The"]) as server:
        found = probe_server("toy", server.options())
    assert (found.top, found.chat_top) == (usual.top, usual.chat_top)
    assert found.top > 0
    assert found.likely[2] == {}
    assert len(found.likely) == len(usual.likely)


def test_a_wrong_key_is_said_without_saying_it(monkeypatch):
    secret = "sk-wrong-1234567890"
    with toy(key="sk-right-1234567890") as server:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(EngineUnavailable, match="OPENAI_API_KEY is not set"):
            server.engine()
        monkeypatch.setenv("OPENAI_API_KEY", secret)
        with pytest.raises(EngineUnavailable, match="does not accept the key") as caught:
            server.engine()
        assert secret not in str(caught.value)
        assert "***" in str(caught.value)
        monkeypatch.setenv("OTHER_KEY", "sk-right-1234567890")
        with contextlib.closing(server.engine(key_variable="OTHER_KEY")) as engine:
            telltales = {k: Generate(Prompt(f"[[{k}]]")) for k in ("key", "telltale")}
            answers = ask(engine, telltales)
            assert "sk-right" not in str(answers)
            assert "***" in answers["telltale"].text


def test_nobody_there_is_said_at_once():
    options = ServerOptions(base_url=f"http://127.0.0.1:{free_port()}/v1", patience=HASTY)
    with pytest.raises(EngineUnavailable, match="start the server"):
        probe_server("toy", options)


def test_an_unknown_model_and_the_one_there_is(server):
    with pytest.raises(UnknownName, match="did you mean 'toy'"):
        probe_server("toyy", server.options())


@pytest.mark.parametrize("says", ["toy-2026-01-31", "org/toy", "TOY", "toy:latest", "toy@main"])
def test_versions_of_the_name_are_the_model(says):
    with toy(says=says) as server:
        assert probe_server("toy", server.options()).model == says


@pytest.mark.parametrize("says", ["toy-mini", "other", "toy2"])
def test_another_models_name_is_refused(says):
    with toy(says=says) as server, pytest.raises(BadOption, match=f"--model '{says}'"):
        probe_server("toy", server.options())


def test_another_model_in_between_ends_the_run_and_keeps_what_was_finished(engine):
    asked = [Generate(Prompt(f"{i}"), Sampling(max_tokens=9)) for i in range(40)]
    asked.append(Generate(Prompt("[[impostor]]"), Sampling(max_tokens=2)))
    prepared = engine.prepare([str(i) for i in range(41)], asked)
    kept = {}
    with pytest.raises(EngineFailed, match=r"'impostor'.*repeat the command"):
        collected(engine, prepared, kept)
    assert {i: a.text for i, a in kept.items()} == {i: written(str(i)) for i in range(40)}


def test_the_end_of_a_run_waits_for_no_further_attempt(server):
    patience = HASTY._replace(first=40.0, most=40.0)
    with contextlib.closing(server.engine(patience=patience)) as engine:
        texts = ["[[broken 1]] at first", "[[impostor]] now"]
        prepared = engine.prepare(texts, [Generate(Prompt(text)) for text in texts])
        began, kept = time.monotonic(), {}
        with pytest.raises(EngineFailed, match="impostor"):
            collected(engine, prepared, kept)
        assert time.monotonic() - began < 15
        assert not kept


def test_a_dead_server_ends_the_run_and_keeps_what_was_finished():
    with toy(die_after=60, slow=0.005) as server, contextlib.closing(server.engine()) as engine:
        names = [f"{i}" for i in range(200)]
        prepared = engine.prepare(names, [Generate(Prompt(name)) for name in names])
        kept = {}
        with pytest.raises(EngineFailed, match="repeat the same command"):
            collected(engine, prepared, kept)
        assert 1 <= len(kept) < 60
        assert all(isinstance(answer, Generated) for answer in kept.values())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://x/v1",
        "http://",
        "http://u:p@h/v1",
        "http://h/v1?key=1",
        "http://h:x/v1",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(BadOption, match="--base-url"):
        probe_server("toy", ServerOptions(base_url=url))


def test_a_port_that_speaks_something_else(tmp_path):
    """A server that takes the connection and says nothing, as a wrong port may."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        patience = HASTY._replace(seconds=0.2, attempts=2)
        with pytest.raises(EngineUnavailable, match="no answer within"):
            probe_server("toy", ServerOptions(base_url=url, patience=patience))


def test_keys_follow_the_model_and_the_request_and_not_the_address(server):
    asked = [Generate(Prompt("x")), Generate(Prompt("y")), Choose(Prompt("x", plain=True), LETTERS)]
    with toy() as other:
        keys = []
        for one in (server, other):
            with contextlib.closing(one.engine()) as engine:
                keys.append([p.key for p in engine.prepare(["a", "b", "c"], asked)])
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 3
    with contextlib.closing(server.engine("none")) as engine:
        plain = [p.key for p in engine.prepare(["a", "b", "c"], asked)]
    assert plain[0] != keys[0][0]
    assert plain[2] == keys[0][2], "a plain protocol is asked the same way"


def test_a_closed_engine_says_so(server):
    engine = server.engine()
    engine.close()
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        next(engine.answer([]))


def test_log_likelihoods_of_the_toy_are_probabilities():
    assert sum(math.exp(v) for v in chances("x").values()) == pytest.approx(0.9)
