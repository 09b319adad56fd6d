"""Chat templates in training: token ids of a conversation, and which of them are learnt.

The prompt part is token-identical to what evalsuite asks a checkpoint with, so that training and
inference see the same thing. What a template writes itself may be control tokens; what comes from
data never is: a ``</s>`` in a question is five characters.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Any, Literal

import msgspec

from evalsuite_train.conversation import Unusable
from evalsuite_train.encoder import Encoded, Encoder
from evalsuite_train.errors import BadRecipe

__all__ = [
    "TEMPLATES", "Encoded", "Encoder", "Template", "Unusable", "encode_conversation", "encode_prompt", "encoder",
]  # fmt: skip


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """How a conversation is written; ``{}`` is the place of the text.

    Attributes:
        chat_template: evalsuite's name for it, for a checkpoint's card; None is plain text.
        start: what stands before everything: ``bos`` exactly one; ``tokenizer`` whatever it puts
            before any text; ``none`` nothing, since the template writes its own.
        system: the system message; ``inside`` puts it into the first question instead of before.
        human: a question, up to where the assistant speaks.
        opening, closing: what the assistant writes around a reply; learnt like the reply itself.
        between: what follows the end of a reply when the conversation goes on.
        end: the token that ends a reply; None is the tokenizer's EOS.
    """

    chat_template: str | None
    human: str
    start: Literal["bos", "tokenizer", "none"] = "bos"
    system: str = "{}\n"
    inside: bool = False
    default_system: str = ""
    opening: str = ""
    closing: str = ""
    between: str = ""
    end: str | None = None


TEMPLATES: dict[str, Template] = {
    "ziya": Template(chat_template="ziya", human="<human>:{}\n<bot>:", inside=True, between="\n"),
    "atom": Template(
        chat_template="llama2-chinese",
        start="none",
        system="<s>System: {}\n</s>",
        human="<s>Human: {}\n</s><s>Assistant: ",
        closing="\n",
        end="</s>",
    ),
    "yayi": Template(
        chat_template="yayi",
        start="tokenizer",
        system="<|System|>:\n{}\n\n",
        default_system="A chat between a human and an AI assistant named YaYi.\n"
        "YaYi is a helpful and harmless language model developed by "
        "Beijing Wenge Technology Co.,Ltd.",
        human="<|Human|>:\n{}\n\n<|YaYi|>:",
        opening="\n",
        between="\n\n",
        end="<|End|>",
    ),
    "tencent": Template(chat_template="chatllama", human="User: {}\nBot: ", between="\n"),
    "plain": Template(chat_template=None, human="{}"),
    "rm": Template(chat_template=None, human="Human:{}\n\nAssistant:", between="\n\n"),
}
"""Z, A, Y, C as a dialogue, C as plain instruction–input–output, and one for reward models."""


def encode_conversation(
    tokenizer: Any, conversation: dict[str, Any], template: str, *, max_length: int
) -> Encoded:
    """The ids of a conversation: only replies are learnt, each with the token that ends it.

    A conversation longer than ``max_length`` loses its last turns; the end of a reply is never
    cut off.

    Args:
        conversation: ``{"system"?: str, "conversations": [{"from", "value"}, …]}``.
        template: a name in :data:`TEMPLATES`.

    Raises:
        BadRecipe: no such template, or it does not fit the tokenizer.
        Unusable: no reply, an empty one, turns out of order, or the first turn is too long.
    """
    return encoder(tokenizer, template).conversation(conversation, max_length)


def encode_prompt(tokenizer: Any, prompt: str, template: str) -> list[int]:
    """The ids of one question, up to where the reply starts.

    Raises:
        BadRecipe: no such template, or it does not fit the tokenizer.
    """
    return encoder(tokenizer, template).prompt(prompt)


@lru_cache(maxsize=8)
def encoder(tokenizer: Any, template: str) -> Encoder:
    """The encoder of a template with a tokenizer, checked once.

    Raises:
        BadRecipe: no such template, or it does not fit the tokenizer.
    """
    if template not in TEMPLATES:
        near = difflib.get_close_matches(template, TEMPLATES, 1)
        raise BadRecipe(
            f"no template named {template!r}",
            hint=(f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(TEMPLATES)}",
        )
    return Encoder(tokenizer, template, TEMPLATES[template])
