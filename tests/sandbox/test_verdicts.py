"""What a verdict says, and how checks and solutions meet."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from evalsuite.sandbox import Limits, Program, open_sandbox

HUMAN_EVAL = {
    "preamble": dedent('''
        import math

        def poly(xs: list, x: float):
            """Evaluates a polynomial."""
            return sum([coeff * math.pow(x, i) for i, coeff in enumerate(xs)])

        def find_zero(xs: list):
            """The x at which it is 0."""
    '''),
    "checks": dedent("""
        METADATA = {'author': 'jt'}

        def check(candidate):
            import copy
            for coeffs in ([1, 2], [-6, 11, -6, 1]):
                solution = candidate(copy.deepcopy(coeffs))
                assert math.fabs(poly(coeffs, solution)) < 1e-4

        check(find_zero)
    """),
    "entry": "find_zero",
}
BISECTION = HUMAN_EVAL["preamble"] + dedent("""
    #
        begin, end = -1.0, 1.0
        while poly(xs, begin) * poly(xs, end) > 0:
            begin *= 2.0
            end *= 2.0
        while end - begin > 1e-10:
            center = (begin + end) / 2.0
            if poly(xs, center) * poly(xs, begin) > 0:
                begin = center
            else:
                end = center
        return begin
""")
MBPP = dedent("""
    class Pair(object):
        def __init__(self, a, b):
            self.a = a
            self.b = b

    def max_chain_length(arr, n):
        best = 0
        mcl = [1 for i in range(n)]
        for i in range(1, n):
            for j in range(0, i):
                if arr[i].a > arr[j].b and mcl[i] < mcl[j] + 1:
                    mcl[i] = mcl[j] + 1
        return max(mcl)
