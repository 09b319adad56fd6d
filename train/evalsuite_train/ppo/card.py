"""The model card of a PPO checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalsuite_train.ppo.config import Config

LISTED = (
    "rm",
    "kl",
    "learning_rate",
    "epochs",
    "minibatches",
    "prompts_per_iteration",
    "temperature",
    "max_new_tokens",
    "rm_weight",
    "rules_weight",
    "retain",
    "retain_weight",
    "retain_batch",
    "veto",
    "value",
    "guards",
)


def model_card(
    name: str, parent: str, config: Config, *, iteration: int, samples: int, alarm: str, log: Path
) -> str:
    """The text of ``README.md``.

    Args:
        iteration: the one that the weights are of.
        samples: how many replies the experience pool holds.
        alarm: why the run was stopped, or nothing.
        log: ``log.jsonl``, for the validation rows.
    """
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    lines = [
        f"# {name}",
        "",
        f"Trained with PPO from {parent}: {iteration} of {config.iterations} iterations, "
        f"{samples:,} sampled replies in the experience pool.",
        "",
    ]
    if not config.guards:
        lines += [
            "**The guards were off.** This run was allowed to game its reward: it is an example of reward "
            "hacking, to test evaluations with, and not an improved model.",
            "",
        ]
    if alarm:
        lines += [f"**Stopped early**: {alarm}. These are the last good weights.", ""]
    lines += ["## Settings", "", *(f"- {key}: {getattr(config, key)}" for key in LISTED), ""]
    lines += ["## Held-out prompts", "", *_table([row for row in rows if "validation" in row])]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Reward and gold at every look; gold is the share of replies that satisfy every rule."""
    lines = ["| iteration | reward | gold, greedy | gold, sampled |", "|---:|---:|---:|---:|"]
    for row in rows:
        seen = row["validation"]
        mark = " ⚠" if "alarm" in row else ""
        lines.append(
            f"| {row['iteration']}{mark} | {seen['reward']:.3f} | {seen['gold_greedy']:.3f} | {seen['gold_sampled']:.3f} |"
        )
    return lines
