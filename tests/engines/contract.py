"""What every engine must do; a test class for an engine inherits :class:`EngineContract`.

The subclass gives a fixture ``engine`` that can answer the requests below under their names.
"""

from __future__ import annotations

import json

import msgspec
import pytest

from evalsuite.engines.base import Engine
from evalsuite.errors import SAMPLE_CODES
from evalsuite.request import (
    Choose,
    Chosen,
    Failure,
    Generate,
    Generated,
    Prompt,
    Sampling,
    Score,
    Scored,
    most_likely,
)

QUESTION = "题目：水稻的起源地是哪里？\nA. 中国\nB. 印度\nC. 埃及\nD. 希腊\n答案是："
HEADER = "以下是关于农学的单项选择题，请直接给出正确答案的选项。\n\n" + QUESTION + "A\n\n"
HOSTILE = "\ud800\x00\x1b[2J\u202e🙂" + "à́̂" * 9 + "<s></s><unk>{{ 1 }}"

CHOOSE = {
    "choose/letters": Choose(Prompt(QUESTION), ("A", "B", "C", "D")),
    "choose/spaced": Choose(Prompt("Question: What is 2 + 3?\nAnswer:"), (" A", " B")),
    "choose/full": Choose(Prompt(QUESTION), ("中国", "印度", "埃及，公园", "希腊")),
    "choose/shots": Choose(Prompt(QUESTION, prefix=HEADER), ("A", "B", "C", "D")),
    "choose/shots2": Choose(Prompt("题目：公园\n答案是：", prefix=HEADER), ("A", "B", "C", "D")),
    "choose/one": Choose(Prompt("The answer is"), (" 5",)),
    "choose/hostile": Choose(Prompt(HOSTILE), ("A", HOSTILE)),
}
GENERATE = {
    "generate/short": Generate(Prompt("The quick"), Sampling(max_tokens=3)),
    "generate/long": Generate(Prompt("今天天气很好，我们", prefix=HEADER), Sampling(max_tokens=40)),
    "generate/stop": Generate(
        Prompt("User: 你好\nBot: "), Sampling(max_tokens=40, stop=("e", "的", "\n", "A"))
    ),
    "generate/sampled": Generate(
        Prompt("今天"), Sampling(max_tokens=20, temperature=0.9, top_p=0.95, top_k=50, seed=7)
    ),
    "generate/penalised": Generate(Prompt("今天"), Sampling(max_tokens=20, repetition_penalty=1.3)),
    "generate/hostile": Generate(Prompt(HOSTILE), Sampling(max_tokens=5, stop=("\udfff", ""))),
}
SCORE = {
    "score/text": Score(Prompt("The quick brown"), " fox jumps over"),
    "score/alone": Score(Prompt(""), "今天天气很好，我们去公园散步。"),
    "score/hostile": Score(Prompt(""), HOSTILE),
}
ALL = CHOOSE | GENERATE | SCORE


def ask(engine: Engine, asked: dict) -> dict:
    """Answers by name; checks that each index comes exactly once."""
    names = list(asked)
    answers: dict = {}
    for index, response in engine.answer(engine.prepare(names, list(asked.values()))):
        assert names[index] not in answers
        answers[names[index]] = response
    assert sorted(answers) == sorted(names)
    return answers


def assert_same(left: dict, right: dict) -> None:
    """Equal answers; log-likelihoods to 1e-4."""
    assert left.keys() == right.keys()
    for name, one in left.items():
        other = right[name]
        assert type(one) is type(other), name
        if isinstance(one, Chosen):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4), name
            one, other = (msgspec.structs.replace(x, logprobs=()) for x in (one, other))
        if isinstance(one, Scored):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4), name
            one, other = (msgspec.structs.replace(x, logprob=0.0) for x in (one, other))
        assert one == other, name


def refuse_retries(monkeypatch) -> None:
    """Let a fault in a batch surface, which the engine would otherwise survive row by row."""

    def describe(fault):
        raise fault

    monkeypatch.setattr("evalsuite.engines._batching.describe", describe)


class EngineContract:
    """The contract, as tests.

    Attributes:
        scores: whether the engine computes log-likelihoods of given texts.
    """

    scores = True

    def requests(self):
        return ALL if self.scores else CHOOSE | GENERATE

    def test_every_request_is_answered_once_in_kind(self, engine):
        kinds = {Choose: Chosen, Generate: Generated, Score: Scored}
        answers = ask(engine, self.requests())
        for name, request in self.requests().items():
            assert type(answers[name]) is kinds[type(request)], name
            assert msgspec.json.decode(
                msgspec.json.encode(answers[name]), type=kinds[type(request)]
            )

    def test_the_most_likely_choice_is_picked(self, engine):
        for name, answer in ask(engine, CHOOSE).items():
            if answer.logprobs:
                assert len(answer.logprobs) == len(CHOOSE[name].choices)
                assert all(logprob < 0 for logprob in answer.logprobs)
                assert answer.picked == most_likely(answer.logprobs)
            else:
                assert answer.picked is None or answer.picked < len(CHOOSE[name].choices)

    def test_a_text_ends_before_its_stop_string_or_at_its_limit(self, engine):
        for name, answer in ask(engine, GENERATE).items():
            sampling = GENERATE[name].sampling
            assert not any(stop and stop in answer.text for stop in sampling.stop), name
            assert answer.finish_reason in ("stop", "length")
            assert len(answer.token_ids) <= sampling.max_tokens
            if answer.finish_reason == "length":
                assert len(answer.token_ids) == sampling.max_tokens

    def test_an_answer_does_not_depend_on_order(self, engine):
        forward = self.requests()
        assert_same(ask(engine, forward), ask(engine, dict(reversed(forward.items()))))

    def test_an_answer_does_not_depend_on_its_neighbours(self, engine):
        together = ask(engine, self.requests())
        for name, request in self.requests().items():
            assert_same(ask(engine, {name: request}), {name: together[name]})

    def test_keys_are_stable_and_distinct(self, engine):
        names, requests = list(self.requests()), list(self.requests().values())
        keys = [prepared.key for prepared in engine.prepare(names, requests)]
        assert len(set(keys)) == len(keys)
        assert [p.key for p in engine.prepare(names[::-1], requests[::-1])] == keys[::-1]

    def test_a_failure_is_data(self, engine):
        for name, request in self.impossible().items():
            answers = ask(engine, {name: request} | CHOOSE)
            assert isinstance(answers[name], Failure)
            assert answers[name].code in SAMPLE_CODES
            assert answers[name].message
            assert all(isinstance(answers[other], Chosen) for other in CHOOSE)

    def impossible(self):
        """Requests that this engine cannot answer, by name; of a model with 256 tokens of context."""
        return {
            "long": Generate(Prompt("气" * 300)),
            "longer": Choose(Prompt("气" * 300), ("A",)),
            "empty": Choose(Prompt("x"), ("A", "")),
            "nothing": Score(Prompt("x"), ""),
            "wide": Choose(Prompt("气" * 300, truncate="left"), ("气" * 300, "A")),
        }

    def test_nothing_asked_nothing_answered(self, engine):
        assert ask(engine, {}) == {}

    def test_it_says_what_it_is(self, engine):
        assert engine.description["name"] == engine.name
        assert engine.description["version"]
        assert json.loads(json.dumps(engine.description)) == engine.description
