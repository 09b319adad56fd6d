"""GGUF files, recognised and named; an engine of llama.cpp reads them."""

from __future__ import annotations

from pathlib import Path

from evalsuite.errors import BadCheckpoint

_MAGIC = b"GGUF"
_BESIDE = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "*.tiktoken", "chat_template.jinja", "config.json", "*.py",
)  # fmt: skip
"""What a tokenizer and its chat template are read from; ``config.json`` says of which kind it is."""


def find_gguf(path: Path) -> Path | None:
    """The GGUF file that ``path`` is, or the only one in the folder; None where there is none.

    Raises:
        BadCheckpoint: several in the folder, or a file of that name that is something else.
    """
    if path.is_file():
        files = [path] if path.suffix == ".gguf" or _begins_right(path) else []
    else:
        files = sorted(file for file in path.glob("*.gguf") if file.is_file())
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:8])
        raise BadCheckpoint("several GGUF files", where=str(path), hint=f"name one of {names}")
    if files and not _begins_right(files[0]):
        raise BadCheckpoint("not a GGUF file", where=str(files[0]), hint="copy it again")
    return files[0] if files else None


def tokenizer_beside(file: Path) -> list[Path]:
    """The files of the tokenizer and chat template that lie beside a GGUF file, by name.

    An engine reads prompts with them, so another tokenizer gives other answers.
    """
    found = {f for pattern in _BESIDE for f in file.parent.glob(pattern) if f.is_file()}
    return sorted(found - {file})


def _begins_right(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(4) == _MAGIC
    except OSError:
        return False
