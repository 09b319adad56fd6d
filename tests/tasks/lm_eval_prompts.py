"""Print, as JSON, the requests that lm-eval's own task objects build from local CSV files.

Run as a script, in a process of its own: ``python lm_eval_prompts.py YAML SHOTS EXAMPLES QUESTIONS``.
"""

import json
import sys
from pathlib import Path

import yaml


def main(config_file, description_file, shots, fewshot_split, examples, test_split, questions):
    from lm_eval.api.task import ConfigurableTask

    config = yaml.safe_load(Path(config_file).read_text(encoding="utf-8"))
    config |= {
        key: value
        for key, value in yaml.safe_load(Path(description_file).read_text(encoding="utf-8")).items()
        if key in ("description", "task")
    }
    config["dataset_path"] = "csv"
    config["dataset_kwargs"] = {"data_files": {fewshot_split: examples, test_split: questions}}
    config["num_fewshot"] = int(shots)
    task = ConfigurableTask(config=config)
    task.build_all_requests()
    rows = [[i.doc_id, i.idx, *i.arguments] for i in task.instances]
    print("RESULT" + json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
