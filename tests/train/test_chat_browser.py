"""The chat page in a real browser: a question typed and sent, its answer streamed and shown as text."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from html import escape

import chromium
import pytest
from chat_server import Slow, running
from chromium import needs_chromium
from evalsuite_train.chat.answer import Piece
from evalsuite_train.chat.service import PAGE
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

pytestmark = [pytest.mark.browser, needs_chromium]
ATTACK = (
    "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
    '</div></main><svg onload="document.title=\'pwned\'">&amp;\n\ndata: {"text": 1}\n\nevent: done'
)


class Scripted(Slow):
    """Says a fixed text in pieces and remembers what it was asked, with its history."""

    def __init__(self, text, finish="stop", seconds=0.03):
        super().__init__(seconds=seconds)
        self.text, self.finish, self.asked = text, finish, []

    def reply(self, history, question):
        self.asked.append((question, [tuple(turn) for turn in history]))

        def work(cancelled):
            parts = [self.text[i : i + 7] for i in range(0, len(self.text), 7)]
            for number, part in enumerate(parts, 1):
                if cancelled.is_set():
                    self.ended.append(question)
                    return
                time.sleep(self.seconds)
                self.spoken += 1
                yield Piece(part, number, self.finish if number == len(parts) else "")

        return work


DRIVER = """
const seen = new Set();
new MutationObserver(() => {
  const last = [...document.querySelectorAll(".answer")].pop();
  if (last) seen.add(last.textContent);
}).observe(document.getElementById("log"), { childList: true, subtree: true, characterData: true });
const settled = () => new Promise((resolve) => {
  const look = () => document.getElementById("send").disabled ? setTimeout(look, 20) : resolve();
  setTimeout(look, 20);
});
async function type(text) {
  const field = document.getElementById("question");
  field.focus();
  document.execCommand("insertText", false, text);
  field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
}
(async () => {
  %s
  await fetch("/driver/done", { method: "POST", body: JSON.stringify({
    title: document.title, seen: [...seen], html: document.documentElement.outerHTML,
    answers: [...document.querySelectorAll(".answer")].map((e) => e.textContent),
    notes: [...document.querySelectorAll(".note")].map((e) => e.textContent),
    scripts: document.scripts.length, images: document.images.length,
    focus: document.activeElement.id,
  }) });
})();
"""


def browse(speaker, script, tmp_path, **settings):
    """Let the page be driven by a script from the service itself, which its policy allows."""
    arrived, told = threading.Event(), {}

    async def page(request):
        text = (PAGE / "page.html").read_text(encoding="utf-8")
        return HTMLResponse(
            text.replace("</body>", "<script src='/driver.js' defer></script></body>")
        )

    async def driver(request):
        return Response(DRIVER % script, media_type="text/javascript")

    async def done(request):
        told.update(json.loads(await request.body()))
        arrived.set()
        return Response()

    routes = [
        Route("/driven", page),
        Route("/driver.js", driver),
        Route("/driver/done", done, methods=["POST"]),
    ]
    with running(speaker, routes, **settings) as port:
        address = f"http://127.0.0.1:{port}/driven"
        child = subprocess.Popen(
            chromium.command(tmp_path / "profile", "--remote-debugging-port=0", address),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert arrived.wait(90), "the page did not finish"
        finally:
            child.kill()
            child.wait()
    return told


def test_row_service_web_chat_streams_a_hostile_answer_as_text(tmp_path):
    speaker = Scripted(ATTACK)
    told = browse(speaker, 'await type("你好 <b>?"); await settled();', tmp_path)
    assert speaker.asked == [("你好 <b>?", [])]
    assert told["answers"] == [ATTACK]
    assert told["title"] == "Chat: slow"
    assert told["images"] == 0
    assert told["scripts"] == 2  # the page's own and this test's
    assert escape("你好 <b>?") in told["html"]
    assert re.search(r'<div class="turn answer" dir="auto">&lt;script&gt;', told["html"])
    # It was seen growing, piece by piece.
    grown = sorted(filter(None, told["seen"]), key=len)
    assert len(grown) > 3
    assert all(ATTACK.startswith(part) for part in grown)
    assert told["focus"] == "question"


def test_the_page_sends_what_was_said_before(tmp_path):
    speaker = Scripted("早上好。", finish="length")
    script = 'await type("一"); await settled(); await type("二"); await settled();'
    told = browse(speaker, script, tmp_path)
    assert speaker.asked == [("一", []), ("二", [("一", "早上好。")])]
    assert told["notes"] == ["cut off at the limit · 达到长度上限，已截断"] * 2


def test_stop_ends_the_computation(tmp_path):
    speaker = Scripted("a" * 7000, seconds=0.01)
    script = """
      await type("go");
      while (!document.querySelector(".answer")?.textContent) await new Promise((r) => setTimeout(r, 20));
      document.getElementById("stop").click();
      await settled();
      await new Promise((r) => setTimeout(r, 500));
    """
    told = browse(speaker, script, tmp_path)
    assert told["notes"] == ["stopped · 已停止"]
    assert speaker.ended == ["go"]
    assert 0 < speaker.spoken < 900


def test_a_fault_is_shown(tmp_path):
    told = browse(Slow(fails=True), 'await type("x"); await settled();', tmp_path)
    assert told["notes"] == ["the model failed"]
    assert told["answers"] == [""]
