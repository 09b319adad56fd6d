"""Answers from a file: the contract, the two layouts, and what letter an answer names."""

from __future__ import annotations

import json
import time

import pytest
from contract import ALL, CHOOSE, GENERATE, EngineContract, ask
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.engines.replay import ReplayEngine, pick
from evalsuite.errors import BadRow, DataMissing
from evalsuite.request import Choose, Chosen, Failure, Generate, Prompt, Sampling, Score


def write(folder, rows, name="answers.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


class TestContractRows(EngineContract):
    scores = False

    @pytest.fixture
    def engine(self, tmp_path):
        rows = [{"id": name, "output": "A text\nwith lines, 中国. e"} for name in GENERATE]
        rows += [
            {"id": name, "output": "x", "logprobs": [-2.5 - i for i in range(len(r.choices))]}
            if at % 2
            else {"id": name.split("/")[1], "output": r.choices[-1]}
            for at, (name, r) in enumerate(CHOOSE.items())
        ]
        return ReplayEngine(write(tmp_path, rows))

    def impossible(self):
        return {"other/one": Generate(Prompt("x")), "choose/other": Choose(Prompt("x"), ("A",))} | {
            "choose/one": Score(Prompt("x"), "y")
        }

    def test_a_failure_is_data(self, engine):
        for name, request in self.impossible().items():
            [answer] = ask(engine, {name: request}).values()
            assert isinstance(answer, Failure)
            assert answer.code == "no_answer"


def test_lines_answer_in_order(tmp_path):
    file = tmp_path / "answers.txt"
    file.write_text("一\n\n B \n", encoding="utf-8")
    engine = ReplayEngine(file)
    asked = {
        "b/1": Generate(Prompt("x")),
        "a/1": Generate(Prompt("x")),
        "a/2": Choose(Prompt("x"), (" A", " B")),
    }
    answers = ask(engine, asked)
    assert [answers["b/1"].text, answers["a/1"].text, answers["a/2"]] == ["一", "", Chosen(1)]
    assert ask(engine, {"a/1": asked["a/1"]}) == {"a/1": answers["a/1"]}  # known by now
    with pytest.raises(DataMissing, match="3 lines for 4 samples"):
        ask(engine, {"c/1": asked["a/1"]})


@pytest.mark.parametrize("lines", [2, 4])
def test_another_number_of_lines_names_both_numbers(tmp_path, lines):
    file = tmp_path / "answers.txt"
    file.write_text("x\n" * lines)
    with pytest.raises(DataMissing, match=f"{lines} lines for 3 samples") as caught:
        ReplayEngine(file).prepare(["a", "b", "c"], [Generate(Prompt("x"))] * 3)
    assert str(file) in caught.value.where


def test_the_full_name_wins_over_the_samples_own(tmp_path):
    file = write(
        tmp_path,
        [{"id": "agronomy/1", "output": "both"}, {"id": "cmmlu/agronomy/1", "output": "one"}],
    )
    asked = {name: Generate(Prompt("x")) for name in ("cmmlu/agronomy/1", "other/agronomy/1")}
    texts = {name: answer.text for name, answer in ask(ReplayEngine(file), asked).items()}
    assert texts == {"cmmlu/agronomy/1": "one", "other/agronomy/1": "both"}


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"id": "b/1", "output": "again"}, "a second answer"),
        ({"output": "x"}, "no id"),
        ({"id": "x"}, "no output"),
        ({"id": "x", "output": 5}, "must be texts"),
        ({"id": ["x"], "output": "y"}, "must be texts"),
        ({"id": "x", "output": None}, "must be texts"),
        ({"id": "x", "output": "", "logprobs": ["a"]}, "finite numbers"),
        ({"id": "x", "output": "", "logprobs": [True]}, "finite numbers"),
        ({"id": "x", "output": "", "logprobs": [float("nan")]}, "finite numbers"),
        ({"id": "x", "output": "", "logprobs": 5}, "finite numbers"),
        (["x"], "not a JSON object"),
    ],
    ids=str,
)
def test_a_bad_row_is_named(tmp_path, row, match):
    file = write(tmp_path, [{"id": "a/1", "output": "x"}, {"id": "b/1", "output": "x"}, row])
    with pytest.raises(BadRow, match=match) as caught:
        ReplayEngine(file)
    assert caught.value.where == f"{file}:3"


