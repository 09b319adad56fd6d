"""The vocabulary: a SentencePiece model trained or extended, its files, the new embedding rows."""

from evalsuite_train.vocabulary.base import train_base
from evalsuite_train.vocabulary.extension import added, extend, merge
from evalsuite_train.vocabulary.tokenizer_files import write_tokenizer

__all__ = ["added", "extend", "merge", "train_base", "write_tokenizer"]
