"""CMMLU, variant ``lm-eval``: the same accuracy per subject as lm-eval's own ``hf`` model.

Both run on the same checkpoint and the same files; lm-eval uses its own task definitions, with only
the data set replaced by the local one. Prints a table and fails on any difference of accuracy, of a
picked answer, or of a log-likelihood beyond 1e-4.

    python benchmarks/cmmlu_versus_lm_eval.py --data CMMLU_FOLDER --model CHECKPOINT [--subjects a,b]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

TOLERANCE = 1e-4

Answers = dict[str, list[tuple[float, ...]]]
"""Subject → log-likelihoods of the four letters, question by question."""


def main() -> None:
    """Run both, compare, exit 1 on a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--subjects", default="", help="comma-separated; all by default")
    parser.add_argument("--num-fewshot", type=int, default=5)
    parser.add_argument("--batch-size", default="8", help="of lm-eval")
    options = parser.parse_args()
    found = sorted(file.stem for file in (options.data / "test").glob("*.csv"))
    subjects = options.subjects.split(",") if options.subjects else found

    begun = time.perf_counter()
    ours, our_picks, gold = evalsuite_answers(options, subjects)
    ours_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    theirs, their_accuracy = lm_eval_answers(options, subjects)
    theirs_seconds = time.perf_counter() - begun

    worst, wrong = 0.0, []
    print(f"{'subject':<44}{'n':>6}{'evalsuite':>12}{'lm-eval':>12}{'max |Δ|':>12}")
    for subject in subjects:
        pairs = list(zip(ours[subject], theirs[subject], strict=True))
        delta = max(abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True))
        right = sum(p == g for p, g in zip(our_picks[subject], gold[subject], strict=True))
        accuracy = right / len(pairs)
        worst = max(worst, delta)
        if abs(accuracy - their_accuracy[subject]) > 1e-12 or delta > TOLERANCE:
            wrong.append(subject)
        theirs_shown = their_accuracy[subject]
        print(f"{subject:<44}{len(pairs):>6}{accuracy:>12.6f}{theirs_shown:>12.6f}{delta:>12.2e}")
    questions = sum(len(rows) for rows in ours.values())
    print(f"\n{questions} questions, {len(subjects)} subjects, largest difference {worst:.2e}")
    print(f"wall: evalsuite {ours_seconds:.1f} s, lm-eval {theirs_seconds:.1f} s, imports included")
    if wrong:
        sys.exit(f"differ: {', '.join(wrong)}")
    print("equal accuracy in every subject")


def evalsuite_answers(
    options: argparse.Namespace, subjects: list[str]
) -> tuple[Answers, dict[str, list[int]], dict[str, list[int]]]:
    """Log-likelihoods, picks and gold indices by subject, through evalsuite's own run."""
    from evalsuite.agenda import agenda
    from evalsuite.cache import AnswerCache
    from evalsuite.contestant import EngineOptions, find_contestants
    from evalsuite.plan import TaskChoice, plan_task
    from evalsuite.request import Chosen

    choice = TaskChoice(
        label="cmmlu", variant="lm-eval", num_fewshot=options.num_fewshot, data=options.data
    )
    planned = plan_task(choice)
    [contestant] = find_contestants([str(options.model)], EngineOptions(dtype="float32"))
    engine = contestant.open_engine()
    pairs = zip(planned.samples, planned.requests, strict=True)
    wanted = [(sample, request) for sample, request in pairs if sample.tags["subject"] in subjects]
    chosen = msgspec.structs.replace(
        planned, samples=[sample for sample, _ in wanted], requests=[r for _, r in wanted]
    )
    jobs = agenda([chosen], engine, AnswerCache(None), {}).jobs
    answers: dict[int, Chosen] = {}
    for index, answer in engine.answer([job.prepared for job in jobs]):
        if not isinstance(answer, Chosen):
            sys.exit(f"{jobs[index].prepared.name}: {answer}")
        answers[index] = answer
    engine.close()
    likelihoods: Answers = {subject: [] for subject in subjects}
    picks: dict[str, list[int]] = {subject: [] for subject in subjects}
    gold: dict[str, list[int]] = {subject: [] for subject in subjects}
    for index, job in enumerate(jobs):
        subject = job.sample.tags["subject"]
        picked = answers[index].picked
        likelihoods[subject].append(answers[index].logprobs)
        picks[subject].append(-1 if picked is None else picked)
        gold[subject].append("ABCD".index(str(job.sample.target)))
    return likelihoods, picks, gold


def lm_eval_answers(
    options: argparse.Namespace, subjects: list[str]
) -> tuple[Answers, dict[str, float]]:
    """Log-likelihoods and accuracy by subject, through lm-eval's own evaluator and tasks."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as folder:
        write_tasks(Path(folder), options.data, subjects)
        model = HFLM(
            pretrained=str(options.model),
            dtype="float32",
            device="cpu",
            batch_size=int(options.batch_size),
        )
        results: dict[str, Any] = lm_eval.simple_evaluate(
            model=model,
            tasks=[f"cmmlu_{subject}" for subject in subjects],
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            num_fewshot=options.num_fewshot,
            bootstrap_iters=0,
            log_samples=True,
        )
    answers: Answers = {}
    accuracy = {}
    for subject in subjects:
        rows = sorted(results["samples"][f"cmmlu_{subject}"], key=lambda row: row["doc_id"])
        answers[subject] = [tuple(float(r[0]) for r in row["filtered_resps"]) for row in rows]
        accuracy[subject] = float(results["results"][f"cmmlu_{subject}"]["acc,none"])
    return answers, accuracy


def write_tasks(folder: Path, data: Path, subjects: list[str]) -> None:
    """lm-eval's installed CMMLU definitions, pointed at local rows (as JSON, so cells stay text)."""
    import csv

    import lm_eval

    installed = Path(lm_eval.__file__).parent / "tasks" / "cmmlu"
    template = yaml.safe_load((installed / "_default_template_yaml").read_text(encoding="utf-8"))
    for subject in subjects:
        own = yaml.safe_load((installed / f"cmmlu_{subject}.yaml").read_text(encoding="utf-8"))
        files = {}
        for split in ("dev", "test"):
            with (data / split / f"{subject}.csv").open(encoding="utf-8", newline="") as stream:
                rows = [{k: v for k, v in row.items() if k} for row in csv.DictReader(stream)]
            file = folder / f"{subject}.{split}.jsonl"
            file.write_text(
                "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
                encoding="utf-8",
            )
            files[split] = str(file)
        config = template | {k: v for k, v in own.items() if k not in {"include", "dataset_name"}}
        config |= {"dataset_path": "json", "dataset_kwargs": {"data_files": files}}
        (folder / f"cmmlu_{subject}.yaml").write_text(
            yaml.safe_dump(config, allow_unicode=True), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
