"""The leaderboard page in a real browser: hostile output, sorting, samples, themes."""

from __future__ import annotations

import re
from html import escape

import chromium
import pytest
from chromium import needs_chromium
from runs_factory import make_record, make_run

from evalsuite.leaderboard import Definition, Entry, build_leaderboard
from evalsuite.report.visible import visible

pytestmark = [pytest.mark.browser, needs_chromium]
TITLE = "Quiz board"
ATTACK = (
    "<script>document.title='pwned'</script></script><img src=x onerror=\"document.title='pwned'\">"
    "<svg onload=\"document.title='pwned'\"> \x1b]0;pwned\x07\x1b[31m \u202etxt.exe {{7*7}} &amp;"
)


@pytest.fixture
def page(tmp_path):
    """Three models, one of them hostile, with errors and truncated answers."""
    scores = {"alpha": [1.0, 0.0, 1.0, 1.0], "beta": [0.0, 0.0, 1.0, None], ATTACK: [1.0] * 4}
    runs = [
        make_run(
            name,
            [
                make_record(f"q{i}", score, text=ATTACK, prompt=ATTACK, truncated=i == 2)
                if score is not None
                else make_record(f"q{i}", None, message=ATTACK)
                for i, score in enumerate(marks)
            ],
            run_id=f"run-{number}",
        )
        for number, (name, marks) in enumerate(scores.items())
    ]
    runs.append(make_run("absent", [make_record("z", task="other")]))
    definition = Definition(title=TITLE, tasks=(Entry("quiz"),), baseline="alpha")
    return build_leaderboard(definition, runs, tmp_path / "site")


def dom(page, tmp_path, fragment=""):
    return chromium.dom(page.as_uri() + fragment, tmp_path / "profile")


def driven(page, tmp_path, script, fragment=""):
    """Like ``dom``, after a script of our own, which the page's policy would forbid."""
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text(encoding="utf-8"))
    copy = page.with_name("driven.html")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return dom(copy, tmp_path, fragment)


def title_of(text):
    return re.search(r"<title>(.*?)</title>", text, re.S)[1]


def models_in_order(text):
    table = text[text.index('id="results"') :]
    return re.findall(r'class="name">(.*?)</span>', table[: table.index("</table>")], re.S)


def current_sample(text):
    return re.search(r'aria-current="true"[^>]*>(.*?)<', text)[1]


def test_hostile_output_is_shown_and_not_run(page, tmp_path):
    text = dom(page, tmp_path, "#task=quiz&show=all&sample=q1")
    assert title_of(text) == TITLE
    assert "<img" not in text
    assert text.count("<script") == 2
    shown = escape(visible(ATTACK), quote=False)
    assert f'<div class="text" dir="auto">{shown}</div>' in text
    assert shown in models_in_order(text)
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_policy_forbids_any_other_script(page, tmp_path):
    injected = page.with_name("injected.html")
    text = page.read_text(encoding="utf-8")
    attack = "<script>document.title='pwned'</script><b onclick=\"x\" id=t></b>"
    injected.write_text(text.replace("</body>", f"{attack}</body>"), encoding="utf-8")
    assert title_of(dom(injected, tmp_path)) == TITLE


@pytest.mark.parametrize(
    ("fragment", "order"),
    [
        ("", ["hostile", "alpha", "beta", "absent"]),
        ("#sort=quiz:ascending", ["beta", "alpha", "hostile", "absent"]),
        ("#sort=model:descending", ["beta", "alpha", "absent", "hostile"]),
        ("#sort=nonsense:ascending", ["hostile", "alpha", "beta", "absent"]),
    ],
)
def test_the_hash_sorts_the_table(page, tmp_path, fragment, order):
    """Missing scores stay at the end either way."""
    text = dom(page, tmp_path, fragment)
    hostile = escape(visible(ATTACK), quote=False)
    assert [n if n != hostile else "hostile" for n in models_in_order(text)] == order
    directions = re.findall(r'<th scope="col" aria-sort="(.*?)"', text)
    assert directions.count("none") == len(directions) - 1


def test_headings_sort_and_turn_around(page, tmp_path):
    press = "document.querySelector('th[data-key=quiz] button').click();"
    once = driven(page, tmp_path, press, "#sort=model:ascending")
    assert 'aria-sort="descending" data-key="quiz"' in once
    assert models_in_order(once)[1:] == ["alpha", "beta", "absent"]
    twice = driven(page, tmp_path, press * 2, "#sort=model:ascending")
    assert 'aria-sort="ascending" data-key="quiz"' in twice
    assert models_in_order(twice)[0] == "beta"


def test_the_hash_chooses_samples(page, tmp_path):
    text = dom(page, tmp_path, "#task=quiz&show=errors&theme=dark")
    assert current_sample(text) == "q3"
    assert "engine_failed: " in text
    assert 'data-theme="dark"' in text
    assert "1 of 1 shown" in text
    assert current_sample(dom(page, tmp_path, "#show=truncated")) == "q2"


def test_arrow_keys_and_flags_walk_the_samples(page, tmp_path):
    right = (
        "document.body.dispatchEvent(new KeyboardEvent('keydown',{key:'ArrowRight',bubbles:true}));"
    )
    first = driven(page, tmp_path, "", "#show=all")
    second = driven(page, tmp_path, right, "#show=all")
    assert current_sample(first) != current_sample(second)
    state = "document.getElementById('theme').textContent = location.hash;"
    flag = "document.querySelector('a.flag.bad').click();"
    text = driven(page, tmp_path, flag + state, "#sort=model:ascending")
    assert current_sample(text) == "q3"
    assert "#sort=model%3Aascending&amp;task=quiz&amp;show=errors" in text
