"""From names to samples and requests: subsets, few-shot examples, seeds."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quiz_factory import plan_quiz, sums, write_quiz, write_rows

from evalsuite.errors import BadOption, BadTask, DataMissing, UnknownName
from evalsuite.plan import TaskChoice, plan_task, stratified
from evalsuite.task import Sample

text = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\ud800\x00\x1b\u202e🙂"), max_size=3
)
tags = st.dictionaries(st.sampled_from(["a", "b", "|a="]), st.sampled_from(["x", "y", "x|b=y"]))


@st.composite
def populations(draw):
    """Samples with any ids, in strata of any sizes, and a limit."""
    kinds = draw(st.lists(st.tuples(tags, st.integers(1, 9)), min_size=1, max_size=6))
    members = [kind for kind, size in kinds for _ in range(size)]
    ids = draw(st.lists(text, min_size=len(members), max_size=len(members), unique=True))
    samples = [Sample(i, {}, "", t) for i, t in zip(ids, members, strict=True)]
    return draw(st.permutations(samples)), draw(st.integers(1, len(samples) + 2))


@settings(max_examples=200, deadline=None)
@given(populations(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_limit_is_exact_proportional_and_independent_of_order(population, seed, chance):
    samples, limit = population
    chosen = stratified(samples, limit, seed=seed, label="quiz")
    assert len(chosen) == min(limit, len(samples))
    assert [s for s in samples if s in chosen] == chosen, "not in the data's order"

    stratum = {s.id: frozenset(s.tags.items()) for s in samples}
    sizes = Counter(stratum.values())
    taken = Counter(stratum[s.id] for s in chosen)
    for kind, size in sizes.items():
        share = min(limit, len(samples)) * size / len(samples)
        assert abs(taken[kind] - share) < 1

    other_order = list(samples)
    chance.shuffle(other_order)
    again = stratified(other_order, limit, seed=seed, label="quiz")
    assert {s.id for s in again} == {s.id for s in chosen}


@pytest.mark.parametrize("sizes", [(40,), (20, 20), (1, 3, 36), (1,) * 40])
def test_every_sample_is_as_likely_as_any_other(sizes):
    """10 of 40, 400 times: each count is binomial(400, 1/4), 100 ± 5 standard deviations of 8.7."""
    kinds = [kind for kind, size in enumerate(sizes) for _ in range(size)]
    samples = [Sample(str(n), {}, "", {"kind": str(kind)}) for n, kind in enumerate(kinds)]
    count = Counter(
        s.id for seed in range(400) for s in stratified(samples, 10, seed=seed, label="quiz")
    )
    deviation = math.sqrt(400 * 0.25 * 0.75)
    assert all(abs(count[s.id] - 100) < 5 * deviation for s in samples)


def test_tags_that_look_alike_when_joined_are_strata_of_their_own():
    kinds = [{"a": "x|b=y"}, {"a": "x", "b": "y"}]
    samples = [Sample(str(n), {}, "", kinds[n % 2]) for n in range(20)]
    for seed in range(20):
        chosen = stratified(samples, 10, seed=seed, label="quiz")
        assert sum(s.tags == kinds[0] for s in chosen) == 5


def test_the_seed_and_the_label_decide_the_subset():
    samples = [Sample(str(n), {}, "") for n in range(60)]
    chosen = [
        tuple(s.id for s in stratified(samples, 20, seed=seed, label=label))
        for seed, label in [(0, "quiz"), (1, "quiz"), (0, "other"), (0, "quiz")]
    ]
    assert chosen[0] == chosen[3]
    assert len(set(chosen)) == 3


def test_no_limit_is_everything_and_less_than_one_is_refused():
    samples = [Sample(str(n), {}, "") for n in range(3)]
    assert stratified(samples, None, seed=0, label="") == samples
    for limit in (0, -1):
        with pytest.raises(BadOption, match="--limit"):
            stratified(samples, limit, seed=0, label="")


@pytest.fixture
def quiz(tmp_path):
    return write_quiz(tmp_path / "tasks")


def test_the_part_says_what_was_planned(quiz, tmp_path):
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(30))
    [planned] = plan_quiz(quiz, data, limit=12)
    part = planned.part
    assert (part.samples, part.total, part.name, part.num_fewshot) == (12, 30, "quiz", 0)
    content = (data / "quiz.jsonl").read_bytes()
    assert part.data.sha256 == {"quiz.jsonl": hashlib.sha256(content).hexdigest()}
    assert part.data.path == str(data.resolve())
    assert Counter(s.tags["group"] for s in planned.samples) == {"even": 6, "odd": 6}
    questions = [r.prompt.text for r in planned.requests]
    assert questions == [s.fields["question"] for s in planned.samples]


def test_examples_come_from_the_group_and_are_never_the_sample_itself(quiz, tmp_path):
    """The pool is the test set itself, so each sample meets its own solution there."""
    rows = sums(12)
    data = write_rows(tmp_path / "data" / "quiz.jsonl", rows)
    write_rows(data / "dev.jsonl", rows)
    choice = TaskChoice(label="quiz", num_fewshot=5, data=data)
    planned = plan_task(choice, task_path=(quiz,))
    solved = {f"{row['question']}{row['answer']}": row for row in rows}
    for sample, request in zip(planned.samples, planned.requests, strict=True):
        shots = [solved[line] for line in request.prompt.prefix.splitlines()]
        assert len({shot["id"] for shot in shots}) == 5
        assert sample.id not in {shot["id"] for shot in shots}
        assert {shot["group"] for shot in shots} == {sample.tags["group"]}
    assert set(planned.part.data.sha256) == {"quiz.jsonl", "dev.jsonl"}


def test_more_examples_than_there_are_is_refused_with_how_many_there_are(quiz, tmp_path):
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(4))
    write_rows(data / "dev.jsonl", sums(9)[4:])
    with pytest.raises(BadOption, match=r"5 examples asked for and 3 .*even.*--num-fewshot quiz=3"):
        plan_task(TaskChoice(label="quiz", num_fewshot=5, data=data), task_path=(quiz,))
    with pytest.raises(BadOption, match="-1 examples"):
        plan_task(TaskChoice(label="quiz", num_fewshot=-1, data=data), task_path=(quiz,))


def test_a_subset_is_a_tag_value(quiz, tmp_path):
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(11))
    planned = plan_task(TaskChoice(label="quiz/odd", data=data), task_path=(quiz,))
    assert [s.id for s in planned.samples] == ["q1", "q3", "q5", "q7", "q9"]
    assert (planned.part.subset, planned.part.total) == ("odd", 5)
    with pytest.raises(UnknownName, match="did you mean 'even'"):
        plan_task(TaskChoice(label="quiz/evn", data=data), task_path=(quiz,))


def test_a_subset_of_a_shipped_task():
    whole, chinese = (plan_task(TaskChoice(label=name)) for name in ("mgsm", "mgsm/zh"))
    assert 0 < chinese.part.total < whole.part.total
    assert {s.tags["language"] for s in chinese.samples} == {"zh"}
    assert chinese.part.data.path == "sample"


def test_two_samples_with_one_id_are_refused(quiz, tmp_path):
    rows = sums(3)
    data = write_rows(tmp_path / "data" / "quiz.jsonl", [*rows, rows[1]])
    with pytest.raises(BadTask, match="'q1'"):
        plan_quiz(quiz, data)


def test_no_samples_is_missing_data(quiz, tmp_path):
    with pytest.raises(DataMissing, match=r"expected quiz\.jsonl"):
        plan_quiz(quiz, write_rows(tmp_path / "data" / "quiz.jsonl", []))


@pytest.mark.parametrize("change", [{"id": 7}, {"group": 3}, {"cluster": 1}, {"group": None}])
def test_samples_that_the_journal_could_not_give_back_are_refused(quiz, tmp_path, change):
    """A plugin that passes numbers on as tags would otherwise fail after the last answer."""
    data = write_rows(tmp_path / "data" / "quiz.jsonl", [*sums(2), sums(3)[2] | change])
    with pytest.raises(BadTask, match="not made of JSON values"):
        plan_quiz(quiz, data)


def test_only_sampled_requests_have_seeds_of_their_own(quiz, tmp_path):
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(40))

    def seeds(variant: str, **more):
        [planned] = plan_quiz(quiz, data, variant, **more)
        return {
            s.id: r.sampling.seed for s, r in zip(planned.samples, planned.requests, strict=True)
        }

    assert set(seeds("ask", seed=5).values()) == {0}
    sampled = seeds("sampled", seed=5)
    assert len(set(sampled.values())) == 40
    assert all(0 <= seed < 1 << 63 for seed in sampled.values())
    few = seeds("sampled", seed=5, limit=7)
    assert few == {sample: sampled[sample] for sample in few}, "a seed depends on other samples"
    assert not set(seeds("sampled", seed=6).values()) & set(sampled.values())
    shuffled = sums(40)
    random.Random(1).shuffle(shuffled)
    write_rows(data / "quiz.jsonl", shuffled)
    assert seeds("sampled", seed=5) == sampled


def test_published_data_is_known_by_its_checksums(tmp_path):
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(3))
    checksum = hashlib.sha256((data / "quiz.jsonl").read_bytes()).hexdigest()
    quiz = write_quiz(tmp_path / "tasks", sha256={"quiz.jsonl": checksum, "other.jsonl": "0"})
    assert plan_quiz(quiz, data)[0].part.data.published == "yes"
    write_rows(data / "quiz.jsonl", sums(4))
    assert plan_quiz(quiz, data)[0].part.data.published == "differs"
    listing = hashlib.sha256((data / "quiz.jsonl").read_bytes()).hexdigest() + "  quiz.jsonl\n"
    write_quiz(quiz, sha256={"*": hashlib.sha256(listing.encode()).hexdigest()})
    assert plan_quiz(quiz, data)[0].part.data.published == "yes"
    write_quiz(quiz)
    assert plan_quiz(quiz, data)[0].part.data.published == "unknown"


@pytest.mark.parametrize(
    ("note", "revision"),
    [('{"revision": "abc"}', "abc"), ("[]", ""), ("{torn", ""), ("{}", "")],
)
def test_a_fetched_folder_says_its_revision(quiz, tmp_path, note, revision):
    data = write_rows(tmp_path / "data" / "quiz.jsonl", sums(3))
    (data / "source.json").write_text(note)
    assert plan_quiz(quiz, data)[0].part.data.revision == revision
