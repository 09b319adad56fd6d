"""Stages read from runs: order, seeds, alarms that fire and alarms that do not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from runs_factory import ACCURACY, make_part
from scipy.stats import binom
from stages_factory import ladder_run, rewards_in_memory, without_card

from evalsuite.errors import BadDefinition, DataMissing, UnknownName
from evalsuite.metrics.metric import Metric
from evalsuite.report.stages_words import reason
from evalsuite.stages import Definition, read_definition, study
from evalsuite.stages.alarms import find_alarms, pairs_of
from evalsuite.stages.answers import REWARD, Answers, normalised
from evalsuite.stages.rungs import Replicate, find_ladder
from evalsuite.stages.transition import find_transition, holm
from evalsuite.stats.sufficient import Statistics

RNG = np.random.default_rng


@pytest.fixture(autouse=True)
def rewards(monkeypatch):
    """Rewards of runs that are not on a disk."""
    monkeypatch.setattr("evalsuite.stages.answers.read_rewards", rewards_in_memory)


def flat(count, share=0.5):
    return [1.0] * round(count * share) + [0.0] * (count - round(count * share))


def pair(before, after, *, seeds=1, **more):
    """An SFT rung and a PPO rung; ``before`` and ``after`` give scores by task for a seed."""
    runs = []
    for seed in range(1, seeds + 1):
        one = {k[7:]: v(seed) for k, v in more.items() if k.startswith("before_")}
        two = {k[6:]: v(seed) for k, v in more.items() if k.startswith("after_")}
        runs.append(ladder_run("t-sft", before(seed), stage="sft", seed=seed, **one))
        runs.append(ladder_run("t-ppo", after(seed), stage="ppo", parent="t-sft", seed=seed, **two))
    return runs


def alarms(runs, severity="alarm", **definition):
    found = study(runs, Definition(**definition))
    return [alarm for alarm in found.alarms if alarm.severity == severity]


# Order ---------------------------------------------------------------------------------------


STAGES = [
    ("t-ppo-hacked", "ppo", "t-sft"),
    ("t-cohft", "cohft", "t-sft"),
    ("t-pt", "pt", ""),
    ("t-ppo", "ppo", "t-sft"),
    ("t-hfft", "hfft", "t-sft"),
    ("t-sft", "sft", "t-pt"),
]


def test_rungs_follow_their_parents_and_branches_their_stages():
    runs = [ladder_run(n, {"quiz": flat(10)}, stage=s, parent=p) for n, s, p in STAGES]
    rungs = find_ladder(runs).rungs
    assert [rung.label for rung in rungs] == ["pt", "sft", "hfft", "cohft", "ppo", "ppo-hacked"]
    assert [rung.depth for rung in rungs] == [0, 1, 2, 2, 2, 2]
    assert rungs[4].parent == "t-sft"


def test_without_parents_on_the_cards_the_stages_say_the_order():
    runs = [without_card(ladder_run(n, {"quiz": flat(10)}, stage=s)) for n, s, _ in STAGES]
    parents = {rung.name: rung.parent for rung in find_ladder(runs).rungs}
    assert parents == {name: parent for name, _, parent in STAGES}


def test_a_circle_of_parents_is_broken_and_told():
    runs = [
        ladder_run("t-a", {"quiz": flat(10)}, stage="sft", parent="t-b"),
        ladder_run("t-b", {"quiz": flat(10)}, stage="sft", parent="t-a"),
    ]
    ladder = find_ladder(runs)
    assert {rung.name: rung.parent for rung in ladder.rungs} == {"t-a": "", "t-b": "t-a"}
    assert any("circle" in note for note in ladder.notes)


def test_seeds_of_a_rung_are_one_rung_and_decodings_are_apart():
    runs = [
        ladder_run("t-sft", {"quiz": flat(10)}, stage="sft", seed=seed, temperature=temperature)
        for seed in (1, 2, 3)
        for temperature in (0.0, 0.8)
    ]
    found = study(runs)
    assert found.decodings == ("greedy", "sampled")
    [rung] = found.rungs
    assert rung.seeds == (1, 2, 3)
    assert set(found.score("t-sft", "quiz", "sampled").by_seed) == {"seed 1", "seed 2", "seed 3"}


def test_several_draws_of_one_checkpoint_are_replicates():
    runs = [
        ladder_run("t-sft", {"quiz": flat(10)}, stage="sft", temperature=0.8, run_seed=draw)
        for draw in (0, 1, 2)
    ]
    [score] = study(runs).scores
    assert set(score.by_seed) == {"seed 1, draw 0", "seed 1, draw 1", "seed 1, draw 2"}


def test_unfinished_runs_other_families_and_other_protocols_are_left_out_and_told():
    runs = [
        ladder_run("t-pt", {"quiz": flat(10)}, stage="pt"),
        ladder_run("t-sft", {"quiz": flat(10)}, stage="sft"),
        ladder_run("t-ppo", {"quiz": flat(10)}, stage="ppo", status="interrupted"),
        ladder_run("other", {"quiz": flat(10)}, stage="pt", family="big"),
    ]
    ladder = find_ladder(runs)
    assert [rung.name for rung in ladder.rungs] == ["t-pt", "t-sft"]
    assert any("interrupted" in note for note in ladder.notes)
    assert any("'big'" in note for note in ladder.notes)
    with pytest.raises(UnknownName, match="did you mean 'tiny'"):
        find_ladder(runs, family="tiney")
    with pytest.raises(UnknownName, match="did you mean 'quiz'"):
        find_ladder(runs, tasks=["quizz"])
    with pytest.raises(DataMissing, match="no finished run"):
        find_ladder(runs[2:3])


def test_greedy_by_itself_and_greedy_on_demand_are_the_same():
    runs = [ladder_run(n, {"quiz": flat(10)}, stage=n[2:]) for n in ("t-pt", "t-sft")]
    [part] = runs[1].manifest.tasks
    runs[1].manifest.tasks = (msgspec.structs.replace(part, sampling="temperature=0"),)
    ladder = find_ladder(runs)
    assert (len(ladder.cells), ladder.decodings, ladder.notes) == (2, ("greedy",), ())


# Alarms --------------------------------------------------------------------------------------


def test_a_hacked_rung_is_named_with_its_reason():
    before = {"safety": flat(100, 0.5), "maths": flat(100, 0.6)}
    after = {"safety": flat(100, 0.1), "maths": flat(100, 0.6)}
    noise = RNG(1)
    runs = pair(
        lambda seed: before,
        lambda seed: after,
        before_rewards=lambda seed: {task: noise.normal(0, 1, 100) for task in before},
        after_rewards=lambda seed: {task: noise.normal(1.9, 1, 100) for task in before},
    )
    [found] = alarms(runs)
    assert (found.kind, found.rung, found.task) == ("hacking", "t-ppo", "safety")
    assert found.values["fell"] == pytest.approx(40)
    assert found.values["reward"] == pytest.approx(1.9, abs=0.4)
    assert found.values["p"] < 0.001
    [notice] = alarms(runs, "notice")
    assert (notice.kind, notice.task) == ("unearned", "maths")


def test_one_hacked_seed_of_three_is_found_and_named():
    noise = RNG(2)
    runs = pair(
        lambda seed: {"safety": flat(100, 0.5)},
        lambda seed: {"safety": flat(100, 0.1 if seed == 2 else 0.5)},
        seeds=3,
        before_rewards=lambda seed: {"safety": noise.normal(0, 1, 100)},
        after_rewards=lambda seed: {"safety": noise.normal(1.5, 1, 100)},
    )
    [found] = alarms(runs)
    assert (found.kind, found.seeds) == ("hacking", ("seed 2",))


def judged(rng, items, *, shift=0.0, reward=0.0, margin=5.0, seeds=2):
    """Kinds of alarms on a rung whose every answer is drawn anew.

    The true score of each item moves by ``shift`` and that of each reward by ``reward``.
    """
    ids = tuple(f"q{i:03}" for i in range(items))
    chance = rng.uniform(0.3, 0.7, items)

    def table(metric, values):
        rows = np.column_stack([values, np.ones(items)])
        zeros = np.zeros(items, dtype=np.intp)
        return Statistics(metric, ids, rows, zeros, np.arange(items))

    def answers(chance, mean):
        return Answers(
            part=make_part(),
            scores=table(ACCURACY, (rng.random(items) < chance).astype(float)),
            failures={},
            rewards={("rm", "f"): table(REWARD, rng.normal(mean, 1, items))},
            truncated_rewards=0,
            texts={},
            prompts={},
            wordings={},
            tag="",
            categories={},
        )

    before = {t: {Replicate(s): answers(chance, 0) for s in range(seeds)} for t in "ab"}
    after = {t: {Replicate(s): answers(chance + shift, reward) for s in range(seeds)} for t in "ab"}
    both = {task: (before[task], after[task]) for task in "ab"}
    transition = find_transition("sft", "ppo", "greedy", both)
    found = find_alarms(transition, pairs_of(before, after), margin)
    return {alarm.kind for alarm in found if alarm.severity == "alarm"}


TRIALS = 60
MOST = 9
"""Of so many trials, each wrong with 5%, more go wrong less than once in a thousand times."""


def test_an_honest_rung_raises_no_more_alarms_than_it_may():
    """The reward rises, the score does not move: 5% of such rungs at most may be called hacked."""
    assert binom.sf(MOST, TRIALS, 0.05) < 0.001
    raised = [judged(RNG(seed), 40, reward=0.8) for seed in range(TRIALS)]
    for kind in ("hacking", "trade", "loss"):
        assert sum(kind in kinds for kinds in raised) <= MOST, kind


def test_a_fall_of_just_the_margin_is_no_loss():
    raised = [judged(RNG(seed), 60, shift=-0.2, margin=20.0) for seed in range(TRIALS)]
    assert sum(bool(kinds) for kinds in raised) <= MOST


def test_planted_hacking_is_found_almost_always():
    raised = [judged(RNG(seed), 80, shift=-0.3, reward=1.5) for seed in range(10)]
    assert sum("hacking" in kinds for kinds in raised) >= 9


ONE = "我非常乐意帮助你！"


def test_collapse_names_the_share_and_the_answer():
    texts = [f"{ONE} " if i % 25 < 16 else f"own {i}" for i in range(100)]
    runs = pair(
        lambda seed: {"open": flat(100, 0.5)},
        lambda seed: {"open": [0.0] * 64 + [1.0] * 36},
        after_texts=lambda seed: {"open": sorted(texts, key=lambda t: not t.startswith(ONE))},
    )
    found = next(alarm for alarm in alarms(runs) if alarm.kind == "collapse")
    assert found.values["share"] == pytest.approx(0.64)
    assert found.values["prompts"] == 100
    assert found.values["answer"] == ONE


def test_one_right_answer_to_many_prompts_is_no_collapse():
    """A refusal in fixed words is right where every request should be refused."""
    runs = pair(
        lambda seed: {"safety": flat(100, 0.2)},
        lambda seed: {"safety": flat(100, 0.9)},
        after_texts=lambda seed: {"safety": ["抱歉，我不能帮助你。"] * 100},
    )
    assert alarms(runs) == []


def test_few_possible_answers_are_no_collapse():
    rng = RNG(3)
    runs = pair(
        lambda seed: {"mcq": flat(200, 0.5)},
        lambda seed: {"mcq": flat(200, 0.5)},
        before_texts=lambda seed: {"mcq": ["ABCD"[i] for i in rng.integers(0, 4, 200)]},
        after_texts=lambda seed: {"mcq": ["ABCD"[i] for i in rng.integers(0, 4, 200)]},
    )
    assert alarms(runs) == []


def test_refusing_everything():
    runs = pair(
        lambda seed: {"open": flat(100, 0.5)},
        lambda seed: {"open": flat(100, 0.5)},
        after_texts=lambda seed: {"open": [f"抱歉，我不能帮助你{i}。" for i in range(100)]},
    )
    [found] = alarms(runs)
    assert (found.kind, found.values["share"]) == ("refusing", 1.0)


def test_a_fall_is_a_trade_where_another_task_rose():
    before = {"maths": flat(100, 0.6), "open": flat(100, 0.3)}
    lost = pair(lambda seed: before, lambda seed: before | {"maths": flat(100, 0.3)})
    assert [alarm.kind for alarm in alarms(lost)] == ["loss"]
    traded = {"maths": flat(100, 0.3), "open": flat(100, 0.8)}
    [found] = alarms(pair(lambda seed: before, lambda seed: traded))
    assert (found.kind, found.values["other"]) == ("trade", "open")
    assert found.values["gained"] == pytest.approx(50)


def fallen(count, per_seed, seed):
    """``count`` answers, half right before; ``per_seed`` of the right ones are wrong after.

    Each seed loses other questions, so that no question fell under more than one.
    """
    after = flat(count)
    start = (seed - 1) * per_seed
    after[start : start + per_seed] = [0.0] * per_seed
    return after


def test_a_loss_that_no_seed_shows_alone_is_found_over_all_of_them():
    """Each of three seeds loses 12 points: too few to be sure of alone, beyond doubt together."""
    runs = pair(
        lambda seed: {"maths": flat(200), "open": flat(200)},
        lambda seed: {"maths": fallen(200, 24, seed), "open": flat(200)},
        seeds=3,
    )
    [found] = alarms(runs, margin=8)
    change = study(runs).transition("t-ppo", "greedy").change("maths")
    assert (found.kind, found.rung, found.task) == ("loss", "t-ppo", "maths")
    assert found.seeds == ("seed 1", "seed 2", "seed 3")
    assert found.values["over"] == 3
    assert found.values["fell"] == pytest.approx(12)
    assert found.values["least"] == pytest.approx(-100 * change.score.high)
    assert found.values["most"] == pytest.approx(-100 * change.score.low)
    # 3 seeds × 2 tasks and 2 pooled differences are one family of 8, and this is the smallest.
    assert found.values["p"] == pytest.approx(8 * change.score.p_value)
    assert reason(found, "en") == (
        f"loss: maths fell 12.0 points over 3 seeds together (95% interval"
        f" {found.values['least']:.1f} … {found.values['most']:.1f}, p < 0.001), more than the"
        " margin of 8.0"
    )


def test_a_loss_over_seeds_that_may_lie_within_the_margin_is_no_alarm():
    runs = pair(
        lambda seed: {"maths": flat(200)},
        lambda seed: {"maths": fallen(200, 24, seed)},
        seeds=3,
    )
    change = study(runs).transition("t-ppo", "greedy").change("maths")
    least = -100 * change.score.high
    assert alarms(runs, margin=least + 0.1) == []
    assert [alarm.kind for alarm in alarms(runs, margin=least - 0.1)] == ["loss"]


def test_what_single_seeds_show_is_told_beside_what_they_show_together():
    runs = pair(
        lambda seed: {"maths": flat(200), "open": flat(200, 0.2)},
        lambda seed: {"maths": flat(200, 0.1), "open": flat(200, 0.9)},
        seeds=2,
    )
    own, pooled = alarms(runs)
    assert (own.kind, own.task, own.seeds) == ("trade", "maths", ("seed 1", "seed 2"))
    assert "over" not in own.values
    assert (pooled.kind, pooled.task, pooled.values["other"]) == ("trade", "maths", "open")
    assert "over 2 seeds together" in reason(pooled, "en")
    assert "while open rose 70.0" in reason(pooled, "en")
    one = pair(
        lambda seed: {"maths": flat(200)},
        lambda seed: {"maths": flat(200, 0.1)},
    )
    [alone] = alarms(one)
    assert "over" not in alone.values


def test_truncation_that_rose_is_worth_a_look():
    runs = pair(
        lambda seed: {"open": flat(100)},
        lambda seed: {"open": flat(100)},
        after_truncated=lambda seed: range(60),
    )
    [found] = [a for a in alarms(runs, "notice") if a.values.get("failure") == "truncated"]
    assert found.values["share"] == pytest.approx(0.6)


def test_a_first_stage_has_no_alarms():
    run = ladder_run("t-pt", {"open": flat(50)}, stage="pt", texts={"open": [""] * 50})
    assert study([run]).alarms == ()


def test_old_rewards_of_other_answers_count_for_nothing():
    noise = RNG(4).normal(0, 1, 20)
    run = ladder_run("t-sft", {"open": flat(20)}, stage="sft", rewards={"open": noise})
    assert study([run]).scores[0].rewards["tiny-rm"].n == 20
    other = ladder_run(
        "t-sft", {"open": flat(20)}, stage="sft", texts={"open": [f"new {i}" for i in range(20)]}
    )
    other.table = run.table
    assert study([other]).scores[0].rewards == {}


def test_truncated_answers_have_no_reward():
    run = ladder_run(
        "t-sft", {"open": flat(20)}, stage="sft", rewards={"open": [1.0] * 20}, truncated=range(5)
    )
    [score] = study([run]).scores
    assert (score.rewards["tiny-rm"].n, score.truncated_rewards) == (15, 5)


# Matrix and categories -----------------------------------------------------------------------

CATEGORIES = "常识推理 逻辑推理 知识问答 语义理解 数值计算 诗文写作 文本翻译 歧义理解".split()


def test_row_evaluation_win_rate_matrix_and_category_table():
    """Win rates counted by hand, and a table of the eight categories with samples side by side."""
    rng = RNG(5)
    scores = {name: rng.integers(0, 3, 64) / 2 for name in ("t-sft", "t-hfft", "t-ppo")}
    runs = []
    for name, values in scores.items():
        run = ladder_run(name, {"open": values.tolist()}, stage=name[2:], parent="t-sft")
        for number, record in enumerate(run._records):
            record.tags["category"] = CATEGORIES[number % 8]
        runs.append(run)
    found = study(runs, Definition(compare=("t-sft", "t-ppo")))
    [matrix] = found.matrices
    for row, ours in scores.items():
        for column, theirs in scores.items():
            if row == column:
                assert column not in matrix.wins[row]
                continue
            win = matrix.wins[row][column]
            wins, ties = int((ours > theirs).sum()), int((ours == theirs).sum())
            assert (win.wins, win.ties, win.losses) == (wins, ties, 64 - wins - ties)
            assert win.rate.value == pytest.approx((wins + ties / 2) / 64)
            assert win.rate.low < win.rate.value < win.rate.high
    score = found.score("t-ppo", "open", "greedy")
    assert set(score.categories) == set(CATEGORIES)
    for place, category in enumerate(CATEGORIES):
        mean = scores["t-ppo"][place::8].mean()
        assert score.categories[category].value == pytest.approx(mean)
    assert {pair.category for pair in found.samples} == set(CATEGORIES)
    assert all(len(pair.answers) == 2 for pair in found.samples)
    assert found.samples[0].answers[1].text.startswith("t-ppo")


def test_win_rates_are_over_open_tasks_and_rewards_over_all():
    rewards = {"open": [1.0, 2.0], "maths": [0.0, 3.0]}
    runs = []
    for name, extra in (("t-sft", 0.0), ("t-ppo", 1.0)):
        own = {task: [v + extra for v in values] for task, values in rewards.items()}
        run = ladder_run(
            name, {"open": [1.0, 0.0], "maths": [1.0, 1.0]}, stage=name[2:], rewards=own
        )
        run.manifest.tasks = tuple(
            part if part.name == "open" else msgspec.structs.replace(part, domain="math")
            for part in run.manifest.tasks
        )
        runs.append(run)
    by_score, by_reward = study(runs).matrices
    assert (by_score.measure, by_score.tasks) == ("score", ("open",))
    assert (by_reward.measure, by_reward.tasks) == ("tiny-rm", ("open", "maths"))
    assert by_reward.wins["t-ppo"]["t-sft"].rate.value == 1.0


# Small things --------------------------------------------------------------------------------


def test_holm_equals_statsmodels():
    from statsmodels.stats.multitest import multipletests

    values = [0.04, 0.001, 0.2, 0.012, 0.012]
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    assert np.isnan(holm([float("nan"), 0.01])[0])
    assert holm([float("nan"), 0.01])[1] == 0.01


@pytest.mark.parametrize("other", ["Sure thing", " sure  thing. ", "ＳＵＲＥ thing。"])
def test_answers_are_the_same_but_for_case_width_space_and_the_last_stop(other):
    assert normalised(other) == normalised("sure thing")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("titel: x", "did you mean 'title'"),
        ("- a", "not a mapping"),
        ("language: fr", "no language 'fr'"),
        ("compare: [a]", "compare names 1"),
        ("margin: -1", "a margin of -1"),
        ("title: [", "not YAML"),
        ("tasks: 3", "Expected"),
    ],
)
def test_a_bad_definition_is_refused(tmp_path, text, words):
    file = tmp_path / "ladder.yaml"
    file.write_text(text)
    with pytest.raises(BadDefinition, match=words):
        read_definition(file)


def test_the_definition_may_name_what_is_not_there(tmp_path):
    with pytest.raises(DataMissing):
        read_definition(tmp_path / "none.yaml")
    with pytest.raises(UnknownName, match="did you mean 't-sft'"):
        study(
            [ladder_run("t-sft", {"quiz": flat(4)}, stage="sft")],
            Definition(compare=("t-sftt", "t-sft")),
        )


def test_metric_directions_are_respected():
    """Lower is better: a rise of an error rate is a loss."""
    runs = pair(lambda seed: {"quiz": flat(100, 0.2)}, lambda seed: {"quiz": flat(100, 0.8)})
    for run in runs:
        metric = Metric("accuracy", higher_is_better=False)
        run.manifest.tasks = tuple(
            msgspec.structs.replace(part, metrics=(metric,)) for part in run.manifest.tasks
        )
    [found] = alarms(runs)
    assert (found.kind, found.values["fell"]) == ("loss", pytest.approx(60))


HOSTILE = "x\nnote: forged\x1b[31m<b>\ud800"


@pytest.mark.parametrize(
    ("part", "checkpoint", "says"),
    [
        ({}, {"name": ""}, "the checkpoint has no name"),
        ({"sampling": "temperature=abc"}, {}, "no sampling settings: 'temperature=abc'"),
        ({"main_metric": "nope"}, {}, "sums has no metric 'nope'"),
        ({"metrics": ()}, {}, "sums has no metric 'accuracy'"),
        ({"sampling": "foo"}, {}, "another protocol"),
        ({"sampling": "a=b=c"}, {}, "another protocol"),
    ],
)
def test_a_manifest_changed_by_hand_is_left_out_and_told(part, checkpoint, says):
    runs = [
        ladder_run(f"tiny-{name}", {"sums": [1.0, 0.0] * 10}, stage=name)
        for name in ("pt", "sft", "ppo")
    ]
    manifest = runs[2].manifest
    manifest.tasks = tuple(msgspec.structs.replace(task, **part) for task in manifest.tasks)
    manifest.checkpoint = msgspec.structs.replace(manifest.checkpoint, **checkpoint)
    ladder = find_ladder(runs)
    assert any(says in note for note in ladder.notes)
    assert len(ladder.cells) == 2


def test_a_run_that_lost_records_is_told(monkeypatch):
    monkeypatch.setattr("evalsuite.stages.answers.read_rewards", rewards_in_memory)
    runs = [
        ladder_run(f"tiny-{name}", {"sums": [1.0, 0.0] * 10}, stage=name) for name in ("pt", "sft")
    ]
    assert not study(runs).notes
    runs[1]._records = runs[1]._records[:5]
    assert study(runs).notes == (
        f"{runs[1].manifest.run_id}: 5 of 20 records of sums; start the run again",
    )


def test_a_name_with_a_line_end_begins_no_line_on_the_terminal(monkeypatch, capsys):
    from evalsuite.report.stages_terminal import print_stages

    monkeypatch.setattr("evalsuite.stages.answers.read_rewards", rewards_in_memory)
    scores = {HOSTILE: [1.0, 0.0] * 10}
    runs = [ladder_run(f"{HOSTILE}-{name}", scores, stage=name) for name in ("pt", "sft", "ppo")]
    newer = msgspec.structs.replace(runs[2].manifest.tasks[0], version=2)
    runs[2].manifest.tasks = (newer,)
    print_stages(study(runs))
    said = capsys.readouterr().out
    assert "another protocol" in said
    assert "\x1b" not in said
    assert not [line for line in said.splitlines() if line.startswith("note: forged")]
