"""Print, as JSON, what lm-eval's own gsm8k task makes of local files: its prompts and its scores.

Run as a script, in a process of its own, as ``python lm_eval_gsm8k.py TRAIN TEST SHOTS``; standard
input holds a JSON list of [index of the question, output].
"""

import json
import sys
from pathlib import Path

import yaml


def main(train, test, shots):
    import lm_eval
    from lm_eval.api.task import ConfigurableTask

    file = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    config |= {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"train": train, "test": test}},
        "num_fewshot": int(shots),
        "fewshot_config": {"sampler": "first_n"},
    }
    task = ConfigurableTask(config=config)
    task.build_all_requests()
    prompts = [instance.arguments[0] for instance in task.instances]

    outputs = json.load(sys.stdin)
    docs = list(task.test_docs())
    scores = []
    for index, output in outputs:
        instance = task.instances[index]
        instance.resps, instance.filtered_resps = [output], {}
        for ensemble in task._filters:
            ensemble.apply([instance])
        results = {}
        for name, filtered in instance.filtered_resps.items():
            found = task.process_results(docs[index], [filtered])
            results[name] = {"match": found["exact_match"], "text": filtered}
        scores.append(results)
    print("RESULT" + json.dumps({"prompts": prompts, "scores": scores}))


if __name__ == "__main__":
    main(*sys.argv[1:])
