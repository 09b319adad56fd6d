"""From a name to an engine."""

from __future__ import annotations

import pytest

from evalsuite.chat import BUILTIN
from evalsuite.checkpoint import open_checkpoint
from evalsuite.engines.opening import open_engine
from evalsuite.engines.options import ModelOptions
from evalsuite.engines.replay import ReplayEngine
from evalsuite.engines.transformers import TransformersEngine
from evalsuite.errors import BadOption, DataMissing, UnknownName


@pytest.mark.parametrize("name", ["auto", "transformers"])
def test_a_model_engine(checkpoint_path, name):
    checkpoint = open_checkpoint(str(checkpoint_path))
    engine = open_engine(name, checkpoint, ModelOptions(template=BUILTIN["ziya"], dtype="bfloat16"))
    assert isinstance(engine, TransformersEngine)
    assert engine.template_name == "ziya"
    assert engine.description["dtype"] == "bfloat16"


def test_a_replay_needs_no_checkpoint(tmp_path):
    file = tmp_path / "a:b.txt"
    file.write_text("x\n")
    assert isinstance(open_engine(f"replay:{file}", None), ReplayEngine)
    with pytest.raises(DataMissing):
        open_engine(f"replay:{tmp_path / 'no.txt'}", None)
    for name in ("replay", "replay:"):
        with pytest.raises(BadOption, match="replay:FILE"):
            open_engine(name, None)


def test_what_does_not_exist_says_so():
    with pytest.raises(UnknownName, match="did you mean 'transformers'"):
        open_engine("transformer", None)
    with pytest.raises(UnknownName):
        open_engine("transformers:x", None)
    with pytest.raises(BadOption, match="needs a server"):
        open_engine("openai", None)
    with pytest.raises(BadOption, match="needs a checkpoint"):
        open_engine("auto", None)
