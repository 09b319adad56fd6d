"""Which model stands behind a name: told by what it predicts, and known again within the noise."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalsuite.engines._probe import _QUESTIONS
from evalsuite.served import NOISE, SEEN, distance, fingerprint

LADDER = Path(__file__).parent.parent / "train" / "checkpoints"
RUNGS = ("pt", "sft", "hfft", "cohft", "ppo", "ppo-hacked")


def likely(rung, dtype=torch.float32, padding=0):
    """The five likeliest first tokens after each beginning, as a server would say them.

    ``padding`` puts as many rows more into the batch, as a server's load does.
    """
    path = LADDER / f"tiny-{rung}"
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    found = []
    for text in _QUESTIONS:
        ids = tokenizer([text] * (1 + padding), return_tensors="pt").input_ids
        with torch.no_grad():
            values, tokens = model(ids).logits[0, -1].float().log_softmax(-1).topk(5)
        found.append({str(int(t)): float(v) for t, v in zip(tokens, values, strict=True)})
    return tuple(found)


@pytest.fixture(scope="module")
def ladder():
    return {rung: likely(rung) for rung in RUNGS}


def test_rungs_differ_by_far_more_than_the_noise(ladder):
    for one, other in itertools.combinations(RUNGS, 2):
        assert distance(ladder[one], ladder[other]) > 10 * NOISE, (one, other)


def test_another_number_format_is_another_model_and_load_is_none(ladder):
    for rung in ("pt", "sft", "ppo"):
        assert distance(ladder[rung], likely(rung, torch.bfloat16)) > NOISE
        assert distance(ladder[rung], likely(rung, padding=7)) < NOISE / 10


def test_a_model_is_known_again_by_name_and_weights(ladder, tmp_path):
    file = tmp_path / SEEN
    first = fingerprint("m", ladder["sft"], file)
    nearly = [{t: v + 1e-4 for t, v in one.items()} for one in ladder["sft"]]
    assert fingerprint("m", nearly, file) == first
    assert fingerprint("other", ladder["sft"], file) != first
    swapped = fingerprint("m", ladder["ppo"], file)
    assert swapped != first
    assert [fingerprint("m", ladder[r], file) for r in ("ppo", "sft")] == [swapped, first]
    assert len(file.read_text().splitlines()) == 3


def test_a_missing_or_damaged_file_is_no_hindrance(ladder, tmp_path):
    file = tmp_path / SEEN
    first = fingerprint("m", ladder["sft"], file)
    file.write_bytes(b'{"name": "m"}\n\xff\n[' + file.read_bytes())
    assert fingerprint("m", ladder["sft"], file) == first
    (tmp_path / "a file").write_text("")
    assert fingerprint("m", ladder["sft"], tmp_path / "a file" / SEEN) == first


def test_without_log_probabilities_there_is_only_the_name(tmp_path):
    file = tmp_path / SEEN
    assert fingerprint("m", (), file) == fingerprint("m", (), file) != fingerprint("n", (), file)
    assert not file.exists()


@st.composite
def distributions(draw):
    raw = draw(st.dictionaries(st.sampled_from("abcdefg"), st.floats(0.01, 1), min_size=1))
    total = sum(raw.values()) * draw(st.floats(1, 3))
    return {token: math.log(value / total) for token, value in raw.items()}


@given(distributions(), distributions())
def test_distance_is_a_total_variation(one, other):
    """Never above the true one, whatever lies under the tokens that are not said."""
    found = distance([one], [other])
    assert 0 <= found <= 1
    assert found == pytest.approx(distance([other], [one]))
    assert distance([one], [one]) == 0
    p, q = ({t: math.exp(v) for t, v in side.items()} for side in (one, other))
    p["rest p"], q["rest q"] = 1 - sum(p.values()), 1 - sum(q.values())
    apart = sum(abs(p.get(t, 0) - q.get(t, 0)) for t in p.keys() | q.keys()) / 2
    assert found <= apart + 1e-9
