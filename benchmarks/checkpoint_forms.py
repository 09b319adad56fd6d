"""One checkpoint in all its forms: what each costs in quality and what it gains in speed.

float32, bfloat16, float16, int8 and int4 from the same folder, and any GGUF files made from it.
Every form answers the same questions through the library. Beside the score stand its paired
difference to float32, how far log-likelihoods move (of choices, and of the texts that float32
generates, a token), and the median of tokens a second over interleaved rounds.

    python benchmarks/checkpoint_forms.py --model CHECKPOINT --tasks a,b [--limit N] [--gguf FILE]...
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import msgspec

from evalsuite.agenda import Job, agenda
from evalsuite.cache import AnswerCache
from evalsuite.chat import ChatTemplate, resolve_template
from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.base import Engine, Prepared
from evalsuite.engines.opening import open_engine
from evalsuite.engines.options import ModelOptions
from evalsuite.errors import EngineUnavailable
from evalsuite.plan import PlannedTask, TaskChoice, plan_task
from evalsuite.record import Record
from evalsuite.request import Chosen, Generated, Response, Score, Scored
from evalsuite.scoring import Scorer
from evalsuite.stats.interval import estimate
from evalsuite.stats.paired import paired_difference

DTYPES = ("float32", "bfloat16", "float16", "int8", "int4")


class Form(msgspec.Struct):
    """A form that runs here, with what was measured of it; rates are tokens a second."""

    name: str
    engine: Engine
    jobs: list[Job]
    megabytes: float
    records: dict[str, list[Record]] = {}
    answers: list[Response] = []
    rates: list[float] = []


def main() -> None:
    """Open every form, ask in interleaved rounds, print one table a task and one of speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--gguf", action="append", default=[], help="a file of the same checkpoint")
    parser.add_argument("--tasks", required=True, help="names, with commas")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of torch and llama.cpp")
    parser.add_argument("--dtypes", default=",".join(DTYPES), help="float32 always comes first")
    options = parser.parse_args()
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    tasks = [plan_task(TaskChoice(label=n), limit=options.limit) for n in options.tasks.split(",")]
    dtypes = ["float32", *(d for d in options.dtypes.split(",") if d != "float32")]
    wanted = [(dtype, options.model, dtype) for dtype in dtypes]
    wanted += [(f"gguf {Path(file).stem}", file, "auto") for file in options.gguf]
    template = resolve_template(open_checkpoint(options.model))
    forms = [form for item in wanted if (form := open_form(*item, tasks, template)) is not None]
    for _ in range(options.rounds):
        for form in forms:
            ask(form, tasks)
    for planned in tasks:
        print_quality(planned, forms)
    print_speed(forms)
    for form in forms:
        form.engine.close()


def open_form(
    name: str,
    model: str,
    dtype: str,
    tasks: list[PlannedTask],
    template: ChatTemplate | None,
) -> Form | None:
    """Load one form; what cannot run here is said and left out.

    Args:
        template: the checkpoint's own, so that every form is asked the very same.
    """
    try:
        checkpoint = open_checkpoint(model)
        engine = open_engine(
            "auto", checkpoint, ModelOptions(template=template, dtype=dtype, device="cpu")
        )
        engine.ready()
    except EngineUnavailable as fault:
        print(f"{name}: {fault.one_line()}", file=sys.stderr)
        return None
    jobs = list(agenda(tasks, engine, AnswerCache(None), {}).jobs)
    return Form(name, engine, jobs, megabytes(engine, Path(model)))


def megabytes(engine: Engine, file: Path) -> float:
    """Bytes of the weights as they are computed with: in memory, or of a GGUF file."""
    if file.is_file():
        return file.stat().st_size / 1e6
    return float(engine._model.weight_bytes) / 1e6  # type: ignore[attr-defined]


