"""How the engine of a checkpoint is to be opened, whichever it is."""

from __future__ import annotations

import msgspec

from evalsuite.chat import NONE, ChatTemplate
from evalsuite.errors import BadOption


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a model that is run here. What the values mean, each engine says.

    Attributes:
        template: the chat template, or None for plain text. Prompts that ask for plain text get it.
        force_template: use the template even where the prompt asks for plain text.
        batch_tokens: tokens of one forward pass.
        trust_remote_code: run the checkpoint's own Python code.
        engine_options: for vLLM alone, handed through.

    Raises:
        BadOption: no room for a token.
    """

    template: ChatTemplate | None = None
    force_template: bool = False
    dtype: str = "auto"
    device: str = "auto"
    batch_tokens: int | None = None
    trust_remote_code: bool = False
    engine_options: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise BadOption(
                f"a batch of {self.batch_tokens} tokens holds nothing", where="batch_tokens"
            )

    @property
    def template_name(self) -> str:
        """The template's name, ``none`` for plain text."""
        return self.template.name if self.template else NONE


DEFAULT = ModelOptions()
