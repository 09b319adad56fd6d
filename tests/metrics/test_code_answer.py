"""Finding the code in an answer."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.metrics.code_answer import code_in, fenced, last_function, preamble

DOUBLE = "def double(x):\n    return 2 * x\n"


@pytest.mark.parametrize(
    "answer",
    [
        DOUBLE,
        f"```python\n{DOUBLE}```",
        f"```Python3 title=a.py\n{DOUBLE}```",
        f"~~~py\n{DOUBLE}~~~",
        f"```\n{DOUBLE}```",
        f"```python\n{DOUBLE}",
        f"Here it is:\n\n```python\n{DOUBLE}```\nIt doubles.",
        f"Here it is.\n{DOUBLE}\nIt doubles x, as you asked.",
        f"好的，函数如下：\n{DOUBLE}\n它返回两倍。",
        f"<think>\n```python\ndef double(x): return x\n```\n</think>\n```python\n{DOUBLE}```",
        f"```bash\npip install double\n```\n```python\n{DOUBLE}```",
        f"```python\ndef double(x):\n    return x\n```\nNo, this:\n```python\n{DOUBLE}```",
        f"```python\n{DOUBLE}```\nUse it:\n```python\nprint(double(2))\n```",
        "1. The function:\n\n   ```python\n   def double(x):\n       return 2 * x\n   ```",
        f"```python\ndef double(x:\n```\nSorry:\n```python\n{DOUBLE}```",
        "double = lambda x: 2 * x",
        "from operator import add\n\n@staticmethod\ndef double(x):\n    return add(x, x)\nThat is all!",
    ],
)
def test_the_function_is_found_in_whatever_stands_around_it(answer: str) -> None:
    space: dict = {}
    code = code_in(answer, "double")
    assert code is not None
    exec(compile(code, "answer", "exec"), space)
    assert space["double"](21) == 42


def test_what_an_earlier_block_defines_comes_along_unless_it_is_defined_again() -> None:
    answer = (
        "```python\nimport math\n@property\ndef helper(x):\n    return x\nprint('never')\n```\n"
        "```python\ndef helper(x):\n    return x + x\n\ndef double(x):\n    return helper(x)\n```"
    )
    code = code_in(answer, "double")
    assert code is not None
    assert code.startswith("import math\n")
    assert code.count("def helper") == 1
    assert "never" not in code


@pytest.mark.parametrize(
    "answer",
    ["", "   ", "I cannot.", "```python\n```", "```python\ndef other(x): return x\n```",
     "def double(x:\n  return", "double it", "```rust\nfn double(x: i32) {}\n```"],
)  # fmt: skip
def test_no_function_of_that_name_is_no_answer(answer: str) -> None:
    assert code_in(answer, "double") is None


@given(st.text(alphabet="`~def x(:)\n return python\t\ud800\0é中", max_size=300))
def test_whatever_is_found_is_python_that_defines_it(answer: str) -> None:
    code = code_in(answer, "d")
    if code is not None:
        assert any(
            getattr(node, "name", None) == "d"
            or (
                isinstance(node, ast.Assign)
                and any(getattr(t, "id", "") == "d" for t in node.targets)
            )
            or isinstance(node, (ast.Import, ast.ImportFrom, ast.AnnAssign))
            for node in ast.parse(code).body
        )


def test_a_prompts_imports_and_helpers_come_along() -> None:
    prompt = "from typing import List\nimport math\n\ndef helper(x):\n    return x\n\ndef f(x: List):\n    ''' doc '''\n"
    code = "import math\n\ndef f(x: List):\n    return helper(x)\n"
    assert preamble(prompt, "f", code) == "from typing import List\ndef helper(x):\n    return x\n"


def test_the_last_function_and_fences() -> None:
    assert last_function("def a(): pass\ndef b():\n    ''' doc '''\n") == "b"
    assert last_function("x = 1") == last_function("def (") == ""
    assert fenced("```js\n1\n```\n```\n2\n```") == ["2\n"]
