"""The stage ``data``: clean → exact and near duplicates → quality → buckets → rules → sensitive terms → evaluation.

The order is Ziya's. Writes ``documents/`` and ``conversations/`` (JSONL shards), ``ledger.json``, ``mixture.json``,
``mixture.svg`` and ``evaluation.json``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from evalsuite_train.data import evaluation, mixture
from evalsuite_train.data.buckets import bucket
from evalsuite_train.data.chart import chart
from evalsuite_train.data.clean import clean
from evalsuite_train.data.duplicates import exact, near
from evalsuite_train.data.formats import COLUMNS
from evalsuite_train.data.ledger import Entry
from evalsuite_train.data.pipeline import Pipeline
from evalsuite_train.data.quality import Bits, Quality, checkpoint_bits, quality
from evalsuite_train.data.reader import Reader
from evalsuite_train.data.record import Outcome, Record
from evalsuite_train.data.rules import rules
from evalsuite_train.data.sensitive import own_terms, read_terms, sensitive
from evalsuite_train.data.shards import write_shards
from evalsuite_train.data.texts import files_of
from evalsuite_train.errors import BadData, BadRecipe, TrainError
from evalsuite_train.recipe import Recipe


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of data.

    Attributes:
        path: a file, or a folder whose files are all read.
        name: for the reports; the file's or folder's name by default.
        format: one of those in :mod:`evalsuite_train.data.formats`; found from the content by default.
        language: ``zh``, ``en`` or ``other``; told by each text's characters by default.
        task: for conversations that name none.
        weight: how often each record is drawn.
    """

    path: str
    name: str = ""
    format: str = "auto"
    encoding: str = "utf-8"
    language: str = ""
    task: str = ""
    weight: float = 1.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section ``data`` of a recipe.

    Attributes:
        bad_share: the share of bad rows above which a file is refused.
        similar: Jaccard similarity of shingles from which two records are near duplicates.
        reference: a file of good text to score against; the corpus itself by default.
        checkpoint: a Hugging Face folder whose perplexity scores instead of the character model.
        lowest_score: records that score below are dropped.
        shortest, longest: characters of a document; a conversation may be short.
        terms, allowed: lists of sensitive terms and of phrases where they are harmless; own ones by default.
        tokenizer: a tokenizer.model to count tokens with.
    """

    sources: tuple[Source, ...]
    bad_share: float = 0.1
    similar: float = 0.7
    reference: str = ""
    checkpoint: str = ""
    lowest_score: float = 0.2
    shortest: int = 20
    longest: int = 200_000
    terms: str = ""
    allowed: str = ""
    tokenizer: str = ""


def run(config: Config, recipe: Recipe, out: Path) -> None:
    """Make the training text.

    Raises:
        TrainError: an impossible setting, a file that cannot be used, nothing left, or a full disk.
    """
    files = _files(config, recipe)
    _check(config)
    lists = (config.reference, config.checkpoint, config.terms, config.allowed)
    paths = [path for _, _, path in files] + [recipe.file(name) for name in lists if name]
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    pipeline = Pipeline(out / "steps", [recipe.seed, stats, msgspec.to_builtins(config)])
    pipeline.read("read", lambda entry: _read(files, config, entry))
    pipeline.run("clean", lambda records, _: clean(records))
    pipeline.run("exact", lambda records, _: exact(records))
    pipeline.run("near", lambda records, _: near(records, config.similar, out / "steps"))
    pipeline.run("quality", lambda records, _: _scored(records, config, recipe, pipeline))
    pipeline.run("buckets", lambda records, _: bucket(records, config.lowest_score))
    pipeline.run("rules", lambda records, _: rules(records, config.shortest, config.longest))
    allowed = recipe.file(config.allowed) if config.allowed else None
    terms = read_terms(recipe.file(config.terms), allowed) if config.terms else own_terms()
    pipeline.run("sensitive", lambda records, _: sensitive(records, terms))
    weights = {name: source.weight for name, source, _ in files}
    pipeline.run(
        "mixture", lambda records, entry: mixture.weighted(records, weights, recipe.seed, entry)
    )
    _publish(pipeline, config, recipe, out)


def _read(files: list[tuple[str, Source, Path]], config: Config, entry: Entry) -> Iterator[Record]:
    for name, source, path in files:
        reader = Reader(
            path,
            source=name,
            kind=source.format,
            encoding=source.encoding,
            language=source.language,
            task=source.task,
            bad_share=config.bad_share,
        )
        for record in reader:
            entry.kept += 1
            if record.label:
                entry.labels[record.label] = entry.labels.get(record.label, 0) + 1
            yield record
        entry.given += reader.rows
        for reason, count in reader.bad.items():
            key = f"bad row: {reason}"
            entry.dropped[key] = entry.dropped.get(key, 0) + count
            shown = entry.examples.setdefault(key, [])
            shown += reader.examples[reason][: 5 - len(shown)]


def _scored(
    records: Iterable[Record], config: Config, recipe: Recipe, pipeline: Pipeline
) -> Iterable[Outcome]:
    reference: Iterable[Record] = pipeline.records()
    if config.reference:
        reference = Reader(recipe.file(config.reference), bad_share=config.bad_share)
    bits: Bits | None = (
        checkpoint_bits(recipe.file(config.checkpoint)) if config.checkpoint else None
    )
    return quality(records, Quality(reference, seed=recipe.seed, bits=bits))


def _publish(pipeline: Pipeline, config: Config, recipe: Recipe, out: Path) -> None:
    """Write the text and the reports."""
    kept = pipeline.ledger.entries[-1].kept
    if kept == 0:
        pipeline.ledger.write(out / "ledger.json")
        pipeline.ledger.show()
        raise BadData(
            "no record was left",
            where=str(out / "ledger.json"),
            hint="the ledger says which step dropped them",
        )
    written = 0
    for name, conversations in (("documents", False), ("conversations", True)):
        chosen = (r for r in pipeline.records() if bool(r.conversations) is conversations)
        count = write_shards(out / name, chosen, Record.published)
        written += count
        if count == 0:
            shutil.rmtree(out / name)
    if written != kept:
        raise TrainError(
            f"{written} records were written and the ledger counts {kept}",
            where=str(out / "steps"),
            hint="a file there was changed; delete the folder and run again",
        )
    tokens = mixture.token_counter(recipe.file(config.tokenizer)) if config.tokenizer else None
    shares = mixture.measure(pipeline.records(), tokens)
    judged = evaluation.evaluate(pipeline.records(), pipeline.ledger, recipe.seed)
    pipeline.ledger.write(out / "ledger.json")
    (out / "mixture.svg").write_text(chart(shares), encoding="utf-8")
    for path, content in ((out / "mixture.json", shares), (out / "evaluation.json", judged)):
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    pipeline.ledger.show()
    mixture.show(shares)
    evaluation.show(judged)


def _files(config: Config, recipe: Recipe) -> list[tuple[str, Source, Path]]:
    """Name, source and path of each file, in order."""
    found = []
    for source in config.sources:
        path = recipe.file(source.path)
        files = files_of(path)
        name = source.name or path.name.split(".")[0]
        found += [(name, source, file) for file in files]
    if not found:
        raise BadRecipe(
            "no sources", where=f"{recipe.source}: data", hint="give sources: [{path: FILE}]"
        )
    return found


def _check(config: Config) -> None:
    for source in config.sources:
        if source.format not in ("auto", *COLUMNS):
            raise BadRecipe(
                f"no format named {source.format!r}",
                where=f"data: {source.path}",
                hint="known: auto, " + ", ".join(COLUMNS),
            )
        try:
            "".encode(source.encoding)
        except LookupError:
            raise BadRecipe(
                f"no encoding named {source.encoding!r}",
                where=f"data: {source.path}",
                hint="known: utf-8, gb18030, big5, latin-1 and Python's others",
            ) from None
        if not 0 <= source.weight <= 100:
            raise BadRecipe(
                f"weight is {source.weight}", where=f"data: {source.path}", hint="give 0 to 100"
            )
    if not 0 < config.similar <= 1 or not 0 <= config.bad_share <= 1:
        raise BadRecipe("similar and bad_share are shares between 0 and 1", where="data")
