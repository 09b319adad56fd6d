"""Chain-of-hindsight fine-tuning (COHFT; Liu et al., arXiv 2302.02676).

A good and a bad reply to one question stand in one sequence, each behind words that say which it
is, in either order::

    <human>:{question}
    <bot>:好的回答：{good}</s>
    差的回答：{bad}</s>

Loss is taken on the replies and their EOS only, never on the question or the markers. Random past
tokens are hidden (forgetful masking), so that the second reply is not copied from the first. Against
forgetting, a share of the samples is PT text, and another is SFT replies behind the good marker, of
tasks for which there are no pairs. Afterwards the model is asked with the good marker, which the
checkpoint's own chat template writes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evalsuite_train.checkpoint import load_tokenizer, read_card, write_checkpoint
from evalsuite_train.conversation import read_turns
from evalsuite_train.data.reader import Reader
from evalsuite_train.errors import BadData, BadRecipe
from evalsuite_train.feedback.batches import Source, batches, content
from evalsuite_train.feedback.rows import read_texts
from evalsuite_train.feedback_card import feedback_files
from evalsuite_train.optimiser import Optimisation
from evalsuite_train.processes import launched
from evalsuite_train.recipe import Recipe
from evalsuite_train.rm.pairs import Pair, read_pairs
from evalsuite_train.sft.parent import load_parent
from evalsuite_train.sft.samples import Sample, as_conversation
from evalsuite_train.state import remove_states
from evalsuite_train.templates import TEMPLATES, Encoder, Unusable, encoder
from evalsuite_train.trainer import Batch, train

TEMPLATE = "ziya"
GOOD = {"zh": "好的回答：", "en": "A good answer:"}
BAD = {"zh": "差的回答：", "en": "A bad answer:"}

CHAT_TEMPLATE = (
    "{% set ns = namespace(system='') %}"
    "{% for message in messages %}"
    "{% set text = message['content'] %}"
    "{% if message['role'] == 'system' %}{% set ns.system = text + '\\n' %}"
    "{% elif message['role'] == 'user' %}"
    "{% set ns.question = ns.system + text %}{% set ns.system = '' %}"
    "{% if ns.question | select('ge', '一') | select('le', '鿿') | first is defined %}"
    f"{{% set ns.marker = '{GOOD['zh']}' %}}{{% else %}}{{% set ns.marker = '{GOOD['en']}' %}}"
    "{% endif %}"
    "{{ '<human>:' + ns.question + '\\n<bot>:' + ns.marker }}"
    "{% else %}{{ text + '\\n' }}{% endif %}"
    "{% endfor %}"
)
"""Ziya's format with the good marker, in the question's language, where the reply begins."""


class Config(Optimisation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of COHFT, besides those of the optimisation.

    Attributes:
        parent: the section or folder of the SFT checkpoint that is trained on.
        data: preference pairs.
        pt: PT texts; ``pt_share`` is their share of the samples.
        sft: SFT conversations of other tasks; ``replay`` is their share, if there are any. Where the
            data have pairs, only the pairs say what is good.
        forgetting: the largest share of past tokens that is hidden; a row's own share is
            drawn between 0 and this, as in the paper (5%).
        batch: samples in a micro-batch.
    """

    parent: str = "sft"
    data: str = "data/preferences.jsonl"
    pt: str = "data/pt.jsonl"
    pt_share: float = 0.1
    sft: str = "data/sft.jsonl"
    replay: float = 0.4
    forgetting: float = 0.05
    max_length: int = 256
    batch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pt_share", "replay", "forgetting"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be from 0 to below 1")
        if self.batch < 1 or self.max_length < 2:
            raise ValueError("batch must be at least 1, max_length at least 2")
        if self.pt_share + self.replay >= 1:
            raise ValueError("pt_share and replay leave nothing for the pairs")

    def reached(self, share: float) -> int:
        """How many samples of a source with this share a whole training comes to, of all processes."""
        return math.ceil(self.steps * self.accumulation * launched() * self.batch * share) + 1


