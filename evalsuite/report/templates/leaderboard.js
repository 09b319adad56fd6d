"use strict";
// State lives in the URL's hash: sort=KEY:DIRECTION, theme, task, show, sample.
// Everything from the data is inserted with textContent.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = data.words;
  const KINDS = ["all", "differ", "errors", "truncated"];

  const state = () => new URLSearchParams(location.hash.slice(1));
  function change(entries) {
    const next = state();
    for (const [key, value] of Object.entries(entries)) {
      if (value === null) next.delete(key);
      else next.set(key, value);
    }
    history.replaceState(null, "", "#" + next);
    show();
  }
  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function button(name, text, act) {
    const made = element("button", name, text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  }

  // Theme ----------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.getElementById("theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
    change({ theme: now === "dark" ? "light" : "dark" });
  });
  function showTheme(wanted) {
    if (wanted === "dark" || wanted === "light") document.documentElement.dataset.theme = wanted;
    else delete document.documentElement.dataset.theme;
  }

  // Sorting --------------------------------------------------------------------------------
  const table = document.getElementById("results");
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head) => {
    head.querySelector("button").addEventListener("click", () => {
      const turned = { ascending: "descending", descending: "ascending" };
      const direction = turned[head.getAttribute("aria-sort")] || head.dataset.first;
      change({ sort: head.dataset.key + ":" + direction });
    });
  });
  function showSort(wanted) {
    const at = (wanted || "").lastIndexOf(":");
    const find = (key) => heads.findIndex((head) => head.dataset.key === key);
    let column = at < 0 ? -1 : find(wanted.slice(0, at));
    const known = column >= 0 && /:(a|de)scending$/.test(wanted);
    if (column < 0) column = Math.max(0, find(table.dataset.sort));
    const direction = known ? wanted.slice(at + 1) : heads[column].dataset.first;
    const sign = direction === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const x = value(a);
      const y = value(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      if (column === 0) return sign * x.localeCompare(y);
      return sign * (Number(x) - Number(y));
    });
    table.tBodies[0].append(...rows);
    heads.forEach((head, index) => {
      head.setAttribute("aria-sort", index === column ? direction : "none");
    });
    for (const row of rows) {
      [...row.cells].forEach((cell, index) => {
        cell.classList.toggle("sorted", index === column && index > 0);
      });
    }
  }

  // Samples --------------------------------------------------------------------------------
  const viewer = document.getElementById("viewer");
  let position = { list: [], at: 0 };

  function showSamples(wanted) {
    const column = data.columns.find((c) => c.key === wanted.get("task")) || data.columns[0];
    if (!column) {
      viewer.replaceChildren(element("p", "note", words.no_samples));
      return;
    }
    const of = (kind) =>
      column.set.samples.filter((s) => kind === "all" || s.kinds.includes(kind));
    const asked = wanted.get("show");
    const kind = KINDS.includes(asked) ? asked : of("differ").length ? "differ" : "all";
    const list = of(kind);
    const at = Math.max(0, list.findIndex((s) => s.id === wanted.get("sample")));
    position = { list, at };
    const kept = viewer.querySelector(".ids");
    const scrolled = kept ? kept.scrollTop : 0;
    const body = element("div", "browser");
    if (list.length) body.append(ids(list, at), detail(list[at]));
    viewer.replaceChildren(controls(column, kind, of, list, at), body);
    if (!list.length) body.replaceWith(element("p", "note", words.no_samples));
    keepInView(scrolled);
  }
  function controls(column, kind, of, list, at) {
    const bar = element("div", "controls");
    const select = element("select");
    select.setAttribute("aria-label", words.task);
    for (const other of data.columns) {
      const option = element("option", "", other.title);
      option.value = other.key;
      option.selected = other === column;
      select.append(option);
    }
    select.addEventListener("change", () => {
      change({ task: select.value, show: null, sample: null });
    });
    const choices = element("div", "choices");
    choices.setAttribute("role", "group");
    choices.setAttribute("aria-label", words.show);
    for (const other of KINDS) {
      const count = column.set.counts[other];
      const choice = button("choice", words["kind_" + other], () => {
        change({ task: column.key, show: other, sample: null });
      });
      choice.append(element("span", "sub", count.toLocaleString("en")));
      choice.setAttribute("aria-pressed", String(other === kind));
      choice.disabled = of(other).length === 0 && other !== kind;
      choices.append(choice);
    }
    const shown = words.shown_of
      .replace("{shown}", list.length.toLocaleString("en"))
      .replace("{total}", column.set.counts[kind].toLocaleString("en"));
    const pager = element("div", "pager");
    const back = button("quiet", "← " + words.previous, () => go(-1));
    const next = button("quiet", words.next + " →", () => go(1));
    back.disabled = at === 0;
    next.disabled = at >= list.length - 1;
    pager.append(element("span", "sub", shown), back, next);
    bar.append(select, choices, pager);
    return bar;
  }
  function ids(list, at) {
    const made = element("ol", "ids");
    list.forEach((sample, index) => {
      const item = element("li");
      const open = button("", sample.id, () => change({ sample: sample.id }));
      open.title = sample.id;
      open.setAttribute("aria-current", String(index === at));
      item.append(open);
      made.append(item);
    });
    return made;
  }
  function keepInView(scrolled) {
    const box = viewer.querySelector(".ids");
    const current = viewer.querySelector('.ids [aria-current="true"]');
    if (!box || !current) return;
    box.scrollTop = scrolled;
    const top = current.offsetTop - box.offsetTop;
    if (top < box.scrollTop) box.scrollTop = top - 4;
    const end = top + current.offsetHeight - box.clientHeight;
    if (end > box.scrollTop) box.scrollTop = end + 4;
  }
  function detail(sample) {
    const made = element("div", "detail");
    const question = element("div", "question");
    const head = element("h3", "", sample.id);
    for (const [tag, value] of Object.entries(sample.tags)) {
      head.append(" ", element("span", "tag", tag + ": " + value));
    }
    question.append(head, field(words.question, sample.prompt), field(words.target, sample.target));
    const outputs = element("div", "outputs");
    const by = new Map(sample.outputs.map((output) => [output.row, output]));
    const silent = [];
    data.rows.forEach((name, row) => {
      if (by.has(row)) outputs.append(card(name, by.get(row)));
      else silent.push(name);
    });
    made.append(question, outputs);
    if (silent.length) {
      const names = silent.join(words.comma);
      made.append(element("p", "sub", words.not_answered + " · " + names));
    }
    return made;
  }
  function field(label, text) {
    const made = element("div", "field");
    const body = element("div", "text", text);
    body.dir = "auto";
    made.append(element("span", "sub", label), body);
    return made;
  }
  function card(name, output) {
    const made = element("article", "output " + output.state);
    const head = element("header");
    head.append(element("h3", "", name));
    made.append(head);
    const marks = element("span");
    if (output.truncated) marks.append(element("span", "tag", words.truncated), " ");
    if (output.score) marks.append(element("span", "mark", words.score + " " + output.score));
    if (output.state === "error") marks.append(element("span", "mark", words.error));
    head.append(marks);
    if (output.state !== "error") {
      made.append(field(words.extracted, output.answer === null ? words.nothing_extracted : output.answer));
    }
    if (output.note) made.append(field(words.details, output.note));
    if (output.text) made.append(field(words.output, output.text));
    return made;
  }
  function go(step) {
    const next = position.list[position.at + step];
    if (next) change({ sample: next.id });
  }
  document.addEventListener("keydown", (event) => {
    const busy = event.target.closest && event.target.closest("select, input, .scroll, .text");
    if (busy || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") go(-1);
    if (event.key === "ArrowRight") go(1);
  });

  function show() {
    const wanted = state();
    showTheme(wanted.get("theme"));
    showSort(wanted.get("sort"));
    showSamples(wanted);
  }
  addEventListener("hashchange", () => {
    show();
    if (state().has("show")) document.getElementById("samples").scrollIntoView();
  });
  // A flag in the table replaces task and show and keeps the rest of the state.
  for (const link of document.querySelectorAll("a.flag")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const wanted = new URLSearchParams(link.hash.slice(1));
      change({ task: wanted.get("task"), show: wanted.get("show"), sample: null });
      document.getElementById("samples").scrollIntoView();
    });
  }
  show();
})();
