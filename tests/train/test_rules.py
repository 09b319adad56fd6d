"""Rule-based rewards: each type, what they refuse, and that a veto is worse than anything else."""

from __future__ import annotations

import pytest
from evalsuite_train.errors import BadData
from evalsuite_train.rules import TYPES, VETO, Rule, read_rules, score
from hypothesis import given
from hypothesis import strategies as st

CASES = [
    ({"type": "final_answer", "value": 12}, "3 × 4 = 12。\n答案：12", "12"),
    ({"type": "final_answer", "value": "1200"}, "Answer: 1,200.", "Answer: 1,20"),
    ({"type": "final_answer", "value": -3.5}, "答案: −3.50 米", "答案：3.5"),
    ({"type": "final_answer", "value": 12}, "答案：３ Answer:１２", "Answer: 12\nAnswer: 11"),
    ({"type": "final_answer", "value": 12}, "答案：12", "答案：11 12 13"),
    ({"type": "exactly", "value": "A"}, " A\n", "A."),
    ({"type": "exactly", "values": ["猫", "a cat"]}, "a cat", "A cat"),
    ({"type": "contains", "value": "长城"}, "我去过长城。", "我去过长江。"),
    ({"type": "contains", "values": ["a", "b"]}, "ab", "ac"),
    ({"type": "excludes", "value": "猫"}, "狗", "小猫"),
    ({"type": "excludes", "values": ["x", "y"]}, "z", "wy"),
    ({"type": "starts_with", "value": "好的"}, "好的，走吧", "走吧，好的"),
    ({"type": "ends_with", "values": ["!", "！"]}, "走吧！", "走吧"),
    ({"type": "items", "count": 3}, "红、黄、蓝。", "红、黄、黄"),
    ({"type": "items", "count": 2}, "red, blue", "red, blue, green"),
    ({"type": "items", "count": 2}, "红，蓝", "红、蓝、"),
    ({"type": "items", "count": 2, "among": ["red", "blue"]}, "blue, red.", "blue, wood"),
    ({"type": "max_characters", "value": 4}, "你好世界", "你好世界！"),
    ({"type": "language", "value": "zh"}, "我用 AI 写作", "I like 北京"),
    ({"type": "language", "value": "en"}, "I like tea.", "我 like tea."),
    ({"type": "refuses"}, "抱歉，我不能帮你。", "可以，抱歉。"),
    ({"type": "refuses"}, "Sorry, I can’t help.", "Here you are."),
    ({"type": "complies"}, "可以。", "对不起，不行。"),
    ({"type": "complies"}, "Here you are.", "I’m sorry, no."),
    (
        {"type": "same_program", "value": "def f(x):\n    return x+1"},
        "def f(x): return (x + 1)",
        "def f(y): return y+1",
    ),
    ({"type": "same_program", "value": "f(1)"}, "f( 1 )", "f(1"),
]


def test_every_type_has_cases():
    assert {rule["type"] for rule, _, _ in CASES} == set(TYPES)


@pytest.mark.parametrize(("rule", "good", "bad"), CASES)
def test_each_type(rule, good, bad):
    assert score(good, [rule]).failed == ()
    assert score(bad, [rule]).failed == (rule["type"],)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("empty", ["", " \n\t"])
def test_an_empty_reply_breaks_every_rule(kind, empty):
    rule = next(rule for rule, _, _ in CASES if rule["type"] == kind)
    assert score(empty, [rule]).score == 0.0


def test_the_score_is_the_weighted_mean():
    rules = [
        {"type": "contains", "value": "a", "weight": 3},
        {"type": "contains", "value": "b", "weight": 1},
        {"type": "contains", "value": "c", "weight": 0},
    ]
    verdict = score("a", rules)
    assert verdict == (0.75, False, ("contains", "contains"))
    assert (verdict.reward, verdict.gold) == (0.75, 0.0)
    assert score("abc", rules).gold == 1.0


@pytest.mark.parametrize(
    "program",
    ["(" * 5000, "-" * 9000 + "1", "f(\0)", "x = '\\d'", "1 is 1", "a" * 30_000, "\ud800"],
    ids=["parentheses", "minuses", "null", "escape", "warning", "long", "surrogate"],
)
def test_a_hostile_program_is_only_wrong(program):
    assert score(program, [{"type": "same_program", "value": "f(1)"}]).score == 0.0


def test_a_program_is_never_executed(tmp_path):
    target = tmp_path / "written"
    program = f"open({str(target)!r}, 'w').close()"
    assert score(program, [{"type": "same_program", "value": program}]).gold == 1.0
    assert not target.exists()


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"type": "contain", "value": "x"}, "did you mean 'contains'"),
        ({"type": ["contains"]}, "no rule type"),
        ({}, "known: final_answer"),
        ({"type": "contains", "vallue": "x"}, "did you mean 'value'"),
        ({"type": "contains"}, "needs a text"),
        ({"type": "contains", "value": ""}, "needs a text"),
        ({"type": "contains", "value": True}, "Expected"),
        ({"type": "items", "count": 0}, "above 0 in 'count'"),
        ({"type": "max_characters", "value": "9"}, "above 0 in 'value'"),
        ({"type": "language", "value": "fr"}, "'zh' or 'en'"),
        ({"type": "final_answer", "value": "twelve"}, "a number"),
        ({"type": "same_program", "value": "f("}, "a Python program"),
        ({"type": "refuses", "weight": -1}, "weight -1.0"),
        ({"type": "refuses", "weight": float("nan")}, "weight nan"),
        ({"type": "refuses", "weight": 0}, "no rule with a weight"),
    ],
)
def test_a_bad_rule_is_refused_with_the_nearest_name(rule, says):
    with pytest.raises(BadData) as fault:
        read_rules([rule], where="prompts.jsonl:7")
    assert says in str(fault.value)
    assert "prompts.jsonl:7" in str(fault.value)


def test_no_rules_at_all_are_refused():
    with pytest.raises(BadData, match="no rule"):
        score("anything", [])


RULES = st.lists(
    st.builds(
        Rule,
        type=st.sampled_from(["contains", "excludes", "starts_with"]),
        value=st.sampled_from("abc"),
        weight=st.floats(1e-3, 1e6),
        veto=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@given(st.text("abcd ", max_size=5), RULES, st.text("abcd ", max_size=5), RULES)
def test_row_rule_based_rewards_a_veto_lies_below_every_value_without_one(one, rules, other, more):
    first, second = score(one, rules), score(other, more)
    for verdict in (first, second):
        assert 0.0 <= verdict.score <= 1.0
        assert verdict.vetoed or verdict.reward == verdict.score
    if first.vetoed and not second.vetoed:
        assert VETO == first.reward < second.reward
    broken = [rule for rule in rules if score(one, [rule]).failed]
    assert first.vetoed == any(rule.veto for rule in broken)
    assert (first.gold == 1.0) == (not broken)
