"""The experience pool: counted, append-only, whole after a crash."""

from __future__ import annotations

import gzip

import msgspec
import pytest
from evalsuite_train.errors import BadData
from evalsuite_train.experience import Experience, ExperiencePool


def samples(iteration, count=5):
    return [
        Experience(
            prompt_id=f"wishes/{i}",
            task="wishes",
            reply=f"好的\n{i}",
            reward=0.5,
            kl=0.1,
            iteration=iteration,
            finished=True,
        )
        for i in range(count)
    ]


def test_experience_pool_is_counted(tmp_path):
    pool = ExperiencePool(tmp_path / "experience.jsonl.gz")
    assert len(pool) == 0
    for iteration in range(1, 4):
        pool.append(samples(iteration))
    assert len(pool) == 15
    assert list(pool) == samples(1) + samples(2) + samples(3)
    # Independent of this code: it is plain gzip of JSON lines.
    lines = gzip.decompress(pool.path.read_bytes()).splitlines()
    assert [msgspec.json.decode(line)["iteration"] for line in lines] == [1] * 5 + [2] * 5 + [3] * 5


def test_a_pool_of_a_hundred_thousand_is_small_and_counted(tmp_path):
    pool = ExperiencePool(tmp_path / "experience.jsonl.gz")
    for iteration in range(100):
        pool.append(samples(iteration, 1000))
    assert len(pool) == 100_000
    assert pool.size() < 3_000_000


def test_going_back_forgets_later_samples(tmp_path):
    pool = ExperiencePool(tmp_path / "experience.jsonl.gz")
    pool.append(samples(1))
    size = pool.size()
    pool.append(samples(2))
    pool.back_to(size)
    pool.append(samples(3))
    assert list(pool) == samples(1) + samples(3)


@pytest.mark.parametrize("lost", [1, 9, 40])
def test_a_pool_cut_off_while_written_keeps_the_samples_before(tmp_path, lost):
    pool = ExperiencePool(tmp_path / "experience.jsonl.gz")
    pool.append(samples(1))
    pool.append(samples(2))
    content = pool.path.read_bytes()
    pool.path.write_bytes(content[:-lost])
    kept = list(pool)
    assert kept[:5] == samples(1)
    assert kept == (samples(1) + samples(2))[: len(kept)]


def test_what_is_no_pool_is_named(tmp_path):
    pool = ExperiencePool(tmp_path / "experience.jsonl.gz")
    pool.path.write_bytes(b"not a journal\n")
    with pytest.raises(BadData, match=r"experience\.jsonl\.gz: damaged"):
        list(pool)
    pool.path.write_bytes(gzip.compress(b'{"prompt_id": 3}\n'))
    with pytest.raises(BadData, match="line 1: not a sample"):
        list(pool)
