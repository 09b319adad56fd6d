"""Every format of training data, well-formed and hostile: what is read, what is named, what is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from evalsuite_train.data.formats import detect
from evalsuite_train.data.json_array import CHUNK, elements
from evalsuite_train.data.lines import LONGEST_ROW
from evalsuite_train.data.reader import Reader
from evalsuite_train.errors import BadData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TURNS = [{"from": "human", "value": "你好"}, {"from": "assistant", "value": "你好！"}]
FILES = {
    "a.csv": ("text\n你好世界\n\"two\nlines, one row\"\n", "csv-text", ["你好世界", "two\nlines, one row"]),
    "b.csv": ("input,target\n2+3=?,5\n", "csv-pair", ["2+3=?\n5"]),
    "c.jsonl": ('{"instruction":"Add","input":"2,3","output":"5"}\n', "instruction", ["Add\n2,3\n5"]),
    "d.json": ('[\n {"instruction":"Add","output":"5"},\n {"instruction":"加","input":"","output":"五"}\n]', "instruction", ["Add\n5", "加\n五"]),
    "e.jsonl": (json.dumps({"system": "S", "conversations": TURNS}) + "\n", "conversation", ["你好\n你好！"]),
    "f.json": (json.dumps([{"system": "", "conversations": TURNS}]), "conversation", ["你好\n你好！"]),
    "g.txt": ("一行一篇\n\n第二篇\n", "lines", ["一行一篇", "第二篇"]),
    "h.jsonl": ('{"text":"t"}\n', "json-text", ["t"]),
    "i.tsv": ("input\ttarget\na, b\tc\n", "csv-pair", ["a, b\nc"]),
}  # fmt: skip


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_each_format_is_found_by_its_content_and_read(tmp_path, name, packed, mark):
    content, kind, texts = FILES[name]
    raw = mark + content.encode()
    path = put(tmp_path, name + ".gz" * packed, gzip.compress(raw) if packed else raw)
    reader = Reader(path)
    assert reader.kind == kind
    assert [record.content for record in reader] == texts
    assert reader.rows == len(texts)
    assert not reader.bad


def test_each_element_of_an_array_in_one_line_has_a_name_of_its_own(tmp_path):
    """The mixture draws by these names, and an error has to say which row it means."""
    rows = ['{"text": "a"}', '{"text": 3}', '{"text": "b"}', '{"text": "c"}']
    reader = Reader(put(tmp_path, "d.json", f"[{', '.join(rows)}]"), bad_share=0.5)
    assert [record.where for record in reader] == ["d.json:1#1", "d.json:1#3", "d.json:1#4"]
    assert reader.examples == {"'text' is no text": ["d.json:1#2"]}
    lined = Reader(put(tmp_path, "e.json", f"[\n{rows[0]},\n{rows[2]}]"))
    assert [record.where for record in lined] == ["e.json:2#1", "e.json:3#2"]


def test_content_decides_before_the_name(tmp_path):
    assert detect(put(tmp_path, "a.txt", '{"text": "x"}\n')) == "json-text"
    assert detect(put(tmp_path, "b.dat", "input,target\n1,2\n")) == "csv-pair"
    assert detect(put(tmp_path, "c.txt", "[图片] 一行文字\n{不是 JSON}\n")) == "lines"
    assert detect(put(tmp_path, "d.txt", "text\nanother line\n")) == "lines", (
        "a word is not a header"
    )


def test_bad_rows_are_named_by_line_and_counted(tmp_path):
    rows = [
        {"conversations": TURNS},
        {"conversations": [{"from": "humman", "value": "x"}, TURNS[1]]},
        {"conversations": TURNS[:1]},
        {"conversations": [TURNS[0], {"from": "gpt", "value": 5}]},
        {"conversations": [TURNS[0], {"from": "gpt"}]},
        {"conversations": []},
        {"system": 5, "conversations": TURNS},
        ["no object"],
    ]
    content = "\n".join(json.dumps(row) for row in rows) + "\n{broken\n"
    reader = Reader(put(tmp_path, "a.jsonl", content), bad_share=0.9)
    assert [record.where for record in reader] == ["a.jsonl:1"]
    assert reader.rows == 9
    assert reader.bad.total() == 8
    assert reader.examples["unknown speaker 'humman'; did you mean 'human'?"] == ["a.jsonl:2"]
    assert reader.examples["the turns are not human and assistant in alternation"] == ["a.jsonl:3"]
    assert reader.examples["'value' is no text"] == ["a.jsonl:4"]
    assert reader.examples["no 'value'"] == ["a.jsonl:5"]
    assert reader.examples["'system' is no text"] == ["a.jsonl:7"]
    assert reader.examples["a list where an object is expected"] == ["a.jsonl:8"]
    assert reader.examples["broken JSON"] == ["a.jsonl:9"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"a.txt: the file is empty"),
        ("a.jsonl", b"\xef\xbb\xbf", r"a.jsonl: the file is empty"),
        ("a.txt", b"\n \n\n", r"holds no rows"),
        ("a.csv", b"text\n", r"holds no rows"),
        ("a.csv", b"txt\nabc\n", r"a.csv:1: the columns are txt; [\s\S]*did you mean 'text'"),
        ("a.csv", b"inputs,target\na,b\n", r"did you mean 'input'"),
        ("a.jsonl", b'{"instruct":"a","output":"b"}\n', r"did you mean 'instruction'"),
        ("a.jsonl", b"no json\n", r"no JSON object among the first rows"),
        ("a.txt", "中文".encode("utf-16"), r"the file is UTF-16"),
        ("a.txt", b"PK\x03\x04aaaa", r"the file is zip"),
        ("a.txt", "全部都是中文\n再来一行\n".encode("gb18030"), r"2 of 2 rows are bad.*not utf-8[\s\S]*gb18030"),
        ("a.gz", gzip.compress(b"abc\n" * 9999, mtime=0)[:-20], r"the compressed file is damaged"),
        ("a.json", b'[{"text": "a"},\n{"text": "b"}', r"not closed; its last row starts in line 2"),
        ("a.json", b'[{"text": "a},\n{"text": "b"}\n]', r"broken JSON array"),
        ("a.json", b'[{"text": "a"}]\n{"text": "b"}', r"more stands behind the array"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, message):
    with pytest.raises(BadData, match=message):
        list(Reader(put(tmp_path, name, content)))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(BadData, match=r"cannot read: no such file"):
        Reader(tmp_path / "none.txt")
    with pytest.raises(BadData, match=r"cannot read: is a directory"):
        Reader(tmp_path)


def test_more_bad_rows_than_allowed_refuse_the_file_and_fewer_do_not(tmp_path):
    content = '{"text":"a"}\n' * 9 + "{broken\n"
    path = put(tmp_path, "a.jsonl", content)
    assert len(list(Reader(path, bad_share=0.1))) == 9
    with pytest.raises(
        BadData,
        match=r"1 of 10 rows are bad \(allowed: 5%\).*broken JSON \(1, first at a.jsonl:10\)",
    ):
        list(Reader(path, bad_share=0.05))


def test_another_encoding_is_read_when_named(tmp_path):
    path = put(tmp_path, "a.txt", "中文内容\n".encode("gb18030"))
    assert [r.text for r in Reader(path, encoding="gb18030")] == ["中文内容"]


def test_hostile_rows_stay_alone(tmp_path):
    """NUL bytes, 5 MB lines, bombs of brackets, huge fields: the rows around them are read."""
    good = b'{"text":"good"}\n'
    hostile = [
        b'{"text":"' + b"x" * (LONGEST_ROW + 1) + b'"}',
        b"[" * 200_000,
        b'{"text":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"text":"\xff\xfe"}',
        b'{"text":"\\ud800"}',
        b'{"text":1e999999}',
        b'{"text":null}',
        b"\x00\x00\x00",
        b"1" * 100_000,
    ]
    path = put(tmp_path, "a.jsonl", good + b"".join(row + b"\n" + good for row in hostile))
    reader = Reader(path, bad_share=0.6)
    assert [r.text for r in reader] == ["good"] * (len(hostile) + 1)
    assert reader.bad.total() == len(hostile)
    assert reader.examples["longer than 4 MiB"] == ["a.jsonl:2"]
    assert reader.examples["not utf-8"] == ["a.jsonl:8"]
    nul = put(tmp_path, "nul.jsonl", '{"text":"a\\u0000b"}\n')
    assert [r.text for r in Reader(nul)] == ["a\0b"], (
        "cleaning removes it; reading does not lose the row"
    )


def test_hostile_csv_rows_stay_alone(tmp_path):
    huge = b'"' + b"x" * 5_000_000 + b'"'
    rows = [
        b"text",
        b"good",
        huge,
        b"good",
        b"a,b",
        b"good",
        b'"open',
        b'"closed" by accident',
        b"good",
        b"\xff",
        b"good",
    ]
    reader = Reader(put(tmp_path, "a.csv", b"\n".join(rows) + b"\n"), bad_share=0.6)
    assert [r.text for r in reader] == ["good"] * 5
    assert reader.examples["longer than 4 MiB"] == ["a.csv:3"]
    assert reader.examples["2 columns where the header has 1"] == ["a.csv:5"]
    assert reader.examples["broken CSV: ',' expected after '\"'"] == ["a.csv:7", "a.csv:8"], (
        "each lost line counts"
    )
    assert reader.examples["not utf-8"] == ["a.csv:10"]
    large = put(tmp_path, "b.csv", b"text\n" + b'"' + b"y" * 300_000 + b'"\n')
    assert len(next(iter(Reader(large))).text) == 300_000, (
        "a long field below the limit is no fault"
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip), min_size=1, max_size=8), st.sampled_from(["csv", "jsonl", "json", "pretty"]))  # fmt: skip
def test_what_was_written_is_read(tmp_path, texts, form):
    """Any text survives CSV quoting and JSON escaping; the standard library writes, the readers read."""
    rows = [{"instruction": text, "input": "", "output": text} for text in texts]
    if form == "csv":
        stream = io.StringIO(newline="")
        csv.writer(stream).writerows([["input", "target"], *([t, t] for t in texts)])
        content = stream.getvalue()
    elif form == "jsonl":
        content = "".join(json.dumps(row, ensure_ascii=len(texts) % 2 == 0) + "\n" for row in rows)
    else:
        content = json.dumps(rows, ensure_ascii=False, indent=2 if form == "pretty" else None)
    name = "a.csv" if form == "csv" else "a.json"
    read = [r.conversations[1].value for r in Reader(put(tmp_path, name, content))]
    same = [t.replace("\r\n", "\n").replace("\r", "\n") for t in texts] if form == "csv" else texts
    assert (
        [t.replace("\r\n", "\n").replace("\r", "\n") for t in read] == same
        if form == "csv"
        else read == same
    )


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text() | st.booleans(), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3), max_leaves=12), st.integers(0, 4), st.integers(0, 3))  # fmt: skip
def test_an_array_is_cut_where_the_standard_library_cuts_it(value, indent, shift):
    """Elements of any shape, at any place relative to the borders of the chunks that are read."""
    values = [{"padding": ']},"\\' * (CHUNK // 6 + shift)}, value, [value], {"k": value}]
    raw = json.dumps(values, indent=indent or None, ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )
    found = [json.loads(part.decode("utf-8", "surrogatepass")) for _, part in elements(io.BytesIO(raw), 1 << 24) if part]  # fmt: skip
    assert found == json.loads(json.dumps(values))


def test_an_array_element_names_its_line_and_a_long_one_is_left_out():
    raw = b'[\n {"a": 1},\n\n {"b":\n 2}, {"c": "' + b"x" * 1000 + b'"},\n 3]'
    assert list(elements(io.BytesIO(raw), 100)) == [
        (2, b'{"a": 1}'),
        (4, b'{"b":\n 2}'),
        (5, None),
        (6, b"3"),
    ]