def ask(form: Form, tasks: list[PlannedTask]) -> None:
    """One round: all questions, timed, and their records."""
    ready = [job.prepared for job in form.jobs]
    begun = time.perf_counter()
    answers = collect(form.engine, ready)
    seconds = time.perf_counter() - begun
    form.answers = answers
    form.rates.append(sum(map(tokens_of, answers)) / seconds)
    form.records = {planned.part.name: [] for planned in tasks}
    scorer: Scorer[None] = Scorer()
    for job, answer in zip(form.jobs, answers, strict=True):
        record = Record(
            task=job.planned.part.name,
            sample=job.sample.id,
            tags=job.sample.tags,
            cluster=job.sample.cluster,
            target=job.sample.target,
            response=answer,
        )
        scored = scorer.add(job.planned, job.sample, record, None)
        form.records[job.planned.part.name] += [done for _, done in scored]


def collect(engine: Engine, ready: list[Prepared]) -> list[Response]:
    """Answers in the order of the questions; a failure ends the benchmark."""
    found: dict[int, Response] = {}
    for index, answer in engine.answer(ready):
        if not isinstance(answer, (Chosen, Generated, Scored)):
            sys.exit(f"{ready[index].name}: {answer}")
        found[index] = answer
    return [found[index] for index in range(len(ready))]


def tokens_of(answer: Response) -> int:
    """Tokens of prompt and answer, choices included."""
    if isinstance(answer, Chosen):
        return answer.prompt_tokens + sum(answer.token_counts)
    if isinstance(answer, Scored):
        return answer.prompt_tokens + answer.token_count
    return answer.prompt_tokens + len(answer.token_ids)


def likelihoods(form: Form, reference: Form, task: str) -> list[float]:
    """Log-likelihood a token of every choice, and of the texts that the reference generated."""
    found: list[float] = []
    probes: list[tuple[str, Score]] = []
    for job, mine, theirs in zip(form.jobs, form.answers, reference.answers, strict=True):
        if job.planned.part.name != task:
            continue
        if isinstance(mine, Chosen):
            pairs = zip(mine.logprobs, mine.token_counts, strict=True)
            found += [logprob / count for logprob, count in pairs]
        elif isinstance(theirs, Generated) and theirs.text.strip():
            prompt = job.prepared.request.prompt
            probes.append((job.prepared.name, Score(prompt, theirs.text)))
    ready = form.engine.prepare([name for name, _ in probes], [probe for _, probe in probes])
    for answer in collect(form.engine, ready):
        assert isinstance(answer, Scored)
        found.append(answer.logprob / answer.token_count)
    return found


def print_quality(planned: PlannedTask, forms: list[Form]) -> None:
    """Score, paired difference to float32, and how far log-likelihoods move, form by form."""
    part = planned.part
    metric = next(m for m in part.metrics if m.name == part.main_metric)
    reference = forms[0]
    base = likelihoods(reference, reference, part.name)
    print(f"\n{part.name}, {part.samples} samples, {metric.name}")
    print(
        f"{'form':<24}{'score':>8}{'difference to float32':>30}{'p':>7}"
        f"{'better':>8}{'worse':>7}{'mean |Δll|':>12}{'max |Δll|':>11}"
    )
    for form in forms:
        records = form.records[part.name]
        score = estimate(metric, records).value
        d = paired_difference(metric, reference.records[part.name], records)
        shift = f"{d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
        moved = [
            abs(a - b) for a, b in zip(likelihoods(form, reference, part.name), base, strict=True)
        ]
        mean, most = (statistics.fmean(moved), max(moved)) if moved else (0.0, 0.0)
        print(
            f"{form.name:<24}{score:>8.4f}{shift:>30}{d.p_value:>7.3f}"
            f"{d.better:>8}{d.worse:>7}{mean:>12.2g}{most:>11.2g}"
        )


def print_speed(forms: list[Form]) -> None:
    """Median tokens a second, their range, and the ratio to float32."""
    reference = statistics.median(forms[0].rates)
    print(f"\n{'form':<24}{'weights MB':>11}{'tokens/s':>10}{'range':>16}{'× float32':>11}")
    for form in forms:
        middle = statistics.median(form.rates)
        spread = f"{min(form.rates):.0f}–{max(form.rates):.0f}"
        print(
            f"{form.name:<24}{form.megabytes:>11.2f}{middle:>10.0f}{spread:>16}"
            f"{middle / reference:>11.2f}"
        )


if __name__ == "__main__":
    main()
