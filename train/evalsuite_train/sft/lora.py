"""LoRA through peft: an adapter beside the frozen weights, written alone or merged into them.

Hu et al. 2021 (arXiv 2106.09685): W + (alpha / rank) · B A, with B zero at the start.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec

from evalsuite_train.disk import writing
from evalsuite_train.errors import BadRecipe
from evalsuite_train.files import whole_folder


class Adapter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The size and place of a LoRA adapter.

    Attributes:
        rank: of the update.
        alpha: the update counts alpha / rank times.
        dropout: on the adapter's input, in training.
        targets: the linear layers that get one, by the last part of their names.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets:
            raise ValueError("rank is at least 1, and targets name one layer or more")
        if not (math.isfinite(self.alpha) and 0 <= self.dropout < 1):
            raise ValueError("alpha is a number, dropout at least 0 and below 1")


def add_adapter(model: Any, adapter: Adapter, base: Path, seed: int) -> Any:
    """Freeze ``model`` and put a fresh adapter into it; only the adapter learns.

    Args:
        base: the checkpoint that the adapter's files will name as the one they belong to.

    Raises:
        BadRecipe: a target that the model does not have.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    layers = {
        name.rpartition(".")[2]
        for name, m in model.named_modules()
        if isinstance(m, torch.nn.Linear)
    }
    for target in adapter.targets:
        if target not in layers:
            raise BadRecipe(
                f"no linear layer named {target!r} for the adapter",
                where="adapter.targets",
                hint=f"the model has: {', '.join(sorted(layers))}",
            )
    torch.manual_seed(seed)
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(base),
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(adapter.targets),
    )
    model.name_or_path = str(base)
    return get_peft_model(model, settings)


def read_adapter(model: Any, folder: Path) -> Any:
    """Put the adapter in ``folder`` into its base model, to be trained on.

    Raises:
        BadRecipe: it is damaged or of another base.
    """
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except Exception as fault:
        reason = f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''}"
        raise BadRecipe(
            f"the adapter cannot be loaded: {reason[:300]}", where=str(folder)
        ) from None


def write_adapter(folder: Path, model: Any, files: dict[str, str], tokenizer: Path) -> None:
    """Replace ``folder`` as a whole by a float32 adapter of peft, the tokenizer and further ``files``."""
    from evalsuite_train.checkpoint import write_beside

    with writing(folder), whole_folder(folder) as new:
        model.save_pretrained(str(new))
        (new / "README.md").unlink(missing_ok=True)  # peft's empty form of a model card
        _sort_targets(new / "adapter_config.json")
        write_beside(new, tokenizer, files)


def merge(model: Any) -> Any:
    """The plain model with the adapter added to its weights, in place.

    Raises:
        ValueError: the merged weights are not numbers.
    """
    return model.merge_and_unload(safe_merge=True)


def _sort_targets(file: Path) -> None:
    """peft writes its targets as a set, in another order each time; the file shall be the same."""
    content = json.loads(file.read_text(encoding="utf-8"))
    content["target_modules"] = sorted(content["target_modules"])
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
