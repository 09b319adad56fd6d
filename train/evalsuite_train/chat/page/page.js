"use strict";

// A reply is a stranger's text: it only ever becomes textContent.
const log = document.getElementById("log");
const form = document.getElementById("form");
const field = document.getElementById("question");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
let said = [];
let asking = null;

function show(kind, text) {
  const element = document.createElement("div");
  element.className = kind;
  element.dir = "auto";
  element.textContent = text;
  log.append(element);
  log.scrollTop = log.scrollHeight;
  return element;
}

// Server-sent events from a stream of bytes; an event ends at an empty line.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const name = /^event: (.*)$/m.exec(part);
      yield { name: name ? name[1] : "message", data: JSON.parse(/^data: (.*)$/m.exec(part)[1]) };
    }
  }
}

async function ask(question) {
  show("turn question", question);
  const reply = show("turn answer", "");
  reply.setAttribute("aria-busy", "true");
  asking = new AbortController();
  send.disabled = true;
  stop.disabled = false;
  try {
    const response = await fetch("/chat/stream", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ question, history: said }),
      signal: asking.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    let end = null;
    for await (const event of events(response.body)) {
      if (event.name === "error") throw new Error(event.data.error.message);
      if (event.name === "done") end = event.data;
      else {
        reply.textContent += event.data.text;
        log.scrollTop = log.scrollHeight;
      }
    }
    if (end === null) throw new Error("the connection broke · 连接中断");
    if (end.finish_reason === "length") show("note", "cut off at the limit · 达到长度上限，已截断");
    if (reply.textContent.trim()) said.push([question, reply.textContent]);
  } catch (fault) {
    if (fault.name === "AbortError") show("note", "stopped · 已停止");
    else show("note fault", fault.message);
  } finally {
    reply.removeAttribute("aria-busy");
    asking = null;
    send.disabled = false;
    stop.disabled = true;
    field.focus();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const question = field.value.trim();
  if (!question || asking) return;
  field.value = "";
  ask(question);
});

field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});

stop.addEventListener("click", () => asking && asking.abort());
document.getElementById("clear").addEventListener("click", () => {
  if (asking) asking.abort();
  said = [];
  log.replaceChildren();
});

fetch("/model").then((response) => response.json()).then((found) => {
  document.getElementById("model").textContent = found.model;
  document.title = `Chat: ${found.model}`;
}).catch(() => {});
