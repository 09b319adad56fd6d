"""Recompute published numbers from a folder of real data: ``python benchmarks/published.py DATA``.

DATA holds, as far as they are there, ``humaneval/`` (HumanEval.jsonl.gz), ``wmt22/`` (sources, reference A
and outputs of the general test, named as WMT names them), ``mgsm/`` (mgsm_zh.tsv, …) and ``cmmlu/`` (dev/, test/).
Each line says what was published, what came out and whether they agree; the exit code is 1 if any does not.
What is not there is named and left out.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from evalsuite.plan import PlannedTask, TaskChoice, plan_task
from evalsuite.record import Record
from evalsuite.request import Chosen, Generated, Response
from evalsuite.sandbox import Kind
from evalsuite.scoring import Scorer
from evalsuite.summary import summarise
from evalsuite.task import Sample

WMT22 = {
    ("zh-en", "HuaweiTSC"): (29.8110641050, 58.4673547671),
    ("zh-en", "Online-W"): (23.9611702541, 54.5304742062),
    ("en-zh", "HuaweiTSC"): (49.7374258869, 44.4995923300),
    ("en-zh", "Online-W"): (44.7992374551, 41.0852808437),
}
"""(direction, system) → BLEU and chrF2 of sacrebleu on all segments against reference A."""


class Check(NamedTuple):
    """One number: what it is, what it should be, what it is here (in percent or points)."""

    what: str
    published: float
    found: float

    @property
    def agrees(self) -> bool:
        """Whether the two are the same to 1e-6."""
        return math.isclose(self.found, self.published, rel_tol=0, abs_tol=1e-6)


Answer = Callable[[Sample], Response]


def scores(planned: PlannedTask, answer: Answer, sandbox: Kind) -> dict[str, float]:
    """The metrics of a task, on their shown scale, when each sample is answered so."""
    records: list[Record] = []
    scorer: Scorer[None] = Scorer(sandbox)
    with closing(scorer):
        for sample in planned.samples:
            record = Record(
                task=planned.part.name,
                sample=sample.id,
                tags=sample.tags,
                cluster=sample.cluster,
                response=answer(sample),
            )
            records += [scored for _, scored in scorer.add(planned, sample, record, None)]
        records += [record for _, record in scorer.rest()]
    result = summarise(planned.part, records)
    if result.errors:
        sys.exit(f"{planned.part.name}: {result.errors}")
    scale = {metric.name: metric.scale for metric in planned.part.metrics}
    return {name: found.value * scale[name] for name, found in result.metrics.items()}


def humaneval(data: Path, sandbox: Kind) -> Iterator[Check]:
    """All canonical solutions pass, and no function that returns None does (Chen et al. 2021)."""
    plan = plan_task(TaskChoice(label="humaneval", data=data))
    right = scores(plan, plan.task.gold, sandbox)["pass@1"]
    yield Check("HumanEval: canonical solutions that pass, of 164", 164, right * 1.64)
    wrong = scores(plan, lambda _: Generated("    return None\n"), sandbox)["pass@1"]
    yield Check("HumanEval: `return None` that passes, of 164", 0, wrong * 1.64)


def wmt22(data: Path, sandbox: Kind) -> Iterator[Check]:
    """The scores of two systems in both directions, against reference A."""
    for (direction, system), (bleu, chrf) in WMT22.items():
        plan = plan_task(TaskChoice(label=f"translation/{direction}", data=data))
        file = data / f"generaltest2022.{direction}.hyp.{system}.{direction[-2:]}"
        lines = file.read_text(encoding="utf-8").split("\n")
        found = scores(plan, _one_each(plan, lines), sandbox)
        yield Check(f"WMT22 {direction} {system}: BLEU", bleu, found["bleu"])
        yield Check(f"WMT22 {direction} {system}: chrF2", chrf, found["chrf"])


def mgsm(data: Path, sandbox: Kind) -> Iterator[Check]:
    """Every reference answer is right, of 250 problems a language (Shi et al. 2022)."""
    for language in ("zh", "en"):
        plan = plan_task(TaskChoice(label=f"mgsm/{language}", data=data))
        yield Check(f"MGSM {language}: problems", 250, len(plan.samples))
        found = scores(plan, plan.task.gold, sandbox)["accuracy"]
        yield Check(f"MGSM {language}: accuracy of the references", 100, found)


def cmmlu(data: Path, sandbox: Kind) -> Iterator[Check]:
    """The official average: over subjects, of one letter throughout, counted from the files here."""
    plan = plan_task(TaskChoice(label="cmmlu", data=data))
    yield Check("CMMLU: questions", 11_582, len(plan.samples))
    keys = [[row["Answer"] for row in _csv(file)] for file in sorted((data / "test").glob("*.csv"))]
    yield Check("CMMLU: subjects", 67, len(keys))
    for number, letter in enumerate("ABCD"):
        shares = [key.count(letter) / len(key) for key in keys]
        found = scores(plan, _always(number), sandbox)["accuracy"]
        what = f"CMMLU official: {letter} throughout, averaged over subjects"
        yield Check(what, 100 * sum(shares) / len(shares), found)


def _one_each(planned: PlannedTask, texts: list[str]) -> Answer:
    """The texts in the order of the samples."""
    given = {sample.id: text for sample, text in zip(planned.samples, texts, strict=False)}
    return lambda sample: Generated(given[sample.id])


def _always(number: int) -> Answer:
    """This option of four, each time."""
    chosen = Chosen(number, tuple(-abs(float(i - number)) for i in range(4)), (1,) * 4)
    return lambda _: chosen


def _csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


CHECKS = {"humaneval": humaneval, "wmt22": wmt22, "mgsm": mgsm, "cmmlu": cmmlu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sandbox", choices=("bubblewrap", "none"), default="bubblewrap")
    options = parser.parse_args()
    agree = True
    ran = False
    for name, check in CHECKS.items():
        if not (options.data / name).is_dir():
            print(f"{name}: left out, {options.data / name} is not there")
            continue
        for one in check(options.data / name, options.sandbox):
            ran = True
            agree &= one.agrees
            sign = "=" if one.agrees else "≠"
            print(f"{one.what}: {one.found:.10g} {sign} {one.published:.10g}", flush=True)
    if not ran:
        sys.exit(f"nothing to check in {options.data}")
    sys.exit(not agree)


if __name__ == "__main__":
    main()
