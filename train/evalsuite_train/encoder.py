"""A chat template fitted to a tokenizer: token ids, control tokens only where the template has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from evalsuite_train.conversation import Unusable, read_turns
from evalsuite_train.errors import BadRecipe

if TYPE_CHECKING:
    from evalsuite_train.templates import Template

_ANCHORS = ("\n", "|", "。")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Encoded(NamedTuple):
    """A conversation as token ids (T,), and for each id whether the model learns to write it."""

    ids: list[int]
    learnt: list[bool]


class Encoder:
    """A template together with the tokenizer it fits.

    Attributes:
        end: id of the token that ends a reply.
        pad: id to pad with; its positions are never learnt.
    """

    def __init__(self, tokenizer: Any, name: str, template: Template) -> None:
        self._tokenizer, self._name, self._template = tokenizer, name, template
        self._control: dict[str, int] = dict(tokenizer.get_added_vocab())
        known = {
            tokenizer.bos_token: tokenizer.bos_token_id,
            tokenizer.eos_token: tokenizer.eos_token_id,
        }
        self._control |= {text: i for text, i in known.items() if text and i is not None}
        names = sorted(self._control, key=len, reverse=True)
        self._splits = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._forbidden = self._control_ids()
        self.end = self._end()
        self._lead = self._find_lead()
        for token in re.findall(r"</?s>", self._template.human + self._template.system):
            self._need(token)
        self.pad: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        # Whether a text after a control token is written as at the start (LLaMA: with a space).
        marker = tokenizer.decode([self.end])
        after = self._tokenizer(marker + "a", add_special_tokens=False)["input_ids"]
        self._restarts = after[1:] == self._ordinary("a")

    def prompt(self, question: str, system: str = "") -> list[int]:
        """The ids of one question, after its system message, up to where the reply starts."""
        row = _Row(self, self._lead)
        self._ask(row, question, system, first=True)
        row.flush()
        return row.ids

    def conversation(self, conversation: dict[str, Any], max_length: int) -> Encoded:
        """See :func:`encode_conversation`."""
        system, turns = read_turns(conversation)
        row = _Row(self, self._lead)
        fitting = 0
        for number, (question, reply) in enumerate(turns):
            if number:
                row.trusted(self._template.between)
            self._ask(row, question, system, first=number == 0)
            row.reply(self._template.opening + reply + self._template.closing)
            if len(row.ids) > max_length:
                break
            fitting = len(row.ids)
        if not fitting:
            raise Unusable("too long", f"{len(row.ids)} tokens, {max_length} are allowed")
        return Encoded(row.ids[:fitting], row.learnt[:fitting])

    def check_own_template(self, where: str) -> None:
        """Refuse a checkpoint whose own chat template, which inference prefers, asks otherwise.

        Raises:
            BadRecipe: names ``where``, the checkpoint's folder.
        """
        if not self._tokenizer.chat_template:
            return
        try:
            asked = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": "你好"}], add_generation_prompt=True, tokenize=False
            )
        except Exception as fault:  # a template is a program of its own
            raise BadRecipe(
                f"its chat template breaks: {type(fault).__name__}: {str(fault)[:200]}",
                where=where,
                hint="mend chat_template.jinja, or remove it",
            ) from None
        ids = list(self._tokenizer(asked, add_special_tokens=False)["input_ids"])
        own = list(self._tokenizer("")["input_ids"])
        if (ids if ids[: len(own)] == own else own + ids) != self.prompt("你好"):
            raise BadRecipe(
                f"template {self._name!r}, but the checkpoint has a chat template of its own "
                "that asks otherwise, and inference would use that one",
                where=where,
                hint="train with that one, or remove chat_template.jinja and chat_template in "
                "tokenizer_config.json",
            )

    def _ask(self, row: _Row, question: str, system: str, *, first: bool) -> None:
        form = self._template
        system = system or form.default_system
        if first and system and not form.inside:
            before, _, after = form.system.partition("{}")
            row.trusted(before)
            row.content(system)
            row.trusted(after)
        before, _, after = form.human.partition("{}")
        row.trusted(before)
        row.content(f"{system}\n{question}" if first and system and form.inside else question)
        row.trusted(after)

    def parts(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Cut a template's own text at control tokens: (text, id, or None for ordinary text)."""
        at = 0
        for found in self._splits.finditer(text):
            yield text[at : found.start()], None
            yield found.group(), self._control[found.group()]
            at = found.end()
        yield text[at:], None

    def text(self, text: str, *, start: bool) -> list[int]:
        """Ids of ordinary text at the start of everything or after a control token."""
        return self._ordinary(text) if start or self._restarts else self.after("", [], text)

    def after(self, context: str, ids: list[int], text: str) -> list[int]:
        """Ids of ``text`` where it follows ``context``, whose ``ids`` stay as they are."""
        for anchor in (context, *_ANCHORS):
            before = ids if anchor == context and ids else self._ordinary(anchor)
            if anchor and (whole := self._ordinary(anchor + text))[: len(before)] == before:
                return whole[len(before) :]
        raise Unusable("not encodable", f"it always joins what stands before it: {text[:40]!r}")

    def _ordinary(self, text: str) -> list[int]:
        """Ids of a text in which nothing is a control token, whatever it looks like."""
        text = _SURROGATE.sub("\ufffd", text)
        ids = self._plain(text)
        if self._forbidden.isdisjoint(ids):
            return ids
        # A control token that the tokenizer does not know as special: cut its text in two.
        cut = self._splits.sub(lambda found: found.group()[0] + "\0" + found.group()[1:], text)
        pieces = cut.split("\0")
        ids = self._plain(pieces[0])
        for piece in pieces[1:]:
            anchor = self._plain("|")
            ids += self._plain("|" + piece)[len(anchor) :]
        if not self._forbidden.isdisjoint(ids):
            raise Unusable("control token", f"the text spells one out: {text[:40]!r}")
        return ids

    def _plain(self, text: str) -> list[int]:
        found = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return list(found["input_ids"])

    def _control_ids(self) -> frozenset[int]:
        own = re.findall(r"<\|\w+\|>", self._template.human + self._template.system)
        ids = {self._control[text] for text in own if text in self._control}
        if self._template.end in self._control:
            ids.add(self._control[str(self._template.end)])
        unknown = {self._tokenizer.unk_token_id}  # what cannot be written otherwise
        return frozenset((ids | set(self._tokenizer.all_special_ids)) - unknown)

    def _find_lead(self) -> list[int]:
        own = list(self._tokenizer("")["input_ids"])
        if (
            self._tokenizer.eos_token_id in own
            and self._tokenizer.eos_token_id != self._tokenizer.bos_token_id
        ):
            own.remove(self._tokenizer.eos_token_id)
        if self._template.start != "bos":
            return own if self._template.start == "tokenizer" else []
        bos = self._tokenizer.bos_token_id
        if bos is None:
            raise self._misfit("it starts with BOS, and the tokenizer has none", "set bos_token")
        if own != [bos]:
            raise self._misfit(
                f"it starts with BOS once, and the tokenizer puts {own or 'nothing'} before a text, "
                "so that inference would see something else than training",
                "let the tokenizer add BOS (add_bos_token, or its post-processor)",
            )
        return [int(bos)]

    def _end(self) -> int:
        wanted, own = self._template.end, self._tokenizer.eos_token
        if wanted is None:
            if self._tokenizer.eos_token_id is None:
                raise self._misfit(
                    "a reply ends with EOS, and the tokenizer has none", "set eos_token"
                )
            return int(self._tokenizer.eos_token_id)
        self._need(wanted)
        if own != wanted:
            raise self._misfit(
                f"a reply ends with {wanted!r}, but the tokenizer's EOS is {own!r}: "
                "generation would never stop",
                f"set eos_token to {wanted!r}",
            )
        return self._control[wanted]

    def _need(self, token: str) -> None:
        if token not in self._control:
            raise self._misfit(
                f"{token!r} is not a single token of the tokenizer",
                "add it as a special token and resize the embeddings, or choose another template",
            )

    def _misfit(self, what: str, hint: str) -> BadRecipe:
        where = f"template {self._name!r}"
        return BadRecipe(f"it does not fit the tokenizer: {what}", where=where, hint=hint)