def test_logprobs_of_another_number_than_choices(tmp_path):
    file = write(tmp_path, [{"id": "a", "logprobs": [-1, -2]}])
    with pytest.raises(BadRow, match="2 logprobs for 3 choices"):
        ask(ReplayEngine(file), {"a": Choose(Prompt("x"), ("A", "B", "C"))})
    answer = ask(ReplayEngine(file), {"a": Choose(Prompt("x"), ("A", "B"))})["a"]
    assert answer == Chosen(0, (-1.0, -2.0))


def test_no_file(tmp_path):
    with pytest.raises(DataMissing):
        ReplayEngine(tmp_path / "no.jsonl")
    with pytest.raises(DataMissing, match="not a file"):
        ReplayEngine(tmp_path)


def test_keys_follow_the_content(tmp_path):
    def key(output):
        engine = ReplayEngine(write(tmp_path, [{"id": "a", "output": output}]))
        return engine.prepare(["a"], [Generate(Prompt("x"))])[0].key

    assert key("x") == key("x") != key("y")


def test_a_text_ends_at_the_requests_stop_string(tmp_path):
    engine = ReplayEngine(write(tmp_path, [{"id": "a", "output": "5\nQuestion: Q: x"}]))
    request = Generate(Prompt("x"), Sampling(stop=("Q:", "", "\nQuestion")))
    assert ask(engine, {"a": request})["a"].text == "5"


def test_score_cannot_be_replayed(tmp_path):
    engine = ReplayEngine(write(tmp_path, [{"id": name, "output": "x"} for name in ALL]))
    assert ask(engine, {"score/text": ALL["score/text"]})["score/text"].code == "no_answer"


ABCD = ("A", "B", "C", "D")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("B", 1),
        (" B\n", 1),
        ("B.", 1),
        ("(B)", 1),
        ("（Ｂ）", 1),
        ("B。", 1),
        ("B. 印度", 1),
        ("B、印度", 1),
        ("B\n因为水稻……", 1),
        ("答案是B", 1),
        ("答案：B", 1),
        ("答案是：B。因为A是错的", 1),
        ("正确答案为 B，不是A", 1),
        ("所以应该选择的答案是（B）", 1),
        ("The answer is B", 1),
        ("The answer is (B).", 1),
        ("A is wrong, so the answer is B.", 1),
        ("**Answer: B**", 1),
        ("", None),
        ("E", None),
        ("答案是E", None),
        ("b", 1),
        ("故选B。", 1),
        ("经分析，应选B项。", 1),
        ("\\boxed{B}", 1),
        ("**B**", 1),
        ("<think>A</think>B", 1),
        ("AB", None),
        ("A和B", None),
        ("A, B", None),
        ("答案是A或B", None),
        ("答案是A。不对，答案是B", None),
        ("The answer is A or B", None),
        ("The answer is not A", None),
        ("答案不是A", None),
        ("A dog is an animal", None),
        ("I think it is B or so", None),
        ("A. 中国 B. 印度 C. 埃及 D. 希腊", None),
        ("Apple", None),
        ("The answer is Apple", None),
        ("我不知道", None),
    ],
)
def test_a_letter_is_taken_where_it_is_clear(output, expected):
    assert pick(output, ABCD) == expected


def test_choices_of_several_letters_are_taken_word_for_word():
    assert pick(" 印度 ", ("中国", "印度")) == 1
    assert pick("答案是印度", ("中国", "印度")) is None
    assert pick("B", ("中国", "印度")) is None
    assert pick("same", ("same", " same")) is None
    assert pick("x", ()) is None


@given(st.text(st.characters(codec=None)), st.lists(st.text(max_size=3), max_size=5))
def test_any_output_can_be_read(output, choices):
    for offered in (choices, ABCD):
        found = pick(output, offered)
        assert found is None or 0 <= found < len(offered)


@pytest.mark.parametrize("piece", ["答案", "答案是 ", "(", "A, ", "answer is ", "A", "\u0301", " "])
def test_a_huge_output_takes_no_time(piece):
    start = time.process_time()
    assert pick(piece * 200_000, ABCD) in (None, 0)
    assert time.process_time() - start < 5
