"""``evalsuite tasks new``: a complete little task to begin from, with data and golden cases."""

from __future__ import annotations

import json
import keyword
import re
from pathlib import Path

from evalsuite.errors import BadOption
from evalsuite.files import write_atomically

_PLUGIN = '''"""{title}: say in one sentence what this task measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalsuite.data import DataFolder
from evalsuite.metrics.metric import Metric
from evalsuite.request import Generate, Generated, Prompt, Request, Response, Sampling
from evalsuite.task import DataSource, Outcome, Sample, Task, TaskMeta, Variant


class {classname}(Task):
    meta = TaskMeta(
        name="{name}",
        title="{title}",
        description="Short questions with one right answer",
        languages=("en",),
        domain="knowledge",
        licence="CC0-1.0",
        citation="unpublished",
        source=DataSource(
            layout='test.jsonl, one {{"id", "question", "answer"}} a line',
            url="https://example.org/{name}",
        ),
        main_metric="exact_match",
        version=1,
        sample_data="{name}_samples",
    )
    variants = (Variant("default"),)
    metrics = (Metric("exact_match"),)

    def samples(self, data: DataFolder) -> Iterator[Sample]:
        for _, row in data.jsonl("test.jsonl", ("id", "question", "answer")):
            yield Sample(
                id=str(row["id"]),
                fields={{"question": str(row["question"])}},
                target=str(row["answer"]),
            )

    def request(self, sample: Sample, shots: Sequence[Sample], variant: str) -> Request:
        text = f"Question: {{sample.fields['question']}}\\nAnswer:"
        return Generate(Prompt(text=text), Sampling(max_tokens=32, stop=("\\n",)))

    def score(self, sample: Sample, response: Response) -> Outcome:
        text = response.text if isinstance(response, Generated) else ""
        answer = text.strip().rstrip(".").lower() or None
        return Outcome({{"exact_match": float(answer == sample.target.lower())}}, answer)

    def gold(self, sample: Sample) -> Response:
        return Generated(text=sample.target)


TASK = {classname}()
'''

_ROWS = (
    {"id": "1", "question": "How many legs does a spider have?", "answer": "8"},
    {"id": "2", "question": "What is the capital of France?", "answer": "Paris"},
    {"id": "3", "question": "Which planet is nearest to the Sun?", "answer": "Mercury"},
)
_GOLDEN = {
    "prompts": {
        "default/0-shot": {
            "sample": "1",
            "prompt": "Question: How many legs does a spider have?\nAnswer:",
        }
    },
    "cases": [
        {"sample": "1", "output": " 8", "scores": {"exact_match": 1.0}},
        {"sample": "2", "output": " paris.", "scores": {"exact_match": 1.0}},
        {"sample": "2", "output": " Lyon", "scores": {"exact_match": 0.0}},
        {"sample": "3", "output": "", "scores": {"exact_match": 0.0}},
    ],
}


def new_task(name: str, folder: Path) -> list[Path]:
    """Write a working task with a sample set and golden cases; returns the files written.

    Args:
        name: lower-case letters, digits and underscores, beginning with a letter.
        folder: where the plugin goes; made if it is not there. Give it as ``--task-path`` to use it.

    Raises:
        BadOption: a name that cannot be a task's, or a file that is already there.
        CannotWrite: no permission or no space.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) or keyword.iskeyword(name):
        raise BadOption(
            f"{name!r} cannot be the name of a task",
            where="tasks new",
            hint="use lower-case letters, digits and underscores, and begin with a letter",
        )
    title = name.replace("_", " ").strip().capitalize()
    classname = "".join(part.capitalize() for part in name.split("_")) + "Task"
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _ROWS)
    files = {
        folder / f"{name}.py": _PLUGIN.format(name=name, title=title, classname=classname),
        folder / f"{name}_samples" / "test.jsonl": rows,
        folder / "golden" / f"{name}.json": json.dumps(_GOLDEN, ensure_ascii=False, indent=2)
        + "\n",
    }
    for file in files:
        if file.exists():
            raise BadOption(
                "there is a file of that name already",
                where=str(file),
                hint="choose another name or folder",
            )
    for file, content in files.items():
        write_atomically(file, content)
    return list(files)
