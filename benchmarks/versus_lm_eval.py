"""evalsuite and lm-eval's ``hf`` side by side: the same model, questions and answers; what each takes.

Everything is measured in processes of their own, imports included, in interleaved rounds: lm-eval's
command line and evalsuite's. Processor seconds are the primary figure, because they hold on a busy
machine too. lm-eval first tries every batch size once and goes on with its fastest.

    python benchmarks/versus_lm_eval.py [--only letters,full] [--size 30M] [--dtypes float32,bfloat16]

Prints a Markdown table a section, and fails where the two disagree: log-likelihoods by more than
1e-4 in float32, or more than a tenth of the generated texts (greedy ties of random weights).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cmmlu_versus_lm_eval import TOLERANCE, write_tasks
from versus_material import (
    FULL_TASK,
    TEXT_TASK,
    write_letters,
    write_model,
    write_texts,
)

from tasks.cmmlu import TASK as CMMLU

SUBJECTS = sorted(CMMLU.subjects)
_DIFFERENT_TEXTS = 0.1

Answers = dict[tuple[str, int], tuple[float, ...] | str]
"""(subject or task, number of the question) → log-likelihoods of the choices, or the text."""


class Section(msgspec.Struct, frozen=True):
    """One thing to measure.

    Attributes:
        subjects: of how many subjects, for letters; 0 for a task of texts.
        questions: a subject, or altogether.
        size: of the model; empty for the size that the user chose.
        batches: what lm-eval's batch size may be.
    """

    name: str
    title: str
    task: str
    questions: int
    subjects: int = 0
    size: str = ""
    batches: tuple[str, ...] = ("1", "8", "auto")


SECTIONS = (
    Section("letters", "multiple choice, letters", "cmmlu", 50, subjects=2),
    Section("full", "multiple choice, full text", FULL_TASK, 50),
    Section("generation", "generation, 64 tokens", TEXT_TASK, 32, batches=("8", "16", "32")),
    Section("start", "a few questions, start-up", "cmmlu", 20, subjects=1, batches=("8",)),
    Section("suite", "67 subjects", "cmmlu", 20, subjects=67, size="5M"),
)


class Taken(msgspec.Struct, frozen=True):
    """What one process took, in seconds; ``to_first`` until its first forward pass, from its start."""

    wall: float
    cpu: float
    to_first_wall: float
    to_first_cpu: float
    megabytes: float
    answers: Answers

    @property
    def after(self) -> float:
        """Processor seconds from the first forward pass on."""
        return self.cpu - self.to_first_cpu


def main() -> None:
    """Measure every section that was asked for; exit 1 where answers differ."""
    options = _options()
    wanted = options.only.split(",") if options.only else [section.name for section in SECTIONS]
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="versus-") as scratch:
        work = options.work or Path(scratch)
        for section in SECTIONS:
            if section.name not in wanted:
                continue
            for dtype in options.dtypes.split(","):
                bench = Bench(section, dtype, options, work)
                wrong += bench.measure()
                print(bench.table(), flush=True)
    if wrong:
        sys.exit("\n".join(wrong))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument(
        "--only", default="", help="comma-separated: " + ", ".join(s.name for s in SECTIONS)
    )
    parser.add_argument("--size", default="30M", help="5M, 30M or 120M")
    parser.add_argument("--dtypes", default="float32", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--questions", type=int, default=0, help="instead of a section's own number"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", default="", help="of lm-eval, instead of a section's own")
    parser.add_argument("--work", type=Path, help="keep models, data and outputs in this folder")
    return parser.parse_args()


class Bench:
    """One section with one dtype."""

    def __init__(
        self, section: Section, dtype: str, options: argparse.Namespace, work: Path
    ) -> None:
        self.section = section
        self.dtype = dtype
        self.size = section.size or options.size
        self.rounds = options.rounds
        self.questions = options.questions or section.questions
        self.batches = options.batches.split(",") if options.batches else list(section.batches)
        self.best = ""
        self.model = write_model(work / f"model-{self.size}", self.size)
        self.work = work / f"{section.name}-{dtype}"
        self.environment = _environment(options.threads, work)
        if section.subjects:
            self.subjects = SUBJECTS[: section.subjects]
            self.data = write_letters(self.work / "data", self.subjects, self.questions)
            write_tasks(self.data, self.data, self.subjects)
            self.their_tasks = [f"cmmlu_{subject}" for subject in self.subjects]
        else:
            self.data = write_texts(self.work / "data", section.task, self.questions)
            self.their_tasks = [section.task]
        self.ours: list[Taken] = []
        self.theirs: list[Taken] = []

    def measure(self) -> list[str]:
        """All rounds; what was wrong."""
        trials = {batch: self.run_theirs(batch) for batch in self.batches}
        self.best = min(trials, key=lambda batch: trials[batch].after)
        tried = ", ".join(f"{batch}: {taken.after:.1f} s" for batch, taken in trials.items())
        print(f"{self.label}: lm-eval by batch size: {tried}", file=sys.stderr)
        if len(trials) > 1:  # the first process filled the caches of the data
            self.theirs.append(trials[self.best])
        self.run_ours()
        for at in range(self.rounds):
            self.ours.append(self.run_ours())
            if len(self.theirs) <= at:
                self.theirs.append(self.run_theirs(self.best))
            print(f"{self.label}: round {at + 1} of {self.rounds}", file=sys.stderr)
        return list(self.differences())

    @property
    def label(self) -> str:
        """For messages and the table."""
        return f"{self.section.title}, {self.size}, {self.dtype}"

    def run_ours(self) -> Taken:
        """``evalsuite run`` in a process of its own."""
        out = Path(tempfile.mkdtemp(dir=self.work))
        task = self.section.task
        extra = ["--task-path", str(self.data)]
        if self.section.subjects:
            extra = ["--variant", f"{task}=lm-eval"]
        command = [
            *(sys.executable, "-m", "evalsuite", "run", "--model", str(self.model)),
            *("--tasks", task, "--data", f"{task}={self.data}", *extra, "--dtype", self.dtype),
            *("--device", "cpu", "--no-cache", "--out", str(out), "--display", "plain"),
        ]
        wall, cpu, megabytes = _timed(command, self.environment, out / "log")
        [manifest] = out.glob("*/run.json")
        first = json.loads(manifest.read_text(encoding="utf-8"))["first_forward"]
        rows = (manifest.parent / "records.jsonl").read_text(encoding="utf-8").splitlines()
        answers = dict(map(_our_answer, map(json.loads, rows)))
        return Taken(wall, cpu, first["wall"], first["cpu"], megabytes, answers)

    def run_theirs(self, batch: str) -> Taken:
        """``lm-eval run --model hf`` in a process of its own."""
        out = Path(tempfile.mkdtemp(dir=self.work))
        arguments = f"pretrained={self.model},dtype={self.dtype}"
        mark = out / "first.json"
        command = [
            *(sys.executable, str(Path(__file__).with_name("versus_worker.py")), str(mark)),
            *("run", "--model", "hf", "--model_args", arguments, "--device", "cpu"),
            *("--tasks", ",".join(self.their_tasks), "--include_path", str(self.data)),
            *("--num_fewshot", "5", "--batch_size", batch, "--log_samples"),
            *("--output_path", str(out)),
        ]
        wall, cpu, megabytes = _timed(command, self.environment, out / "log")
        first = json.loads(mark.read_text(encoding="utf-8"))
        answers: Answers = {}
        for file in out.glob("*/samples_*.jsonl"):
            task = file.name.removeprefix("samples_").rpartition("_")[0].removeprefix("cmmlu_")
            for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
                answers[task, row["doc_id"]] = _their_answer(row["filtered_resps"])
        return Taken(wall, cpu, first["wall"], first["cpu"], megabytes, answers)

    def differences(self) -> Iterator[str]:
        """What the two do not agree on."""
        ours, theirs = self.ours[-1].answers, self.theirs[-1].answers
        if ours.keys() != theirs.keys():
            yield f"{self.label}: {len(ours)} answers here and {len(theirs)} in lm-eval"
            return
        pairs = [(ours[key], theirs[key]) for key in ours]
        if self.section.task == TEXT_TASK:
            unequal = sum(a != b for a, b in pairs) / len(pairs)
            self.agreement = f"{1 - unequal:.0%} of the texts are equal"
            if self.dtype == "float32" and unequal > _DIFFERENT_TEXTS:
                yield f"{self.label}: {unequal:.0%} of the texts differ"
            return
        numbers = [(_floats(a), _floats(b)) for a, b in pairs]
        worst = max(abs(a - b) for x, y in numbers for a, b in zip(x, y, strict=True))
        picked = sum(x.index(max(x)) == y.index(max(y)) for x, y in numbers) / len(pairs)
        self.agreement = f"largest difference {worst:.1e}, {picked:.1%} of the picks are equal"
        if self.dtype == "float32" and worst > TOLERANCE:
            yield f"{self.label}: log-likelihoods differ by up to {worst:.1e}"

    def table(self) -> str:
        """Markdown: medians with their ranges, and ratios of medians."""
        count = len(self.ours[-1].answers)
        lines = [
            f"\n**{self.label}**: {count} questions, {len(self.ours)} rounds,"
            f" lm-eval's batch size {self.best}; {self.agreement}.\n",
            "| | evalsuite | lm-eval `hf` | ratio |",
            "|---|---|---|---|",
        ]
        for title, field, unit in (
            ("processor time, whole process", "cpu", "s"),
            ("processor time from the first forward pass on", "after", "s"),
            ("wall time, whole process", "wall", "s"),
            ("start to first forward pass, processor", "to_first_cpu", "s"),
            ("start to first forward pass, wall", "to_first_wall", "s"),
            ("peak memory", "megabytes", "MB"),
        ):
            ours = [getattr(taken, field) for taken in self.ours]
            theirs = [getattr(taken, field) for taken in self.theirs]
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            lines.append(
                f"| {title} | {_spread(ours)} {unit} | {_spread(theirs)} {unit} "
                f"| **{statistics.median(theirs) / statistics.median(ours):.1f}×**"
                f" ({min(ratios):.1f}–{max(ratios):.1f}) |"
            )
        return "\n".join(lines) + "\n"


def _our_answer(row: dict[str, Any]) -> tuple[tuple[str, int], tuple[float, ...] | str]:
    if row.get("error") is not None:
        sys.exit(f"evalsuite: {row['sample']}: {row['error']['message']}")
    group, _, number = row["sample"].rpartition("/")
    response = row["response"]
    answer = tuple(response["logprobs"]) if response["type"] == "chosen" else response["text"]
    return (row["task"] if group == "questions" else group, int(number)), answer


def _their_answer(responses: Sequence[Any]) -> tuple[float, ...] | str:
    if isinstance(responses[0], str):
        return responses[0]
    return tuple(float(response[0]) for response in responses)


def _floats(answer: tuple[float, ...] | str) -> tuple[float, ...]:
    assert not isinstance(answer, str)
    return answer


def _environment(threads: int, work: Path) -> dict[str, str]:
    root = Path(__file__).resolve().parent.parent
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "0",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(work / "datasets"),
        "HF_DATASETS_OFFLINE": "1",
    }


def _timed(
    command: list[str], environment: dict[str, str], log: Path
) -> tuple[float, float, float]:
    """Wall and processor seconds and peak megabytes of a process and its children."""
    begun = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(
            f"{' '.join(command)}\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
        )
    return time.monotonic() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def _spread(numbers: list[float]) -> str:
    middle = statistics.median(numbers)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    return f"{middle:.{digits}f} ({min(numbers):.{digits}f}–{max(numbers):.{digits}f})"


if __name__ == "__main__":
    main()