""")
MBPP_CHECKS = (
    "assert max_chain_length([Pair(5, 24), Pair(15, 25), Pair(27, 40), Pair(50, 60)], 4) == 3"
)


def judged(sandbox, solution, checks="", **rest):
    ((_, verdict),) = sandbox.run(
        [Program(solution=dedent(solution), checks=dedent(checks), **rest)]
    )
    return verdict


def test_the_form_of_human_eval(sandbox):
    assert judged(sandbox, BISECTION, **HUMAN_EVAL).passed
    wrong = judged(sandbox, BISECTION.replace("return begin", "return end + 1"), **HUMAN_EVAL)
    assert wrong.outcome == "failed"
    assert wrong.where == "checks line 8: assert math.fabs(poly(coeffs, solution)) < 1e-4"
    cheat = "\ndef poly(xs, x): return 0.0\ndef find_zero(xs): return 0.0\n"
    assert judged(sandbox, BISECTION + cheat, **HUMAN_EVAL).outcome == "failed", "helpers are ours"
    assert judged(sandbox, "def other(): pass", **HUMAN_EVAL).detail.startswith("NameError")


def test_the_form_of_mbpp(sandbox):
    assert judged(sandbox, MBPP, MBPP_CHECKS).passed
    assert not judged(sandbox, MBPP, MBPP_CHECKS.replace("== 3", "== 4")).passed


def test_objects_of_the_solution_can_be_used_and_not_compared(sandbox):
    solution = """
        class Stack:
            def __init__(self): self.items = []
            def push(self, item, twice=False):
                self.items += [item, item] if twice else [item]
                return self
            def __len__(self): return len(self.items)
            def __getitem__(self, n): return self.items[n]
            def __str__(self): return f"Stack{self.items}"
        def squares(n):
            for i in range(n): yield i * i
    """
    used = """
        s = Stack().push(3).push(4, twice=True)
        assert len(s) == 3 and s[0] == 3 and s.items == [3, 4, 4] and list(s) == [3, 4, 4]
        assert str(s) == "Stack[3, 4, 4]" and s
        assert list(squares(4)) == [0, 1, 4, 9] and sum(squares(3)) == 5 and 4 in squares(9)
        try:
            s[9]
        except IndexError as fault:
            assert "range" in str(fault)
        else:
            raise AssertionError
    """
    assert judged(sandbox, solution, used).passed
    assert "NotComparable" in judged(sandbox, solution, "assert Stack() == Stack()").detail
    unable = judged(sandbox, "def f(g): return g(1)", "assert f(lambda x: x) == 1")
    assert unable.outcome == "failed"
    assert "cannot be given to the solution" in unable.detail


def test_where_it_failed_is_said(sandbox):
    checks = "def check(f):\n    assert f(1) == 1\n    assert f(2) == 4, 'two'\ncheck(f)"
    verdict = judged(sandbox, "def f(x): return 1", checks)
    assert verdict.detail == "AssertionError: two"
    assert verdict.where == "checks line 3: assert f(2) == 4, 'two'"
    verdict = judged(sandbox, "import math\n\ndef f(x):\n    return math.sqrt(-x)\n", checks)
    assert (verdict.detail, verdict.where) == ("ValueError: math domain error", "solution line 4")
    verdict = judged(sandbox, "x = 1\nraise LookupError\n", checks)
    assert (verdict.detail, verdict.where) == ("LookupError", "solution line 2")
    verdict = judged(sandbox, "class Own(KeyError): pass\ndef f(x): raise Own(x)", checks)
    assert (verdict.detail, verdict.where) == ("Own: 1", "solution line 2")


@pytest.mark.parametrize(
    ("checks", "preamble"),
    [("assert f(2) ==", ""), ("assert f(2)", "def"), ("assert f(2)", "1 / 0"), ("exit()", "")],
)
def test_checks_that_are_themselves_wrong_are_no_answer_of_the_solution(sandbox, checks, preamble):
    verdict = judged(sandbox, "def f(x): return x", checks, preamble=preamble)
    assert verdict.outcome == "sandbox_error"
    assert verdict.where == "checks"


def test_checks_have_limits_as_well(bubblewrap):
    with open_sandbox(limits=Limits(wall_seconds=30.0, cpu_seconds=1), workers=1) as opened:
        endless = judged(opened, "def f(): return 1", "while True: pass")
        assert endless.outcome == "timed_out"
        assert endless.wall_seconds < 20


def test_results_that_the_checks_cannot_hold(sandbox):
    verdict = judged(sandbox, "def f(): return 'x' * 1_000_000", "kept = f() * 1_000_000")
    assert verdict.outcome == "out_of_memory"


def test_output_is_kept_up_to_the_limit(sandbox):
    verdict = judged(sandbox, "import sys\nprint('a' * 10**7)\nprint('é', file=sys.stderr)")
    assert verdict.passed
    assert verdict.stdout == "a" * sandbox.limits.output_bytes
    assert verdict.stderr == "é\n"
    verdict = judged(sandbox, r"import os; os.write(1, b'\xff\0x')")
    assert verdict.stdout == "\\xff\0x"


def test_time_and_memory_are_measured(sandbox):
    busy = judged(
        sandbox,
        """
        import time
        kept = bytes(range(256)) * (400 << 10)
        end = time.process_time() + 0.5
        while time.process_time() < end: pass
        """,
    )
    assert busy.passed
    assert 0.5 <= busy.cpu_seconds < 1.5
    assert busy.wall_seconds >= 0.5
    assert 100 << 20 <= busy.peak_bytes < 200 << 20
    idle = judged(sandbox, "import time\ntime.sleep(0.5)")
    assert idle.cpu_seconds < 0.3
    assert idle.wall_seconds >= 0.5
    assert idle.peak_bytes < 60 << 20
    child = "import subprocess, sys\nsubprocess.run(['sh', '-c', 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'])"
    assert judged(sandbox, child).cpu_seconds > 0.1, "children count"


def test_the_processor_limit_is_told_apart(bubblewrap):
    with open_sandbox(limits=Limits(wall_seconds=30.0, cpu_seconds=1), workers=1) as opened:
        verdict = judged(opened, "while True: pass")
    assert verdict.outcome == "timed_out"
    assert verdict.detail == "the processor time's limit"
    assert verdict.cpu_seconds < 2


def test_the_example_of_the_documentation(bubblewrap, capsys):
    page = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
    exec(page.partition("```python\n")[2].partition("```")[0], {})
    lines = sorted(capsys.readouterr().out.splitlines())
    assert lines == ["0 passed  ", "1 failed SystemExit: 0 solution line 2"]
