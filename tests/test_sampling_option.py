"""``--sampling``: how replies are drawn instead of as the task says."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.decoding import Decoding, parse_decoding
from evalsuite.errors import BadOption
from evalsuite.plan import TaskChoice, plan_task
from evalsuite.request import Choose, Generate, Prompt, Sampling


def test_nothing_is_changed_unless_it_is_said() -> None:
    request = Generate(Prompt("x"), Sampling(max_tokens=7, stop=("\n",), temperature=0.3))
    assert parse_decoding("").apply(request) == request
    assert str(parse_decoding("")) == ""


def test_only_what_is_said_is_changed() -> None:
    request = Generate(Prompt("x"), Sampling(max_tokens=7, stop=("\n",)))
    changed = parse_decoding("temperature=1, top_p=0.85").apply(request)
    assert isinstance(changed, Generate)
    assert changed.sampling == Sampling(max_tokens=7, stop=("\n",), temperature=1.0, top_p=0.85)


def test_a_choice_is_not_drawn() -> None:
    request = Choose(Prompt("x"), ("A", "B"))
    assert parse_decoding("temperature=1").apply(request) is request


@given(
    st.builds(
        Decoding,
        max_tokens=st.none() | st.integers(1, 4096),
        temperature=st.none() | st.sampled_from([0.0, 0.3, 1.0]),
        top_p=st.none() | st.sampled_from([0.85, 0.95, 1.0]),
        top_k=st.none() | st.integers(0, 100),
        repetition_penalty=st.none() | st.sampled_from([1.0, 1.1, 1.3]),
    )
)
def test_it_reads_what_it_writes(decoding: Decoding) -> None:
    assert parse_decoding(str(decoding)) == decoding


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("temprature=1", "temperature"),
        ("temperature", "NAME=VALUE"),
        ("temperature=hot", "temperature"),
        ("top_p=1.5", "from"),
        ("temperature=nan", "from"),
        ("max_tokens=0", "from"),
    ],
)
def test_a_wrong_setting_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse_decoding(text)
    assert said in str(msgspec.to_builtins(caught.value.one_line()))


def test_a_sampled_run_has_another_signature_and_every_sample_a_seed_of_its_own() -> None:
    choice = TaskChoice(label="ladder_wishes")
    greedy = plan_task(choice, limit=8)
    sampled = plan_task(choice, limit=8, sampling=parse_decoding("temperature=1"))
    assert greedy.part.sampling == ""
    assert sampled.part.sampling == "temperature=1"
    seeds = [r.sampling.seed for r in sampled.requests if isinstance(r, Generate)]
    assert len(set(seeds)) == len(seeds) == 8
    assert all(r.sampling.seed == 0 for r in greedy.requests if isinstance(r, Generate))