class _Row:
    """Token ids in the making; text that is not learnt is encoded in one piece, as inference does."""

    def __init__(self, encoder: Encoder, lead: list[int]) -> None:
        self.ids, self.learnt = list(lead), [False] * len(lead)
        self._encoder, self._pending, self._start = encoder, "", True

    def content(self, text: str) -> None:
        """Add text from data."""
        self._pending += text

    def trusted(self, text: str) -> None:
        """Add the template's own text, whose control tokens are control tokens."""
        for part, control in self._encoder.parts(text):
            if control is None:
                self._pending += part
            else:
                self.flush()
                self._add([control], learnt=False)

    def flush(self) -> tuple[str, list[int]]:
        """Encode what is pending; returns it as text and ids."""
        text, ids = self._pending, []
        if text:
            ids = self._encoder.text(text, start=self._start)
            self._add(ids, learnt=False)
        self._pending = ""
        return text, ids

    def reply(self, text: str) -> None:
        """Add a reply and its end, both learnt; the ids before it stay those of the prompt."""
        context, ids = self.flush()
        if ids:
            new = self._encoder.after(context, ids, text)
        else:
            new = self._encoder.text(text, start=self._start)
        self._add([*new, self._encoder.end], learnt=True)

    def _add(self, ids: list[int], *, learnt: bool) -> None:
        self.ids += ids
        self.learnt += [learnt] * len(ids)
        self._start = False
