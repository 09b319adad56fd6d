"""The options of ``evalsuite run``, ``bench`` and ``gate``, and those that other commands have too."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class DisplayChoice(enum.StrEnum):
    """How progress is shown."""

    auto = "auto"
    rich = "rich"
    plain = "plain"
    json = "json"


class ChoicesChoice(enum.StrEnum):
    """How a server answers multiple choice."""

    logprobs = "logprobs"
    written = "written"


Models = Annotated[
    list[str],
    typer.Option(
        help="A checkpoint of any form, a hub id[@revision], replay:FILE, or with --base-url a"
        " served model's name. Repeatable."
    ),
]
Tasks = Annotated[
    list[str],
    typer.Option(
        help="Task names with commas, ladder_* for a group, or all; NAME/SUBSET takes a part."
    ),
]
Data = Annotated[
    list[str] | None, typer.Option(help="TASK=PATH of real data in its official layout.")
]
Limit = Annotated[int | None, typer.Option(help="A seeded, stratified subset of N samples a task.")]
NumFewshot = Annotated[list[str] | None, typer.Option(help="K examples for every task, or TASK=K.")]
VariantOf = Annotated[list[str] | None, typer.Option(help="TASK=VARIANT of the prompt.")]
SamplingText = Annotated[
    str, typer.Option(help="greedy, or temperature=1,top_p=0.85,… instead of the tasks' own.")
]
EngineName = Annotated[
    str, typer.Option(help="auto, transformers, vllm, llama_cpp, openai or replay:FILE.")
]
EngineOption = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE for vLLM, such as tensor_parallel_size=2. Repeatable."),
]
ChatTemplateName = Annotated[
    str, typer.Option(help="auto, none, or a built-in template by name; server for a server's own.")
]
Dtype = Annotated[
    str, typer.Option(help="auto, float32, bfloat16, float16, or quantised here: int8, int4.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
BatchTokens = Annotated[int | None, typer.Option(help="Tokens in one batch; found automatically.")]
BaseUrl = Annotated[str, typer.Option(help="An OpenAI-compatible server: http://HOST:PORT/v1.")]
KeyVariable = Annotated[str, typer.Option(help="The environment variable with the server's key.")]
Choices = Annotated[
    ChoicesChoice,
    typer.Option(help="Multiple choice on a server: log-probabilities, or the letter it writes."),
]
TokenizerFolder = Annotated[
    str, typer.Option(help="A folder with the served model's tokenizer, to spare its server.")
]
Concurrency = Annotated[
    int, typer.Option(help="Requests to a server at once, at most; found automatically.")
]
Timeout = Annotated[float, typer.Option(help="Seconds that one request may take.")]
Price = Annotated[str, typer.Option(help="IN,OUT or IN,OUT,CACHED: money per million tokens.")]
Out = Annotated[Path, typer.Option(help="Where run folders are made.")]
Seed = Annotated[int, typer.Option(help="For --limit and for sampling.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and one exact prompt a task.")
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Ask samples again whose record is an error.")
]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave malformed data rows out, and count them.")
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Compute answers that an earlier run knows.")
]


class SandboxChoice(enum.StrEnum):
    """Where programs run."""

    bubblewrap = "bubblewrap"
    none = "none"


SandboxName = Annotated[
    SandboxChoice,
    typer.Option("--sandbox", help="Where programs of code tasks run; none: as you, unprotected."),
]
TaskPath = Annotated[list[Path] | None, typer.Option(help="A folder of task plugins. Repeatable.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the checkpoint's own Python code.")
]
Base = Annotated[
    str | None, typer.Option(help="The base of a delta or adapter, if it lies elsewhere.")
]
Display = Annotated[DisplayChoice, typer.Option(help="How to show progress.")]


BenchModels = Annotated[
    list[str],
    typer.Option(help="A checkpoint, or with --base-url a served model's name. Repeatable."),
]
Dtypes = Annotated[
    str, typer.Option(help="With commas: auto, float32, bfloat16, float16, int8, int4.")
]
EngineNames = Annotated[str, typer.Option(help="With commas: auto, transformers, …")]
BatchTokenSizes = Annotated[
    str, typer.Option(help="With commas: tokens in one batch; found automatically.")
]
PromptTokens = Annotated[int, typer.Option(help="Of each request.")]
AnswerTokens = Annotated[int, typer.Option(help="Of each request.")]
Requests = Annotated[int, typer.Option(help="Of each workload, or of each rate.")]
TasksInstead = Annotated[
    str, typer.Option(help="Tasks, with commas, whose requests are taken instead.")
]
Rounds = Annotated[
    int, typer.Option(help="Measure each configuration so often, in turn with the others.")
]
Repeats = Annotated[int, typer.Option(help="Timings in a round.")]
LoadedServer = Annotated[
    str, typer.Option(help="Load an OpenAI-compatible server instead: http://HOST:PORT/v1.")
]
Rates = Annotated[str, typer.Option(help="With commas: requests a second, or inf for all at once.")]
TtftLimit = Annotated[
    float | None, typer.Option(help="Goodput: seconds until the first token at most.")
]
TpotLimit = Annotated[float | None, typer.Option(help="Goodput: seconds a token after it at most.")]
BenchSeed = Annotated[int, typer.Option(help="For prompts, arrivals and --limit.")]
BenchOut = Annotated[Path, typer.Option(help="Where the record's folder is made.")]
JsonRecord = Annotated[bool, typer.Option("--json", help="The record as JSON.")]

Baseline = Annotated[Path | None, typer.Option(help="The run to hold the candidate against.")]
Candidate = Annotated[Path | None, typer.Option(help="The run to judge.")]
MaxDrop = Annotated[
    str, typer.Option(help="The loss still accepted: 1pt on the shown scale, or 2% relative.")
]
OnlyTasks = Annotated[str, typer.Option(help="Only these, with commas.")]
MinCoverage = Annotated[
    float, typer.Option(help="Share of the samples that both runs must have a score for.")
]
MaxSlowdown = Annotated[str, typer.Option(help="The time that may be lost on any workload: 5%.")]
MaxMemoryGrowth = Annotated[str, typer.Option(help="By how much the peak of memory may grow: 5%.")]
BaselineBench = Annotated[
    str, typer.Option(help="Its record of speed: FOLDER, or FOLDER:CONFIGURATION.")
]
CandidateBench = Annotated[str, typer.Option(help="Likewise of the candidate.")]
JsonVerdict = Annotated[bool, typer.Option("--json", help="The verdict as JSON.")]
