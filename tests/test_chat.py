"""Chat templates against the published formats and against transformers' own rendering."""

from __future__ import annotations

import json
import time
import warnings

import pytest

from evalsuite.chat import BUILTIN, ChatTemplate, render, render_all, resolve_template
from evalsuite.checkpoint import Card, Checkpoint
from evalsuite.errors import BadCheckpoint, UnknownName
from evalsuite.request import Prompt

YAYI_SYSTEM = (
    "A chat between a human and an AI assistant named YaYi.\n"
    "YaYi is a helpful and harmless language model developed by "
    "Beijing Wenge Technology Co.,Ltd."
)
PUBLISHED = {
    "ziya": "<human>:为什么？\n<bot>:",
    "llama2-chinese": "<s>Human: 为什么？\n</s><s>Assistant: ",
    "yayi": f"<|System|>:\n{YAYI_SYSTEM}\n\n<|Human|>:\n为什么？\n\n<|YaYi|>:",
    "chatllama": "User: 为什么？\nBot: ",
}
CHATML = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{% for message in messages if message.role != 'system' %}
{{ bos_token }}{{ '<|im_start|>' + message.role }}
{% generation %}{{ message.content | trim }}{% endgeneration %}<|im_end|>
{% endfor %}
{%- if tools is not none %}{{ tools | tojson }}{% endif %}
{{- {"é": [1, "<"]} | tojson }}{{ eos_token }}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}
"""


def folder(tmp_path, card=None):
    return Checkpoint(tmp_path, str(tmp_path), "x", "f", card or Card(), {})


def theirs(source, messages):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.utils.chat_template_utils import render_jinja_template
    texts, _ = render_jinja_template(
        conversations=[messages],
        chat_template=source,
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
    )
    return texts[0]


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_templates_are_the_published_texts(name):
    assert render(BUILTIN[name], Prompt("么？", prefix="为什"), "<s>", "</s>") == PUBLISHED[name]


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.parametrize("system", ["", "Be brief.\n简短"])
def test_built_in_templates_render_as_in_transformers(name, system):
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": "{{ 1 }} <b> 问\n"})
    ours = render(BUILTIN[name], Prompt("{{ 1 }} <b> 问\n", system=system), "<s>", "</s>")
    assert ours == theirs(BUILTIN[name].source, messages)
    assert system in ours


def test_a_strangers_template_renders_as_in_transformers():
    prompts = [Prompt(" a  <&>\n "), Prompt("問題🙂", system="系统"), Prompt("")]
    ours = render_all(ChatTemplate("checkpoint", CHATML), prompts, "<s>", "</s>")
    for text, prompt in zip(ours, prompts, strict=True):
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        assert text == theirs(CHATML, [*system, {"role": "user", "content": prompt.text}])


def test_many_prompts_render_as_one_by_one(monkeypatch):
    prompts = [Prompt(f"q{i}") for i in range(7)]
    template = ChatTemplate("checkpoint", BUILTIN["ziya"].source)
    monkeypatch.setattr("evalsuite.chat._PORTION", 5)
    expected = [f"<human>:q{i}\n<bot>:" for i in range(7)]
    assert render_all(template, prompts, "<s>", "</s>") == expected


def test_the_date_does_not_move():
    template = ChatTemplate("checkpoint", "{{ strftime_now('%Y-%m-%d') }}")
    assert render(template, Prompt("q"), "", "") == "2025-01-01"


@pytest.mark.parametrize(
    "source",
    [
        "{% for message in messages %}",
        "{{ raise_exception('only alternating roles') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append({}) }}",
        "{{ undefined_name.attribute }}",
        "{{ 'x' * 10 ** 11 }}",
        "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}"
        "{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% for i in range(99999) %}{{ messages }}{% endfor %}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    ],
    ids=lambda source: source[:24],
)
def test_a_broken_or_hostile_template_is_a_bad_checkpoint(source):
    with pytest.raises(BadCheckpoint, match="chat template"):
        render(ChatTemplate("checkpoint", source), Prompt("q" * 100), "<s>", "</s>")


def test_an_endless_template_is_stopped(monkeypatch):
    monkeypatch.setattr("evalsuite.chat._SECONDS", 1.0)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    start = time.monotonic()
    with pytest.raises(BadCheckpoint, match="limits of time"):
        render(ChatTemplate("checkpoint", loops), Prompt("q"), "", "")
    assert time.monotonic() - start < 10


def test_resolution_prefers_the_folder_then_the_card(tmp_path):
    assert resolve_template(folder(tmp_path)) is None
    carded = folder(tmp_path, Card(chat_template="yayi"))
    assert resolve_template(carded) == BUILTIN["yayi"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "config"}))
    assert resolve_template(carded) == ChatTemplate("checkpoint", "config")
    (tmp_path / "chat_template.jinja").write_text("file 文", encoding="utf-8")
    assert resolve_template(carded) == ChatTemplate("checkpoint", "file 文")
    assert resolve_template(carded, "none") is None
    assert resolve_template(carded, "ziya") == BUILTIN["ziya"]
    assert resolve_template(folder(tmp_path, Card(chat_template="none"))) is not None


def test_a_card_may_say_none(tmp_path):
    assert resolve_template(folder(tmp_path, Card(chat_template="none"))) is None


def test_the_default_of_several_templates_is_taken(tmp_path):
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    found = resolve_template(folder(tmp_path))
    assert found is not None
    assert found.source == "d"


def test_unknown_names_get_the_nearest(tmp_path):
    with pytest.raises(UnknownName, match="llama2-chinese"):
        resolve_template(folder(tmp_path), "llama2_chinese")
    with pytest.raises(UnknownName, match=r"evalsuite\.json"):
        resolve_template(folder(tmp_path, Card(chat_template="zia")))


def test_a_missing_or_malformed_template_is_a_bad_checkpoint(tmp_path):
    with pytest.raises(BadCheckpoint, match="no chat template of its own"):
        resolve_template(folder(tmp_path), "checkpoint")
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(BadCheckpoint, match=r"tokenizer_config\.json"):
        resolve_template(folder(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": 5}')
    with pytest.raises(BadCheckpoint, match="not a text"):
        resolve_template(folder(tmp_path))
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(BadCheckpoint, match=r"chat_template\.jinja"):
        resolve_template(folder(tmp_path))