WHAT = (
    "Chain of hindsight (COHFT): good and bad replies stand in one sequence behind spoken markers,"
    " and the model is asked with the good one, which its chat template writes."
)


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Fine-tune on chains of hindsight; writes ``ledger.json`` and the checkpoint."""
    parent = recipe.parent(config.parent)
    tokenizer = load_tokenizer(parent)
    model = load_parent(parent, len(tokenizer), config.max_length)
    pairs = read_pairs(recipe.file(config.data))
    chains, ledger = _chains(tokenizer, pairs, config.max_length)
    if not chains:
        raise BadData(
            f"none of {len(pairs)} pairs can be learnt from: {ledger['dropped']}",
            where=str(recipe.file(config.data)),
            hint="raise max_length",
        )
    others: list[Sample] = []
    if config.replay > 0:
        others = _replayed(tokenizer, recipe.file(config.sft), {p.task for p in pairs}, config)
    ledger["replayed"] = len(others)
    (out / "ledger.json").write_text(json.dumps(ledger, indent=2) + "\n", encoding="utf-8")
    replay = config.replay if others else 0.0
    sources = [Source(chains, 1 - config.pt_share - replay), Source(others, replay)]
    if config.pt_share > 0:
        texts = read_texts(recipe.file(config.pt), config.reached(config.pt_share))
        rows = [text_sample(tokenizer, text, config.max_length) for text in texts]
        sources.append(Source(rows, config.pt_share))
    plain = batches(sources, config.batch, recipe.seed)
    stream = forgetful(plain, config.forgetting, tokenizer.unk_token_id, recipe.seed)
    steps = train(model, stream, config, out, seed=recipe.seed, data=content(sources))
    write_checkpoint(
        out / "checkpoint",
        model,
        tokenizer=parent,
        recipe=recipe,
        section=out.name,
        step=steps,
        parent=read_card(parent).get("name"),
        template=None,  # the folder's own, below; without its marker the model must not be asked
        files={
            "chat_template.jinja": CHAT_TEMPLATE,
            **feedback_files(
                f"{recipe.name}-{out.name}",
                WHAT,
                str(read_card(parent).get("name", config.parent)),
                ledger,
                out,
                steps=steps,
                rate=config.learning_rate,
            ),
        },
    )
    remove_states(out)


def language(question: str) -> str:
    """``zh`` if there is a Chinese character in the question, else ``en``; so says the template."""
    return "zh" if any("一" <= character <= "鿿" for character in question) else "en"


def prompt_text(question: str) -> str:
    """What stands before a good reply, without BOS; equal to what :data:`CHAT_TEMPLATE` renders."""
    return TEMPLATES[TEMPLATE].human.format(question) + GOOD[language(question)]


def chain(tokenizer: Any, pair: Pair, *, good_first: bool, max_length: int) -> Sample:
    """One chain of hindsight: both replies of a pair behind their markers.

    Raises:
        Unusable: longer than ``max_length``; a chain is never cut.
    """
    spoken = language(pair.prompt)
    replies = [(GOOD[spoken], pair.chosen), (BAD[spoken], pair.rejected)]
    said = replies if good_first else replies[::-1]
    return marked(tokenizer, pair.task, pair.prompt, said, max_length)


def marked(
    tokenizer: Any, task: str, question: str, replies: Sequence[tuple[str, str]], max_length: int
) -> Sample:
    """A question and its replies, each behind its marker; only replies and their EOS are learnt.

    Raises:
        Unusable: longer than ``max_length``.
    """
    enc: Encoder = encoder(tokenizer, TEMPLATE)
    before, _, after = TEMPLATES[TEMPLATE].human.partition("{}")
    context = before + question + after
    ids, learnt = [tokenizer.bos_token_id], [False]
    for marker, reply in replies:
        context += marker
        asked = enc.text(context, start=len(ids) == 1)
        said = [*enc.after(context, asked, reply), enc.end]
        ids += asked + said
        learnt += [False] * len(asked) + [True] * len(said)
        context = TEMPLATES[TEMPLATE].between
    if len(ids) > max_length:
        raise Unusable("too long", f"{len(ids)} tokens, {max_length} are allowed")
    return Sample(task, "", np.array(ids, np.int32), np.array(learnt))


def text_sample(tokenizer: Any, text: str, max_length: int) -> Sample:
    """A PT text: BOS, the text and EOS, all learnt but BOS; the end of a long one is left out."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    row = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id][:max_length]
    learnt = np.arange(len(row)) > 0
    return Sample("pt", "", np.array(row, np.int32), learnt)


def forgetful(
    stream: Callable[[int], Iterator[Batch]], most: float, hidden: int, seed: int
) -> Callable[[int], Iterator[Batch]]:
    """Hide random past tokens from the model: their inputs become ``hidden`` (<unk>).

    In each row a share drawn uniformly from 0 to ``most`` is hidden, never a BOS; what is to be
    said stays as it is (forgetful causal masking; Liu et al., arXiv 2210.13432).
    """

    def masked(start: int) -> Iterator[Batch]:
        for number, batch in enumerate(stream(start), start):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            share = most * torch.rand(len(batch.inputs), 1, generator=generator)
            hide = torch.rand(batch.inputs.shape, generator=generator) < share
            if batch.positions is not None:
                hide &= batch.positions > 0  # the first token of every packed sample stays
            yield batch._replace(inputs=batch.inputs.masked_fill(hide, hidden))

    return masked


def _chains(
    tokenizer: Any, pairs: Sequence[Pair], max_length: int
) -> tuple[list[Sample], dict[str, Any]]:
    """Every pair in both orders, and the ledger of what was dropped."""
    if tokenizer.unk_token_id is None:
        raise BadRecipe(
            "hidden tokens become <unk>, which the tokenizer lacks", hint="set unk_token"
        )
    chains: list[Sample] = []
    dropped: Counter[str] = Counter()
    for pair in pairs:
        try:
            for good_first in (True, False):
                made = chain(tokenizer, pair, good_first=good_first, max_length=max_length)
                chains.append(made)
        except Unusable as fault:
            dropped[fault.reason] += 1
    ledger = {"pairs": len(pairs), "chains": len(chains), "dropped": dict(sorted(dropped.items()))}
    return chains, ledger


def _replayed(tokenizer: Any, file: Path, contrasted: set[str], config: Config) -> list[Sample]:
    """First questions and replies of other tasks' conversations, behind the good marker."""
    samples: list[Sample] = []
    for record in Reader(file):
        if record.task in contrasted:
            continue
        try:
            conversation = as_conversation(record, TEMPLATE, tokenizer.eos_token)
            system, turns = read_turns(conversation)
            question, reply = turns[0]
            question = f"{system}\n{question}" if system else question
            good = [(GOOD[language(question)], reply)]
            samples.append(marked(tokenizer, record.task, question, good, config.max_length))
        except Unusable:
            continue
        if len(samples) >= config.reached(config.replay):
            break
    return samples
