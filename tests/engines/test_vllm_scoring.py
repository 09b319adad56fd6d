"""How tails become requests to vLLM, checked against a cache that hands out nonsense for what it skips."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.engines._vllm_frames import Declined, Measured
from evalsuite.engines._vllm_scoring import Portion, common, split
from evalsuite.engines.base import Prepared
from evalsuite.request import Choose, Chosen, Failure, Prompt, Score, Scored

IDS = 4


def logprobs(tokens):
    """A language model of four tokens: any function of the tokens before will do."""
    weights = [1 + (hash((tokens, token)) % 1000) for token in range(IDS)]
    return [math.log(weight / sum(weights)) for weight in weights]


class CachingModel:
    """Answers jobs as vLLM does: rows exist for computed tokens only; the cache keeps whole blocks."""

    def __init__(self, block):
        self.block = block
        self.cached = set()
        self.computed = 0

    def answer(self, job):
        tokens = job.tokens
        blocks = range(self.block, len(tokens), self.block)  # the last token is always computed
        skipped = 0
        if job.shared:
            skipped = max((end for end in blocks if tokens[:end] in self.cached), default=0)
        self.computed += len(tokens) - skipped
        self.cached |= {tokens[:end] for end in range(self.block, len(tokens) + 1, self.block)}
        rows = []
        for place in range(len(tokens) - job.rows, len(tokens)):
            known = logprobs(tokens[:place])
            value = known[tokens[place]] if place > skipped else math.nan
            rows.append((value, known[tokens[place]] == max(known)))
        after = logprobs(tokens)
        likeliest = after.index(max(after))
        return Measured(job.number, likeliest, tuple(after[i] for i in job.wanted), tuple(rows))


def asked(portion, model):
    answers = {}
    for job in portion.jobs:
        for index, answer in portion.take(model.answer(job)):
            assert index not in answers
            answers[index] = answer
    return answers


ids = st.integers(0, IDS - 1)
tails = st.lists(st.lists(ids, min_size=1, max_size=9).map(tuple), min_size=1, max_size=5)
questions = st.lists(
    st.tuples(st.lists(ids, min_size=1, max_size=12).map(tuple), tails), min_size=1, max_size=6
)


@given(questions=questions, block=st.integers(1, 5), context=st.sampled_from([None, 12, 15]))
def test_every_tail_is_scored_whatever_the_cache_holds(questions, block, context):
    prepared = [
        (i, Prepared("x", Choose(Prompt(""), ("",) * len(tails)), "", prompt, tuple(tails)))
        for i, (prompt, tails) in enumerate(questions)
    ]
    portion = Portion(prepared, context=context, block=block, numbers=itertools.count(7))
    answers = asked(portion, CachingModel(block))
    assert sorted(answers) == list(range(len(questions)))
    for (prompt, tails), answer in zip(questions, map(answers.get, sorted(answers)), strict=True):
        assert isinstance(answer, Chosen)
        for tail, found in zip(tails, answer.logprobs, strict=True):
            row = (prompt + tail)[-(context + 1) :] if context else prompt + tail
            places = range(len(row) - len(tail), len(row))
            assert found == pytest.approx(sum(logprobs(row[:at])[row[at]] for at in places))


@given(prompt=st.lists(ids, min_size=1, max_size=8).map(tuple), tail=tails)
def test_a_score_is_greedy_where_each_token_was_the_likeliest(prompt, tail):
    likely = []
    for _ in tail[0]:
        after = logprobs((*prompt, *likely))
        likely.append(after.index(max(after)))
    for one in (tail[0], tuple(likely)):
        item = Prepared("x", Score(Prompt(""), ""), "", prompt, (one,))
        portion = Portion([(0, item)], context=None, block=2, numbers=itertools.count())
        answer = asked(portion, CachingModel(2))[0]
        assert isinstance(answer, Scored)
        assert answer.greedy == (one == tuple(likely))
        assert answer.token_count == len(one)


def test_letters_of_one_question_are_one_request():
    item = Prepared("x", Choose(Prompt(""), tuple("ABCD")), "", (1, 2), ((0,), (1,), (2,), (0,)))
    [job] = Portion([(0, item)], context=None, block=2, numbers=itertools.count()).jobs
    assert (job.tokens, job.wanted, job.rows) == ((1, 2), (0, 1, 2), 0)


def test_more_choices_than_one_request_may_ask_for():
    item = Prepared("x", Choose(Prompt(""), ("",) * 300), "", (1,), tuple((i,) for i in range(300)))
    portion = Portion([(0, item)], context=None, block=2, numbers=itertools.count())
    assert [len(job.wanted) for job in portion.jobs] == [128, 128, 44]
    for job in reversed(portion.jobs):
        done = list(portion.take(Measured(job.number, 0, tuple(-float(i) for i in job.wanted))))
    assert done[0][1].logprobs == tuple(-float(i) for i in range(300))


def test_a_shared_prefix_is_computed_once():
    prefix = tuple(i % IDS for i in range(64))
    prepared = [
        (
            i,
            Prepared(
                "x",
                Choose(Prompt(""), ("", "")),
                "",
                (*prefix, *divmod(i, 4), 1),
                ((0, 1, 2), (3, 2, 1)),
            ),
        )
        for i in range(16)
    ]
    model = CachingModel(8)
    asked(Portion(prepared, context=None, block=8, numbers=itertools.count()), model)
    assert model.computed <= 64 + 16 * 3 * 8


def test_a_number_that_is_none_is_a_failure():
    item = Prepared("x", Score(Prompt(""), ""), "", (1,), ((2,),))
    portion = Portion([(0, item)], context=None, block=2, numbers=itertools.count())
    [(_, answer)] = portion.take(Measured(0, 0, (math.nan,)))
    assert isinstance(answer, Failure)
    assert answer.code == "engine_failed"


def test_a_job_that_is_declined_fails_its_questions_once():
    prepared = [
        (i, Prepared("x", Choose(Prompt(""), ("", "")), "", (1,), ((2, 3), (i, 3)))) for i in (0, 1)
    ]
    portion = Portion(prepared, context=None, block=2, numbers=itertools.count())
    model, answers = CachingModel(2), []
    for job in portion.jobs:
        if job.tokens in ((1,), (1, 2)):
            answers += portion.decline(Declined(job.number, "no"))
        else:
            answers += portion.take(model.answer(job))
    assert sorted(answers) == [(i, Failure("engine_failed", "no")) for i in (0, 1)]


@given(left=st.lists(ids), right=st.lists(ids))
def test_common_beginnings(left, right):
    shared = common(left, right)
    assert left[:shared] == right[:shared]
    assert left[shared : shared + 1] != right[shared : shared + 1] or shared in (
        len(left),
        len(right),
    )


def test_a_cut_prompt_leaves_room_for_its_tail():
    assert split((1, 2, 3), (4, 5), 3) == ((2, 3), (2, 3, 4))
    assert split((1, 2, 3), (4, 5), None) == ((1, 2, 3), (1, 2, 3, 4))
