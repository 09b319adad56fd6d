"""Cleaning: one spelling of each character, no markup, no page furniture."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator

from evalsuite_train.data.record import Dropped, Outcome, Records, Turn

# C0 and C1 controls but tab and newline; zero-width and direction marks; private use; U+FFFD.
CONTROLS = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffd"
    "\ue000-\uf8ff\ud800-\udfff]"
)
SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f]")
BREAKS = re.compile("\r\n?|[\u0085\u2028\u2029]")
# Only names that HTML has: `#include <vector>` and the marker `<s>` of a prompt are text.
TAG = re.compile(
    r"</?(?:a|abbr|article|aside|b|blockquote|body|br|button|center|code|dd|div|dl|dt|em|fieldset|figure|font|footer|"
    r"form|h[1-6]|head|header|hr|html|i|iframe|img|input|label|li|link|main|meta|nav|object|ol|option|p|pre|section|"
    r"select|small|span|strong|sub|sup|table|tbody|td|textarea|tfoot|th|thead|title|tr|ul|video)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
BLOCK = re.compile(
    r"</?(?:br|p|div|li|tr|h[1-6]|table|ul|ol|section|article|title)\b", re.IGNORECASE
)
HIDDEN = re.compile(
    r"<(script|style|noscript)\b[^<>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL
)
FURNITURE = re.compile(
    r"版权所有|©|copyright\s*(?:\(c\)|\d{4})|all rights reserved|ICP备\d*|公网安备|上一[篇页]|下一[篇页]|返回(?:首页|顶部)|"
    r"点击(?:查看|进入|下载|这里|关注)|(?:扫码|扫一扫|长按).{0,8}(?:关注|二维码)|关注.{0,6}公众号|责任编辑[:：]|"
    r"未经授权.{0,6}(?:转载|复制)|分享到|加入收藏|设为首页|免责声明|联系我们|关于我们|网站地图|友情链接|"
    r"\b(?:terms of (?:use|service)|privacy policy|cookie policy|uses? cookies|click here|subscribe (?:now|to our)|"
    r"sign (?:in|up)\b.{0,20}(?:account|newsletter)|share (?:on|this)|skip to (?:main )?content|back to top|"
    r"enable javascript|lorem ipsum|powered by|follow us|read more|load more|related articles)\b",
    re.IGNORECASE,
)
LONGEST_FURNITURE = 120
"""Characters. A longer line that names one of these things talks about it."""


def clean(records: Records) -> Iterator[Outcome]:
    """Clean each record; a document that has nothing left is dropped.

    The lines that pages repeat around their text (navigation, copyright, cookies) are left out after
    C4's rules (Raffel et al. 2020, arXiv 1910.10683, section 2.2), with Chinese phrases added. Turns of
    conversations lose only characters that no text has: their markup and code may be the answer.
    """
    for record in records:
        if record.conversations:
            record.conversations = [
                Turn(t.speaker, characters(t.value)) for t in record.conversations
            ]
            record.system = characters(record.system)
            silent = not all(turn.value for turn in record.conversations)
            yield Dropped(record, "empty turn") if silent else record
            continue
        before = characters(record.text)
        record.text = without_furniture(without_markup(before))
        if record.text:
            yield record
        else:
            yield Dropped(record, "only boilerplate" if before else "empty")


def characters(text: str) -> str:
    """Composed form (NFC), ordinary spaces and line ends, no invisible or control characters.

    NFC and not NFKC: full-width punctuation and ² are part of the text.
    """
    text = unicodedata.normalize("NFC", text)
    text = SPACES.sub(" ", BREAKS.sub("\n", text))
    text = CONTROLS.sub("", text)
    lines = (line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n").rstrip()


def without_markup(text: str) -> str:
    """The text of an HTML page; a text without known tags is returned as it is."""
    if not TAG.search(text) and not HIDDEN.search(text):
        return text
    text = HIDDEN.sub(" ", text)
    text = BLOCK.sub(lambda found: "\n" + found.group(), text)
    text = html.unescape(TAG.sub("", text))
    return characters(re.sub(r"[ \t]{2,}", " ", text)).strip()


def without_furniture(text: str) -> str:
    """The lines that say something."""
    lines = text.split("\n")
    kept = [line for line in lines if len(line) > LONGEST_FURNITURE or not FURNITURE.search(line)]
    if len(kept) == len(lines):
        return text.strip()
    return characters("\n".join(kept)).strip()
