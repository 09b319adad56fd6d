"""What a server's JSON says of first tokens."""

from __future__ import annotations

import pytest

from evalsuite.engines._wire import Passing, alternatives, first_tokens, read_answer


def chat(*tokens: tuple[str, float], own: tuple[str, float]) -> dict:
    listed = [{"token": token, "logprob": value} for token, value in tokens]
    first = {"token": own[0], "logprob": own[1], "top_logprobs": listed}
    return {"choices": [{"message": {"content": own[0]}, "logprobs": {"content": [first]}}]}


def completion(top: dict[str, float], own: tuple[str, float]) -> dict:
    logprobs = {"tokens": [own[0]], "token_logprobs": [own[1]], "top_logprobs": [top]}
    return {"choices": [{"text": own[0], "logprobs": logprobs}]}


@pytest.mark.parametrize("order", [1, -1])
def test_of_tokens_that_are_written_alike_the_likeliest_counts_and_each_is_listed(order) -> None:
    """LLaMA's "A" and "▁A" are both written ``A`` by a server."""
    tokens = [("B", -0.5), ("A", -1.0), ("A", -7.0)][::order]
    answer = read_answer(chat(*tokens, own=("B", -0.5)))
    assert first_tokens(answer) == {"A": -1.0, "B": -0.5}
    assert len(alternatives(answer)) == 3


@pytest.mark.parametrize(
    "content",
    [
        chat(("A", -1.0), ("B", -2.0), own=("C", -3.0)),
        completion({"A": -1.0, "B": -2.0}, ("C", -3.0)),
    ],
)
def test_its_own_token_is_there_though_it_is_not_listed(content) -> None:
    assert first_tokens(read_answer(content)) == {"A": -1.0, "B": -2.0, "C": -3.0}


def test_ids_are_read_as_ids() -> None:
    answer = read_answer(completion({"token_id:5": -1.0}, ("token_id:5", -1.0)))
    assert first_tokens(answer) == {5: -1.0}


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"content": []}, {"content": [3]}, {"top_logprobs": 1}]
)
def test_an_answer_without_them_is_asked_again(logprobs) -> None:
    answer = read_answer({"choices": [{"text": "a", "logprobs": logprobs}]})
    with pytest.raises(Passing):
        first_tokens(answer)
