"""GGUF files through llama.cpp, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from evalsuite.checkpoint import Checkpoint
from evalsuite.engines._batching import Budget, group_by_prefix
from evalsuite.engines._llama_model import LlamaModel, library
from evalsuite.engines._llama_tokens import EmbeddedTokens, NeighbouringTokens
from evalsuite.engines._loading import Loading
from evalsuite.engines._local import Loaded, LocalEngine
from evalsuite.engines._model import Model
from evalsuite.engines._scoring import score
from evalsuite.engines._tokens import Tokens
from evalsuite.engines.base import Asked, Footprint, Prepared
from evalsuite.engines.options import DEFAULT, ModelOptions
from evalsuite.errors import BadCheckpoint, BadOption, EngineUnavailable
from evalsuite.request import Failure, Generate, Response

_MAGIC = b"GGUF"
_BATCH_TOKENS = 512
_CACHED_TOKENS = 8
_ROWS = 16
_BESIDE = ("tokenizer.json", "tokenizer.model", "vocab.json")


class LlamaCppEngine(LocalEngine):
    """Exact log-likelihoods from llama.cpp's logits; sampling and stops as in the other engines.

    The file is loaded when the engine opens: its tokenizer is in it, and loading is one call that
    nothing interrupts.

    Prompts are tokenised with the tokenizer that lies beside the file, else with the file's own.

    Args:
        options: the dtype is ``auto``, since the file says how its weights are stored. The device
            ``auto`` is the GPU where llama.cpp was built for one, else the processor.

    Raises:
        BadCheckpoint: the file is damaged, or the tokenizer beside it is another model's.
        BadOption: a dtype, or an unknown device.
        EngineUnavailable: llama-cpp-python is not installed, or it was built without a GPU.
    """

    name = "llama_cpp"

    def __init__(self, checkpoint: Checkpoint, options: ModelOptions = DEFAULT) -> None:
        file = gguf_file(checkpoint)
        if options.dtype != "auto":
            raise BadOption(
                "a GGUF file says itself how its weights are stored",
                where=f"--dtype {options.dtype}",
                hint="leave --dtype out",
            )
        gpu = _wants_gpu(options.device)
        _check_magic(file)
        batch_tokens = options.batch_tokens or _BATCH_TOKENS
        model = LlamaModel(file, batch=batch_tokens, sequences=_ROWS, gpu=gpu)
        tokens = _tokens(model, checkpoint, file, options.trust_remote_code)
        loaded = Loaded(
            model,
            model.parameters,
            _end_ids(model, tokens),
            Footprint(weight_bytes=model.weight_bytes),
            {
                "version": f"llama-cpp-python {library().__version__}",
                "dtype": model.precision,
                "device": "gpu" if gpu else "cpu",
            },
        )
        super().__init__(
            Loading.of(loaded),
            tokens,
            options,
            context=model.trained or checkpoint.context,
            embedding_rows=model.rows,
            batch_tokens=batch_tokens,
            cached_tokens=_CACHED_TOKENS * batch_tokens,
            rows=_ROWS,
            identity=[checkpoint.fingerprint, self.name, model.precision, type(tokens).__name__],
        )

    def answer(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Response | Failure]]:
        """Answer what was prepared, in as much memory as the longest of it needs."""
        model = self._model
        assert isinstance(model, LlamaModel)
        needs = [_needs(item) for item in prepared if item.failure is None]
        if needs:
            longest = min(max(needs), self.context or max(needs))
            model.reserve(max(longest, min(self._cached_tokens, sum(needs))) + 1)
        yield from super().answer(prepared)

    def _score(self, model: Model, scored: Asked) -> Iterator[tuple[int, Response | Failure]]:
        """Questions that begin alike one after the other, so that their beginning is computed once."""
        for group in group_by_prefix(
            scored, lambda asked: asked[1].prompt, lambda asked: len(asked[1].prompt)
        ):
            budget = Budget(self._batch_tokens)
            yield from score(model, group.rows, context=self.context, tokens=budget)

    def close(self) -> None:
        """Let go of the weights."""
        if self._loading is not None and isinstance(self._model, LlamaModel):
            self._model.close()
        super().close()


def gguf_file(checkpoint: Checkpoint) -> Path:
    """The one GGUF file of a checkpoint.

    Raises:
        BadCheckpoint: there is none, or a choice.
    """
    if checkpoint.path.is_file():
        return checkpoint.path
    found = sorted(checkpoint.path.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    raise BadCheckpoint(
        f"{len(found)} GGUF files" if found else "no GGUF file",
        where=str(checkpoint.path),
        hint=f"name one of them: --model {found[0]}" if found else "give --model FILE.gguf",
    )


def _needs(item: Prepared) -> int:
    """Tokens that a request takes in the cache."""
    if isinstance(item.request, Generate):
        return len(item.prompt) + item.request.sampling.max_tokens
    return len(item.prompt) + max(map(len, item.tails), default=0)


def _wants_gpu(device: str) -> bool:
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise BadOption(f"no device named {device!r}", where="--device", hint="auto, cpu or cuda")
    able = bool(library().llama_supports_gpu_offload())
    if kind == "cuda" and not able:
        raise EngineUnavailable(
            "this llama-cpp-python was built without a GPU",
            where=f"--device {device}",
            hint="CMAKE_ARGS=-DGGML_CUDA=ON pip install --force-reinstall llama-cpp-python",
        )
    return able and kind != "cpu"


def _check_magic(file: Path) -> None:
    try:
        with file.open("rb") as stream:
            start = stream.read(len(_MAGIC))
    except OSError as fault:
        raise BadCheckpoint(f"cannot be read: {fault.strerror}", where=str(file)) from None
    if start != _MAGIC:
        raise BadCheckpoint(
            "not a GGUF file", where=str(file), hint="copy it again; it must begin with GGUF"
        )


def _tokens(
    model: LlamaModel, checkpoint: Checkpoint, file: Path, trust_remote_code: bool
) -> Tokens:
    if not any((file.parent / name).is_file() for name in _BESIDE):
        return EmbeddedTokens(model, str(file))
    folder = msgspec.structs.replace(checkpoint, path=file.parent)
    return NeighbouringTokens(folder, model, str(file), trust_remote_code=trust_remote_code)


def _end_ids(model: LlamaModel, tokens: Tokens) -> frozenset[int]:
    """Every id that ends an answer, as the file or the tokenizer says."""
    lib, vocabulary = library(), model.tokens
    said = {i for i in range(model.vocabulary) if lib.llama_vocab_is_eog(vocabulary, i)}
    return frozenset(said | ({tokens.eos_id} if tokens.eos_id is not None else set()))
