"""What the vLLM engine and its worker process say to each other, and how it is framed.

A frame is four bytes of length, most significant first, and one message in MessagePack.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from evalsuite.request import Generated, Sampling

FOLDER = "EVALSUITE_VLLM_FOLDER"
"""Variable that names the worker's folder for temporary files and its log."""

_LENGTH = 4
T = TypeVar("T")


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load a checkpoint, in place of the one that is loaded.

    Attributes:
        path: the folder, as the file system's bytes.
        context: tokens that fit, prompt and answer together; None where vLLM is to find out.
        arguments: of vLLM's ``EngineArgs``, beside those that the worker decides itself.
        given: which of them the user gave.
    """

    path: bytes
    dtype: str
    context: int | None
    trust_remote_code: bool
    arguments: dict[str, Any]
    given: tuple[str, ...] = ()


class Job(msgspec.Struct, frozen=True):
    """One request to vLLM.

    Attributes:
        number: given back with the answer; never used twice.
        wanted: ids whose log-probabilities after ``tokens`` are asked for.
        rows: how many of the last ``tokens`` are asked for their log-probabilities too.
        shared: whether the cache may be read, although ``rows`` are asked for.
        sampling: set for an answer that is generated, and then nothing above is.
        endless: the answer goes on to its limit, whatever token would end it.
    """

    number: int
    tokens: tuple[int, ...]
    wanted: tuple[int, ...] = ()
    rows: int = 0
    shared: bool = True
    sampling: Sampling | None = None
    endless: bool = False


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Requests to be answered, in this order if need be."""

    jobs: tuple[Job, ...]


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Drop whatever is under way, and the prefix cache."""


Order = Load | Ask | Forget


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The checkpoint is ready.

    Attributes:
        block: tokens of a block of the prefix cache.
        context: as asked, or as vLLM found out.
    """

    block: int
    context: int


class Measured(msgspec.Struct, frozen=True, tag=True):
    """The answer to a job that is not generated. ``logprob`` is natural.

    Attributes:
        likeliest: the id that greedy decoding would choose after the tokens.
        logprobs: of the wanted ids, in their order.
        rows: (log-probability, whether it is the greatest) of the last tokens, in their order.
    """

    number: int
    likeliest: int
    logprobs: tuple[float, ...]
    rows: tuple[tuple[float, bool], ...] = ()


class Written(msgspec.Struct, frozen=True, tag=True):
    """The answer to a job that is generated; None where the logits were not numbers."""

    number: int
    answer: Generated | None


class Declined(msgspec.Struct, frozen=True, tag=True):
    """vLLM does not take the job, for a reason of its own."""

    number: int
    message: str


Answer = Measured | Written | Declined


class Answered(msgspec.Struct, frozen=True, tag=True):
    """What was finished."""

    answers: tuple[Answer, ...]


class Trouble(msgspec.Struct, frozen=True, tag=True):
    """The worker gives up.

    Attributes:
        kind: what to do about it, see :mod:`evalsuite.engines._vllm_trouble`.
        message: the fault in one line.
    """

    kind: str
    message: str


Report = Loaded | Answered | Trouble


class Stream(Protocol):
    """A pipe's end."""

    def read(self, size: int, /) -> bytes: ...
    def write(self, data: bytes, /) -> Any: ...
    def flush(self) -> None: ...


def send(stream: Stream, message: Order | Report) -> None:
    """Write one message.

    Raises:
        OSError: nobody reads any more.
    """
    body = msgspec.msgpack.encode(message)
    stream.write(len(body).to_bytes(_LENGTH, "big") + body)
    stream.flush()


def receive(stream: Stream, kind: Any) -> Any:
    """Read one message of a type; None when nobody writes any more."""
    head = stream.read(_LENGTH)
    if len(head) < _LENGTH:
        return None
    size = int.from_bytes(head, "big")
    body = stream.read(size)
    if len(body) < size:
        return None
    return msgspec.msgpack.decode(body, type=kind)
