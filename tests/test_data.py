"""Reading data: text as it stands in the file, and every bad row named."""

import csv
import hashlib
import io
import json
import re

import msgspec
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import lines
from evalsuite.data import DataFolder
from evalsuite.errors import BadRow, DataMissing

CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=20)


@pytest.fixture
def folder(tmp_path):
    def write(skip_bad_rows=False, **files):
        for name, content in files.items():
            raw = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name.replace("__", ".")).write_bytes(raw)
        return DataFolder(tmp_path, layout="two files", skip_bad_rows=skip_bad_rows)

    return write


def test_a_missing_folder_says_what_was_expected(tmp_path):
    with pytest.raises(DataMissing) as caught:
        DataFolder(tmp_path / "nowhere", layout="test.csv")
    assert "nowhere" in caught.value.where
    assert "test.csv" in caught.value.hint


def test_a_missing_file_is_named(folder):
    with pytest.raises(DataMissing, match=r"a\.csv"):
        folder().text("a.csv")
    with pytest.raises(DataMissing, match=r"none of a\.csv, \*\.tsv found"):
        folder().first("a.csv", "*.tsv")


def test_a_folder_in_place_of_a_file_is_an_error_of_ours(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DataMissing):
        DataFolder(tmp_path).text("a.csv")


def test_a_single_file_is_the_only_one_seen(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("x\n2\n", encoding="utf-8")
    data = DataFolder(tmp_path / "a.csv")
    assert data.glob("*.csv") == ["a.csv"]
    assert data.glob("*.jsonl") == []
    assert [row for _, row in data.csv("a.csv", ("x",))] == [{"x": "1"}]


def test_glob_is_sorted_and_has_files_only(folder, tmp_path):
    (tmp_path / "d.csv").mkdir()
    assert folder(b__csv="", a__csv="").glob("*.csv") == ["a.csv", "b.csv"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_byte_order_mark_and_line_ends(folder, end):
    data = folder(
        a__csv=("\ufeffx,y" + end + "1,2" + end).encode(), a__jsonl=("\ufeff{}" + end).encode()
    )
    assert list(data.csv("a.csv", ("x", "y"))) == [(2, {"x": "1", "y": "2"})]
    assert list(data.jsonl("a.jsonl", ())) == [(1, {})]


def test_lines_end_at_newlines_and_nowhere_else(folder):
    data = folder(a__txt="一\u2028二\x0b三\x85\r\n四\n\n")
    assert data.lines("a.txt") == ["一\u2028二\x0b三\x85", "四", ""]


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5))
def test_csv_cells_are_the_text_that_was_written(tmp_path_factory, rows):
    """Two independent readers agree: what the csv module wrote, and what pandas reads as text."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerows([("x", "y"), *rows])
    file = tmp_path_factory.mktemp("csv") / "a.csv"
    file.write_bytes(buffer.getvalue().encode())
    found = [row for _, row in DataFolder(file).csv("a.csv", ("x", "y"))]
    assert found == [{"x": x, "y": y} for x, y in rows]
    frame = pd.read_csv(file, dtype=str, keep_default_na=False, skip_blank_lines=False)
    assert found == frame.to_dict("records")


def test_csv_keeps_what_pandas_would_turn_into_numbers_or_nothing(folder):
    text = 'x\n1.0\n007\nNA\nNone\nnan\n无\n1e5\nTrue\n" a "\n""\n'
    found = [row["x"] for _, row in folder(a__csv=text).csv("a.csv", ("x",))]
    assert found == ["1.0", "007", "NA", "None", "nan", "无", "1e5", "True", " a ", ""]


def test_csv_columns_are_found_by_name_in_any_case_and_order(folder):
    data = folder(a__csv="extra, B ,a\n0,2,1\n")
    assert data.header("a.csv") == ["extra", "b", "a"]
    assert list(data.csv("a.csv", ("A", "B"))) == [(2, {"A": "1", "B": "2"})]


def test_csv_rows_are_numbered_as_records(folder):
    data = folder(a__csv='x\n"one\ntwo"\n\nthree\n')
    assert list(data.csv("a.csv", ("x",))) == [(2, {"x": "one\ntwo"}), (4, {"x": "three"})]


def test_csv_huge_field(folder):
    huge = "汉" * 1_000_000
    assert next(folder(a__csv=f"x\n{huge}\n").csv("a.csv", ("x",))) == (2, {"x": huge})


def test_nul_is_text(folder):
    data = folder(a__csv="x\na\x00b\n", a__jsonl='{"x": "a\\u0000b"}\n')
    assert next(data.csv("a.csv", ("x",)))[1] == {"x": "a\x00b"}
    assert next(data.jsonl("a.jsonl", ("x",)))[1] == {"x": "a\x00b"}


def test_csv_without_a_column_names_it(folder):
    with pytest.raises(BadRow, match=r"no column answer .*a\.csv:1"):
        list(folder(a__csv="question\n1\n").csv("a.csv", ("question", "answer")))


@pytest.mark.parametrize("text", ["", "\n"])
def test_empty_csv_has_no_columns(folder, text):
    with pytest.raises(BadRow, match="no column x"):
        list(folder(a__csv=text).csv("a.csv", ("x",)))


def test_csv_with_a_broken_header(folder):
    with pytest.raises(BadRow, match=r"broken CSV quoting.*a\.csv:1"):
        folder(a__csv='"x\n1\n').header("a.csv")


@pytest.mark.parametrize(
    ("text", "row", "reason"),
    [
        ("x,y\n1,2\n3\n", 3, "1 fields where the header has 2"),
        ("x,y\n1,2,3\n", 2, "3 fields where the header has 2"),
        ('x,y\n"1"2,3\n', 2, "broken CSV quoting"),
        ('x,y\n1,2\n"3,4\n', 3, "broken CSV quoting"),
    ],
)
def test_a_bad_csv_row_is_named_or_skipped_and_counted(folder, text, row, reason):
    with pytest.raises(BadRow) as caught:
        list(folder(a__csv=text).csv("a.csv", ("x", "y")))
    assert caught.value.where.endswith(f"a.csv:{row}")
    assert reason in caught.value.what
    assert "--skip-bad-rows" in caught.value.hint
    lenient = folder(skip_bad_rows=True, a__csv=text)
    kept = list(lenient.csv("a.csv", ("x", "y")))
    assert len(kept) == row - 2
    assert len(lenient.bad_rows) == 1
    assert lenient.bad_rows[0].startswith(f"a.csv:{row}: {reason}")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('"x"', "not a JSON object"),
        ('{"y": 1}', "no x"),
        ('{"x": null}', "no x"),
        ('{"x": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 200_000, "not JSON"),
    ],
)
def test_a_bad_jsonl_row_is_named_or_skipped_and_counted(folder, line, reason):
    text = f'{{"x": 1}}\n\n{line}\n{{"x": 2}}\n'
    with pytest.raises(BadRow) as caught:
        list(folder(a__jsonl=text).jsonl("a.jsonl", ("x",)))
    assert caught.value.where.endswith("a.jsonl:3")
    assert caught.value.what.startswith(reason)
    lenient = folder(skip_bad_rows=True, a__jsonl=text)
    assert list(lenient.jsonl("a.jsonl", ("x",))) == [(1, {"x": 1}), (4, {"x": 2})]
    assert [bad.partition(": ")[0] for bad in lenient.bad_rows] == ["a.jsonl:3"]


class Row(msgspec.Struct):
    id: str | int
    text: str


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": 2, "text": 3}', "Expected `str`"),
        ('{"id": [], "text": "b"}', "Expected `int | str`"),
        ('{"id": 2}', "no text"),
        ('{"id": 2, "text": "b", "\\ud800": 1}', "surrogates not allowed"),
    ],
)
def test_rows_are_read_as_structures_and_bad_ones_named(folder, line, reason):
    text = f'{{"id": 1, "text": "a"}}\n{line}\n{{"id": "z", "text": "c", "more": 0}}\n'
    required = ("id", "text")
    with pytest.raises(BadRow, match=re.escape(reason)) as caught:
        list(folder(a__jsonl=text).structs("a.jsonl", Row, required))
    assert caught.value.where.endswith("a.jsonl:2")
    lenient = folder(skip_bad_rows=True, a__jsonl=text)
    assert list(lenient.structs("a.jsonl", Row, required)) == [(1, Row(1, "a")), (3, Row("z", "c"))]
    assert len(lenient.bad_rows) == 1


def test_lone_surrogate_escapes_can_still_be_journalled(folder):
    data = folder(a__jsonl='{"x": "\\ud800"}\n{"x": "\\ud83d\\ude00"}\n')
    rows = [row for _, row in data.jsonl("a.jsonl", ("x",))]
    assert rows == [{"x": "\ud800"}, {"x": "😀"}]
    assert [json.loads(lines.encode(row)) for row in rows] == rows


def test_not_utf8_names_the_row_even_where_rows_may_be_skipped(folder):
    raw = "x\n好\n".encode() + "坏".encode("gb18030") + b"\n"
    with pytest.raises(BadRow, match=r"not valid UTF-8 .*a\.csv:3"):
        list(folder(skip_bad_rows=True, a__csv=raw).csv("a.csv", ("x",)))


def test_checksums_are_of_the_bytes_of_the_files_read(folder):
    raw = "\ufeffx\r\n1\r\n".encode()
    data = folder(a__csv=raw, b__csv="x\n2\n", c__csv="x\n")
    for name in ("b.csv", "a.csv"):
        list(data.csv(name, ("x",)))
    digests = {"a.csv": hashlib.sha256(raw).hexdigest()}
    digests["b.csv"] = hashlib.sha256(b"x\n2\n").hexdigest()
    assert data.sha256 == digests
    listing = "".join(f"{digests[name]}  {name}\n" for name in ("a.csv", "b.csv"))
    assert data.checksum() == hashlib.sha256(listing.encode()).hexdigest()
