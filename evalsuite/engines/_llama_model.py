"""llama.cpp's forward pass behind the interface of :class:`evalsuite.engines._model.Model`.

Decoding and scoring are those of the other engines; only the logits come from llama.cpp.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalsuite.engines._llama_sequences import FIRST, Entry, Sequences, common
from evalsuite.engines._meter import Meter
from evalsuite.engines._model import Model
from evalsuite.errors import BadCheckpoint, EngineFailed, EngineUnavailable

_F32 = 0
"""``GGML_TYPE_F32``: keys and values are kept unrounded, as the other engines do."""


class LlamaModel(Model):
    """A GGUF file, computed by llama.cpp.

    Args:
        batch: tokens of one forward pass; at least one for each sequence.
        sequences: answers that are decoded together.

    Attributes:
        trained: tokens of context that the model was trained with.
        precision: how the weights are stored, in llama.cpp's words: ``Q4_0``, ``all F32``, ….
        parameters: number of weights.

    Raises:
        BadCheckpoint: llama.cpp does not read the file.
    """

    def __init__(self, file: Path, *, batch: int, sequences: int, gpu: bool) -> None:
        import torch

        self._lib = library()
        settings = self._lib.llama_model_default_params()
        settings.n_gpu_layers = 999 if gpu else 0
        # Matrices repacked for AMX end in a segmentation fault (llama.cpp of llama-cpp-python 0.3.36).
        settings.use_extra_bufts = False
        self._weights = self._lib.llama_model_load_from_file(bytes(file), settings)
        if not self._weights:
            raise BadCheckpoint(
                "llama.cpp does not read it",
                where=str(file),
                hint="is it whole, and of an architecture that this llama-cpp-python knows?",
            )
        self.meter = Meter()
        self._context: Any = None
        self._cells = 0
        self._held: list[int] = []  # the scored text whose keys and values are kept
        self._known: dict[int, Any] = {}  # its logits, as far as they were wanted
        self._sequences = sequences + FIRST
        self._batch = max(batch, self._sequences)
        self.vocabulary = self.rows = int(self._lib.llama_vocab_n_tokens(self.tokens))
        self.device = torch.device("cpu")
        self.shares = False
        self.trained = int(self._lib.llama_model_n_ctx_train(self._weights))
        self.parameters = int(self._lib.llama_model_n_params(self._weights))
        self.precision = self._described()
        self._size = int(self._lib.llama_model_size(self._weights))

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as llama.cpp holds them."""
        return self._size

    @property
    def tokens(self) -> Any:
        """The file's vocabulary, for :mod:`evalsuite.engines._llama_tokens`.

        Raises:
            EngineFailed: the weights were freed, and the vocabulary with them.
        """
        if not self._weights:
            raise EngineFailed("the engine was closed", hint="open another one")
        return self._lib.llama_model_get_vocab(self._weights)

    def reserve(self, cells: int) -> None:
        """Make room for ``cells`` tokens of all sequences together.

        Raises:
            MemoryError: it does not fit.
        """
        import torch

        if cells <= self._cells:
            return
        self._free_context()
        settings = self._lib.llama_context_default_params()
        settings.n_ctx = cells
        settings.n_batch = settings.n_ubatch = self._batch
        settings.n_seq_max = self._sequences
        settings.n_threads = settings.n_threads_batch = torch.get_num_threads()
        settings.type_k = settings.type_v = _F32
        settings.flash_attn_type = self._lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.kv_unified = settings.swa_full = True
        self._context = self._lib.llama_init_from_model(self._weights, settings)
        if not self._context:
            raise MemoryError(f"not enough memory for {cells} tokens of context")
        self._cells = cells

    def logits(
        self,
        ids: Any,
        places: tuple[Any, Any],
        *,
        positions: Any = None,
        mask: Any = None,
        cache: Any = None,
    ) -> Any:
        """Logits (n, vocabulary) in float32 at ``places``; see :meth:`Model.logits`.

        Without a cache a row is text that is scored: what it shares with the row before is not
        computed again. With one, its rows go on where they ended, less what ``mask`` hides.
        """
        import numpy as np
        import torch

        rows, steps = places[0].tolist(), places[1].tolist()
        try:
            if cache is not None:
                entries = cache.extended(ids, mask, set(zip(rows, steps, strict=True)))
                found = self._compute(entries, decoding=ids.shape[1] == 1)
                return torch.from_numpy(np.stack(found))
            wanted: dict[int, list[int]] = {}
            for row, step in zip(rows, steps, strict=True):
                wanted.setdefault(row, []).append(step)
            known = {row: self._scored(ids[row].tolist(), wanted[row]) for row in wanted}
            return torch.from_numpy(
                np.stack([known[row][step] for row, step in zip(rows, steps, strict=True)])
            )
        except BaseException:
            self._forget()
            raise

    def new_cache(self) -> Sequences:
        """Room for rows that grow; what was there before is dropped."""
        self._forget()
        return Sequences(self._drop)

    def prefix(self, ids: Sequence[int]) -> Any:
        """None: what texts share is found while they are scored."""
        return None

    def close(self) -> None:
        """Free the weights; may be called twice."""
        self._free_context()
        if self._weights:
            self._lib.llama_model_free(self._weights)
            self._weights = None

    def _scored(self, tokens: list[int], steps: list[int]) -> dict[int, Any]:
        """Logits at ``steps``, computed from the first token that is not in the cache yet."""
        tokens = tokens[: max(steps) + 1]
        shared = common(self._held, tokens)
        known = {step: logits for step, logits in self._known.items() if step < shared}
        start = min([shared, *(step for step in steps if step not in known)])
        if start < len(tokens):
            start = self._keep(start)
            new = [
                Entry(tokens[at], at, (0,), at in steps and at not in known)
                for at in range(start, len(tokens))
            ]
            found = iter(self._compute(new))
            known |= {entry.position: next(found) for entry in new if entry.wanted}
            self._held = tokens
        self._known = known
        return known

    def _keep(self, tokens: int) -> int:
        """Drop all but the first ``tokens`` of the scored text; how many of them could be kept."""
        memory = self._lib.llama_get_memory(self._context)
        if self._lib.llama_memory_seq_rm(memory, 0, tokens, -1):
            return tokens
        self._lib.llama_memory_clear(memory, True)  # a recurrent state cannot go back
        return 0

    def _compute(self, entries: list[Entry], *, decoding: bool = False) -> list[Any]:
        """Logits (vocabulary,) of each wanted entry, in order."""
        import numpy as np

        self.meter.count(len(entries), decoding=decoding)
        found: list[Any] = []
        size = self._batch
        batch = self._lib.llama_batch_init(size, 0, self._sequences)
        try:
            for start in range(0, len(entries), size):
                part = entries[start : start + size]
                batch.n_tokens = len(part)
                for at, entry in enumerate(part):
                    batch.token[at] = entry.token
                    batch.pos[at] = entry.position
                    batch.n_seq_id[at] = len(entry.sequences)
                    for number, sequence in enumerate(entry.sequences):
                        batch.seq_id[at][number] = sequence
                    batch.logits[at] = entry.wanted
                status = self._lib.llama_decode(self._context, batch)
                if status == 1:
                    raise MemoryError(
                        f"not enough memory: {self._cells} tokens of context are full"
                    )
                if status:
                    raise RuntimeError(f"llama.cpp gives up with status {status}")
                for at, entry in enumerate(part):
                    if entry.wanted:
                        row = self._lib.llama_get_logits_ith(self._context, at)
                        found.append(np.ctypeslib.as_array(row, (self.vocabulary,)).copy())
        finally:
            self._lib.llama_batch_free(batch)
        return found

    def _drop(self, slot: int) -> None:
        memory = self._lib.llama_get_memory(self._context)
        self._lib.llama_memory_seq_rm(memory, slot, -1, -1)

    def _forget(self) -> None:
        self._held, self._known = [], {}
        if self._context:
            self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), False)

    def _free_context(self) -> None:
        if self._context:
            self._lib.llama_free(self._context)
        self._context, self._cells = None, 0
        self._held, self._known = [], {}

    def _described(self) -> str:
        text = ctypes.create_string_buffer(200)
        self._lib.llama_model_desc(self._weights, text, len(text))
        words = text.value.decode(errors="replace").split(" ", 2)  # architecture, size, precision
        return words[-1].removeprefix("(guessed) ")


_SILENT: list[Any] = []
"""llama.cpp keeps a pointer to the function that takes its log lines, so it must stay alive."""


def library() -> Any:
    """The bindings of llama.cpp, its log lines swallowed.

    Raises:
        EngineUnavailable: llama-cpp-python is not installed, or its library does not load.
    """
    try:
        import llama_cpp
    except ImportError:
        raise EngineUnavailable(
            "a GGUF file needs the package llama-cpp-python, which is not here",
            where="--engine llama_cpp",
            hint="pip install llama-cpp-python",
        ) from None
    except (OSError, RuntimeError) as fault:
        raise EngineUnavailable(
            f"llama-cpp-python does not load: {fault}",
            where="--engine llama_cpp",
            hint="install it again: pip install --force-reinstall --no-cache-dir llama-cpp-python",
        ) from None
    if not _SILENT:
        _SILENT.append(llama_cpp.llama_log_callback(lambda level, text, data: None))
        llama_cpp.llama_log_set(_SILENT[0], None)
        llama_cpp.llama_backend_init()
    return llama_cpp
