"""Reading and counting entities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.metrics.entities import NOTHING, clean, counts, parse, write
from evalsuite.metrics.formulas import FORMULAS

TYPES = ("人名", "地名", "机构名", "时间")
entity = st.tuples(
    st.sampled_from(TYPES), st.text("李华北京大学3月8日A·-（）：、", min_size=1, max_size=8)
).filter(lambda e: clean(e[1]) == e[1] and e[1] != NOTHING)
entities = st.lists(entity, max_size=6)


@given(entities)
def test_what_is_written_is_read_back(found):
    assert parse(write(found), TYPES) == found


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("人名：李华；地名：北京", [("人名", "李华"), ("地名", "北京")]),
        ("人名:李华; 地名: 北京。", [("人名", "李华"), ("地名", "北京")]),
        ("- 人名：李华\n- 地名：“北京”", [("人名", "李华"), ("地名", "北京")]),
        ("1. **人名**：李华\n2. **地名：** 北京", [("人名", "李华"), ("地名", "北京")]),
        ("人名：李华；人名：李华", [("人名", "李华"), ("人名", "李华")]),
        ("实体如下：\n人名：李华", [("人名", "李华")]),
        ("时间：8：30", [("时间", "8：30")]),
        ("国家：中国；地名：北京", [("地名", "北京")]),
        ("人名：无；地名：", []),
        ("无", []),
        (" 无。\n", []),
    ],
)
def test_lenient_reading(answer, expected):
    assert parse(answer, TYPES) == expected


@pytest.mark.parametrize("answer", ["", "我不知道", "没有实体", "人名", "李华、北京", "：；："])
def test_an_answer_that_states_nothing(answer):
    assert parse(answer, TYPES) is None


@given(made=entities, due=entities)
def test_counts_against_crossing_out_one_by_one(made, due):
    left, hits = list(due), 0
    for item in made:
        if item in left:
            left.remove(item)
            hits += 1
    assert counts(made, due) == [hits, len(made), len(due)]


@given(made=entities, due=entities)
def test_totals_are_the_sums_over_types(made, due):
    by_type = [
        counts([e for e in made if e[0] == kind], [e for e in due if e[0] == kind])
        for kind in TYPES
    ]
    assert np.sum(by_type, axis=0).tolist() == counts(made, due)


def test_micro_f1_by_hand():
    total = np.array(counts([("人名", "李华")], [("人名", "李华"), ("地名", "北京")]))
    total += np.array(counts([], []))  # a sentence without entities, rightly left empty
    total += np.array(counts([("时间", "昨天"), ("地名", "上海")], [("地名", "上海")]))
    assert total.tolist() == [2, 3, 3]
    assert FORMULAS["precision"](total) == pytest.approx(2 / 3)
    assert FORMULAS["recall"](total) == pytest.approx(2 / 3)
    assert FORMULAS["f1"](total) == pytest.approx(2 / 3)


@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_any_text_can_be_read(text):
    for answer in (text, f"人名：{text}", f"{text}；时间：{text}"):
        found = parse(answer, TYPES) or []
        hits, made, due = counts(found, [("人名", "李华")])
        assert (made, due) == (len(found), 1)
        assert 0 <= hits <= 1
