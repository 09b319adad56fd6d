"""Dropping text that names things a model should not learn from, by a list of terms."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from evalsuite_train.data.language import HAN
from evalsuite_train.data.record import Dropped, Outcome, Records
from evalsuite_train.errors import BadData

INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
# Signs put between the characters of a term to hide it: 赌·博, 赌 博, 赌*博.
BETWEEN_HAN = re.compile(
    r"(?<=[\u3400-\u4dbf\u4e00-\u9fff])[\s*·._\-|~^+/\\]{1,3}(?=[\u3400-\u4dbf\u4e00-\u9fff])"
)

MENTION = {"zh": 1000}
MENTION_ELSEWHERE = 4000


class Terms:
    """A list of terms by category, and phrases in which a term is harmless.

    A Chinese term matches as a part of the text, an English one as whole words. Case, width, invisible characters and
    signs between Chinese characters make no difference. A match that lies inside an allowed phrase does not count
    (缉毒, 防赌博宣传).
    """

    def __init__(self, terms: dict[str, str], allowed: Iterable[str] = ()) -> None:
        self.category = {folded(term): category for term, category in terms.items()}
        han = [term for term in self.category if HAN.search(term)]
        other = [term for term in self.category if not HAN.search(term)]
        self.pattern = _alternation(han, other)
        kept = [folded(phrase) for phrase in allowed]
        self.allowed = _alternation(
            [p for p in kept if HAN.search(p)], [p for p in kept if not HAN.search(p)]
        )

    def find(self, text: str) -> Iterator[tuple[str, str]]:
        """Each term that counts, with its category, in the order of the text."""
        if self.pattern is None:
            return
        plain = folded(text)
        spans: list[tuple[int, int]] | None = None
        for match in self.pattern.finditer(plain):
            if spans is None:
                spans = [m.span() for m in self.allowed.finditer(plain)] if self.allowed else []
            if not any(start <= match.start() and match.end() <= end for start, end in spans):
                yield match.group(), self.category[match.group()]


def sensitive(records: Records, terms: Terms) -> Iterator[Outcome]:
    """Drop the records that name terms; the reason is ``sensitive: CATEGORY`` of the first.

    One mention in a long text is a mention, not its subject: every 1,000 characters of Chinese, or 4,000 of another language, allow one.
    """
    for record in records:
        text = record.content
        found = [category for _, category in terms.find(text)]
        if len(found) > len(text) // MENTION.get(record.language, MENTION_ELSEWHERE):
            yield Dropped(record, f"sensitive: {found[0]}")
        else:
            yield record


def folded(text: str) -> str:
    """One spelling for matching."""
    plain = INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return BETWEEN_HAN.sub("", plain)


def own_terms() -> Terms:
    """The small list that comes with the package; real corpora need a longer one."""
    folder = resources.files("evalsuite_train.data") / "terms"
    return read_terms(Path(str(folder / "sensitive.tsv")), Path(str(folder / "allowed.tsv")))


def read_terms(path: Path, allowed: Path | None = None) -> Terms:
    """Terms from a file of ``CATEGORY<TAB>TERM`` lines; allowed phrases one a line; ``#`` starts a comment.

    Raises:
        BadData: no such file, no UTF-8, a line without a category, a term of one character, or no terms.
    """
    terms: dict[str, str] = {}
    for number, line in _lines(path):
        category, tab, term = line.partition("\t")
        if not tab or not term.strip() or not category.strip():
            raise BadData(
                "a line is CATEGORY<TAB>TERM",
                where=f"{path}:{number}",
                hint=f"it reads {line[:60]!r}",
            )
        if len(folded(term.strip())) < 2:
            raise BadData(
                "a term of one character would match everywhere",
                where=f"{path}:{number}",
                hint="write the longer phrases that are meant",
            )
        terms[term.strip()] = category.strip()
    if not terms:
        raise BadData(
            "the list of sensitive terms is empty",
            where=str(path),
            hint="leave `terms` out for the own list",
        )
    return Terms(terms, [line for _, line in _lines(allowed)] if allowed else ())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise BadData(
            f"cannot read the list: {reason}", where=str(path), hint="check the path in the recipe"
        ) from fault
    except UnicodeDecodeError as fault:
        raise BadData(
            f"not UTF-8 at byte {fault.start}", where=str(path), hint="convert it to UTF-8"
        ) from fault
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def _alternation(han: list[str], other: list[str]) -> re.Pattern[str] | None:
    """One pattern for all; the longest term first, since a pattern takes the first that fits."""
    parts = []
    if han:
        parts.append(_trie(han))
    if other:
        parts.append(rf"(?<!\w){_trie(other)}(?!\w)")
    return re.compile("|".join(parts)) if parts else None


def _trie(words: list[str]) -> str:
    """A pattern that tries shared beginnings once, so that ten thousand terms cost little more than ten."""
    root: dict[str, dict] = {}  # type: ignore[type-arg]
    for word in words:
        node = root
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}

    def written(node: dict[str, dict]) -> str:  # type: ignore[type-arg]
        ends = "" in node
        branches = [re.escape(c) + written(below) for c, below in sorted(node.items()) if c]
        if not branches:
            return ""
        joined = (
            branches[0] if len(branches) == 1 and not ends else "(?:" + "|".join(branches) + ")"
        )
        return joined + "?" if ends else joined

    return "(?:" + written(root) + ")"
