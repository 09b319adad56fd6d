"""Chat templates: which one a checkpoint is asked with, and rendering a prompt with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evalsuite import _rendering
from evalsuite.checkpoint import CARD, Checkpoint
from evalsuite.errors import BadCheckpoint, UnknownName
from evalsuite.request import Prompt

NONE = "none"
FROM_CHECKPOINT = "checkpoint"

_PORTION = 4_000_000
"""Characters that are rendered in one process."""

_SECONDS = 30.0
"""What one process may take."""

Conversation = list[dict[str, str]]


class ChatTemplate(msgspec.Struct, frozen=True):
    """A Jinja template over ``messages``, in the conventions of Hugging Face.

    Attributes:
        name: a built-in name, or ``checkpoint`` for the one that lies with the weights.
    """

    name: str
    source: str


# The texts are fixed by the four published models; nothing may be added, not even a BOS, which the
# engine puts in front where the tokenizer wants one. Line ends stand in {{ }} because Jinja drops
# those after a block. A format without a place for a system message opens the first turn with it.
_ZIYA = (
    "{% set ns = namespace(system='') %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system = message['content'] + '\\n' %}"
    "{% elif message['role'] == 'user' %}"
    "{{ '<human>:' + ns.system + message['content'] + '\\n' }}{% set ns.system = '' %}"
    "{% else %}{{ '<bot>:' + message['content'] + '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<bot>:' }}{% endif %}"
)
_LLAMA2_CHINESE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set speaker = 'System' %}"
    "{% elif message['role'] == 'user' %}{% set speaker = 'Human' %}"
    "{% else %}{% set speaker = 'Assistant' %}{% endif %}"
    "{{ bos_token + speaker + ': ' + message['content'] + '\\n' + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token + 'Assistant: ' }}{% endif %}"
)
_YAYI = (
    "{% set ns = namespace(system='A chat between a human and an AI assistant named YaYi.\\n"
    "YaYi is a helpful and harmless language model developed by "
    "Beijing Wenge Technology Co.,Ltd.') %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system = message['content'] %}{% endif %}"
    "{% endfor %}"
    "{{ '<|System|>:\\n' + ns.system + '\\n\\n' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|Human|>:\\n' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|YaYi|>:\\n' + message['content'] + eos_token + '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|YaYi|>:' }}{% endif %}"
)
_CHATLLAMA = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
    "{% else %}{{ 'Bot: ' + message['content'] + '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Bot: ' }}{% endif %}"
)

BUILTIN: dict[str, ChatTemplate] = {
    name: ChatTemplate(name, source)
    for name, source in {
        "ziya": _ZIYA,
        "llama2-chinese": _LLAMA2_CHINESE,
        "yayi": _YAYI,
        "chatllama": _CHATLLAMA,
    }.items()
}
"""Built-in templates by name."""


def resolve_template(checkpoint: Checkpoint, wanted: str = "auto") -> ChatTemplate | None:
    """The chat template to ask a checkpoint with; None for plain text.

    Args:
        wanted: ``auto`` for the template in the checkpoint's folder, else the one named on its
            card, else none; ``checkpoint`` for the folder's alone; a built-in name; or ``none``.

    Raises:
        UnknownName: there is no template of that name.
        BadCheckpoint: the folder's template cannot be read, or was asked for and is not there.
    """
    if wanted in ("auto", FROM_CHECKPOINT):
        source = _from_folder(_folder(checkpoint))
        if source is not None:
            return ChatTemplate(FROM_CHECKPOINT, source)
        if wanted == FROM_CHECKPOINT:
            raise BadCheckpoint(
                "the checkpoint has no chat template of its own",
                where=str(checkpoint.path),
                hint=f"name a built-in one: {', '.join(BUILTIN)}",
            )
        if not checkpoint.card.chat_template:
            return None
        return _named(checkpoint.card.chat_template, where=str(checkpoint.path / CARD))
    return _named(wanted)


def render(template: ChatTemplate, prompt: Prompt, bos: str, eos: str) -> str:
    """The prompt as one user turn, after its system message, up to where the assistant speaks.

    Args:
        bos: text of the tokenizer's beginning-of-sequence token, empty if it has none; so ``eos``.

    Raises:
        BadCheckpoint: the template is malformed, refuses the conversation or exceeds its limits.
    """
    return render_all(template, [prompt], bos, eos)[0]


def render_all(template: ChatTemplate, prompts: Sequence[Prompt], bos: str, eos: str) -> list[str]:
    """:func:`render` for many prompts at once, which is far cheaper than one by one."""
    if BUILTIN.get(template.name) == template:
        conversations = [_conversation(prompt) for prompt in prompts]
        return _rendering.render_conversations(template.source, conversations, bos, eos)
    texts: list[str] = []
    for portion in _portions(prompts):
        texts += _render_apart(template, portion, bos, eos)
    return texts


def _conversation(prompt: Prompt) -> Conversation:
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": prompt.full}]


def _portions(prompts: Sequence[Prompt]) -> Iterator[list[Conversation]]:
    """Conversations in portions that one process can hold in its memory."""
    portion: list[Conversation] = []
    characters = 0
    for prompt in prompts:
        portion.append(_conversation(prompt))
        characters += len(prompt.full) + len(prompt.system)
        if characters > _PORTION:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion


def _render_apart(
    template: ChatTemplate, conversations: list[Conversation], bos: str, eos: str
) -> list[str]:
    """Render a stranger's template in a process of its own."""
    asked = {
        "source": template.source,
        "conversations": conversations,
        "bos": bos,
        "eos": eos,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(Path(_rendering.__file__))],
            input=json.dumps(asked),
            capture_output=True,
            encoding="utf-8",
            timeout=_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        answer = {"error": "it does not finish within its limits of time and memory"}
    if "error" in answer:
        raise BadCheckpoint(
            f"its chat template fails: {answer['error']}",
            where=f"chat template {template.name!r}",
            hint=f"mend it, or choose one of {', '.join([*BUILTIN, NONE])}",
        )
    texts: list[str] = answer["texts"]
    return texts


def _named(name: str, where: str = "") -> ChatTemplate | None:
    if name == NONE:
        return None
    if name in BUILTIN:
        return BUILTIN[name]
    known = ["auto", FROM_CHECKPOINT, *BUILTIN, NONE]
    raise UnknownName(
        "chat template", name, known, where=where, hint=f"there are {', '.join(known)}"
    )


def _folder(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint's tokenizer and template lie: a single file's are beside it."""
    return checkpoint.path.parent if checkpoint.path.is_file() else checkpoint.path


def _from_folder(folder: Path) -> str | None:
    """The template in the folder: a file of its own wins over the tokenizer's configuration."""
    file = folder / "chat_template.jinja"
    try:
        if file.is_file():
            return file.read_text(encoding="utf-8")
        file = folder / "tokenizer_config.json"
        if not file.is_file():
            return None
        config: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise BadCheckpoint(f"cannot be read: {fault}", where=str(file)) from None
    found = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(found, list):  # several, by name
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get("default")
    if found is None or isinstance(found, str):
        return found
    raise BadCheckpoint("chat_template is not a text", where=str(file))
