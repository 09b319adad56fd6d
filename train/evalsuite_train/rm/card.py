"""The model card of a reward model."""

from __future__ import annotations

from typing import Any

from evalsuite_train.rm.config import Config


def model_card(name: str, parent: str, config: Config, gate: dict[str, Any]) -> str:
    """The text of ``README.md``; ``gate`` is the content of ``gate.json``."""
    kinds = sorted({kind for by_kind in gate["kinds"].values() for kind in by_kind})
    lines = [
        f"# {name}",
        "",
        f"A reward model: the backbone of {parent} with one output, trained on preference pairs "
        "(Bradley–Terry). It scores a question and a finished reply; it does not write text.",
        "",
        "It has a template of its own, and its own tokenizer in this folder: encode text anew with "
        "both, never with the policy's. `(output − reward_offset) / reward_scale`, both in "
        "`config.json`, has mean 0 and deviation 1 on replies of the SFT model.",
        "",
        f"- steps: {config.steps} of {config.batch * config.accumulation} pairs",
        f"- learning_rate: {config.learning_rate}",
        "",
        "## Pair accuracy on held-out prompts",
        "",
        f"It may reward a task from {gate['bar']} on.",
        "",
        f"| task | mean | {' | '.join(kinds)} |",
        "|---|" + "---:|" * (len(kinds) + 1),
    ]
    for task, mean in gate["tasks"].items():
        cells = [
            f"{gate['kinds'][task][k]['accuracy']:.3f}" if k in gate["kinds"][task] else ""
            for k in kinds
        ]
        lines.append(f"| {task} | {mean:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
