"""Every error has a code of its own, an exit code, and a place in the documentation."""

from __future__ import annotations

from pathlib import Path

from evalsuite import errors

DOCUMENTED = (Path(__file__).parent.parent / "docs" / "errors.md").read_text(encoding="utf-8")


def every_error(base=errors.EvalsuiteError):
    for kind in base.__subclasses__():
        yield kind
        yield from every_error(kind)


def test_codes_are_distinct_and_documented():
    kinds = list(every_error())
    codes = [kind.code for kind in kinds]
    assert len(codes) == len(set(codes))
    for kind in kinds:
        assert f"### {kind.code} — " in DOCUMENTED, kind
        assert f"├── {kind.__name__}" in errors.__doc__ or f"└── {kind.__name__}" in errors.__doc__


def test_sample_codes_are_documented():
    for code in errors.SAMPLE_CODES:
        assert f"### {code}\n" in DOCUMENTED


def test_one_line_says_what_where_and_what_next():
    fault = errors.DataMissing("no such file", where="a\nb.csv", hint="look again")
    assert fault.one_line() == "E111 no such file (a b.csv); look again"


def test_the_nearest_name_is_offered_and_nonsense_is_not():
    known = ["cmmlu", "ceval", "gsm8k"]
    assert "did you mean 'cmmlu'?" in errors.UnknownName("task", "CMLU", known).one_line()
    assert "did you mean" not in errors.UnknownName("task", "zzzzzz", known).one_line()
