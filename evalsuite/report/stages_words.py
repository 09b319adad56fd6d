"""The words of tables and pages of stages, in English and Chinese, and the reason of an alarm in words."""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.report.stages_numbers import p_value, percent, points
from evalsuite.stages.alarms import Alarm
from evalsuite.stages.study import Stages

STAGES_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "warning": "Warning",
        "warnings": "Warnings",
        "notices": "Worth a look",
        "stages": "Stages",
        "stage": "Stage",
        "family": "Family",
        "tasks": "Tasks",
        "task": "Task",
        "seeds": "Seeds",
        "seed": "seed",
        "some_seeds": "seeds",
        "greedy": "greedy",
        "sampled": "sampled",
        "theme": "Light / dark",
        "curves": "Curves over the stages",
        "curves_help": (
            "A dot is the mean over seeds, its bar the 95% interval. A line leads from each stage to"
            " what was trained from it: whole with a band along the trunk, dashed to a branch."
        ),
        "scores": "Scores",
        "scores_help": (
            "Mean over seeds with its 95% interval (its longer side after ±); n counts questions."
        ),
        "transitions": "From stage to stage",
        "transitions_help": (
            "Paired, question by question, against the parent: change in points with its 95%"
            " interval. {marks} No mark: it may be chance. Holm's correction over the tasks."
        ),
        "one_mark": "A mark: the change holds for these checkpoints.",
        "two_marks": (
            "Two marks: the change holds for other seeds too. One mark: it holds for these checkpoints."
        ),
        "lost": "loss of {margin} points",
        "lost_help": (
            "A loss of the margin is excluded where the 95% interval lies wholly above −margin, found"
            " where the change reaches −margin and the interval lies wholly below zero, and else not"
            " settled."
        ),
        "pass": "excluded",
        "regression": "found",
        "inconclusive": "not settled",
        "these": "these checkpoints",
        "others": "other seeds too",
        "change": "change",
        "parent": "parent",
        "first": "first stage",
        "rewards": "Rewards",
        "rewards_help": (
            "Mean reward of answers that were not cut off, and the paired change to the parent."
        ),
        "reward_model": "reward model",
        "cut_off": "cut off",
        "failures": "How answers fail",
        "failures_help": "Share of answers, so far as the records can tell.",
        "truncated": "truncated",
        "unanswered": "no answer found",
        "refused": "refused",
        "repetitive": "repetitive",
        "wrong_language": "wrong language",
        "matrix": "Win rates",
        "matrix_help": (
            "How often the row answers better than the column: (wins + ties/2) / questions, with its"
            " 95% interval, over {tasks}."
        ),
        "by_score": "by the tasks' own scores",
        "by_reward": "by the reward of {name}",
        "categories": "By category",
        "samples": "Samples side by side",
        "question": "Question",
        "target": "Reference",
        "score": "score",
        "answers": "answers",
        "runs": "Runs",
        "notes": "Notes",
        "command": "Command",
        "fingerprint": "Fingerprint",
        "no_run": "no run",
        "written": "Written by evalsuite stages {version}; do not edit.",
        "method": "How to read this",
        "method_text": (
            "Seeds and questions are crossed random effects: an interval over several seeds is about"
            " other seeds and other questions (two-way variance, Howe's limits); with one seed it is about other questions only. An alarm is about"
            " the checkpoints at hand: each seed is tested against its parent on the same"
            " questions, and so is the loss of all seeds together, with Holm's correction over tasks"
            " and seeds, so that a stage that is no worse than its parent raises each kind of alarm"
            " with a probability of at most 5%."
        ),
        "hacking": (
            "reward hacking: the reward of {rm} rose {reward} while the checks fell {fell} points"
            " on {task} ({p} for both)"
        ),
        "collapse": (
            "collapse: one answer to {share} of {prompts} different prompts on {task}, {parent_share}"
            " in {parent} ({p}): “{answer}”"
        ),
        "refusing": (
            "refuses everything: {share} of the answers on {task}, {parent_share} in {parent} ({p})"
        ),
        "trade": "trade: {task} fell {fell} points ({p}) while {other} rose {gained}",
        "loss": "loss: {task} fell {fell} points ({p}), more than the margin of {margin}",
        "trade_over": (
            "trade: {task} fell {fell} points over {over} seeds together (95% interval {least} …"
            " {most}, {p}), more than the margin of {margin}, while {other} rose {gained}"
        ),
        "loss_over": (
            "loss: {task} fell {fell} points over {over} seeds together (95% interval {least} …"
            " {most}, {p}), more than the margin of {margin}"
        ),
        "unearned": (
            "the reward of {rm} rose {reward} ({p}) on {task}, and the checks provably rose by less"
            " than the margin (change {gained} points)"
        ),
        "in_seeds": "{text} ({seeds})",
        "failing": "{failure}: {share} of the answers on {task}, {parent_share} in {parent} ({p})",
    },
    "zh": {
        "warning": "警告",
        "warnings": "警告",
        "notices": "值得留意",
        "stages": "训练阶段",
        "stage": "阶段",
        "family": "系列",
        "tasks": "任务",
        "task": "任务",
        "seeds": "种子",
        "seed": "种子",
        "some_seeds": "种子",
        "greedy": "贪心解码",
        "sampled": "采样解码",
        "theme": "浅色 / 深色",
        "curves": "各阶段曲线",
        "curves_help": (
            "圆点为各种子的平均得分，竖线为 95% 置信区间。连线从父阶段指向由它训练而来的阶段："
            "主干为带区间的实线，分支为虚线。"
        ),
        "scores": "得分",
        "scores_help": "各种子的平均得分与 95% 置信区间（± 后为较长一侧）；n 为题数。",
        "transitions": "阶段之间的变化",
        "transitions_help": (
            "与父阶段逐题配对比较：变化（分）与 95% 置信区间。{marks}"
            "没有标记：可能出于偶然。已按任务数作 Holm 校正。"
        ),
        "one_mark": "一个标记：对这些检查点成立；",
        "two_marks": "两个标记：换用其他种子也成立；一个标记：对这些检查点成立；",
        "lost": "下降 {margin} 分",
        "lost_help": (
            "下降达到界限：95% 置信区间全在 −界限 之上，则已排除；变化达到 −界限 且区间全在零以下，则已发现；"
            "否则尚无定论。"
        ),
        "pass": "已排除",
        "regression": "已发现",
        "inconclusive": "尚无定论",
        "these": "这些检查点",
        "others": "其他种子亦然",
        "change": "变化",
        "parent": "父阶段",
        "first": "起始阶段",
        "rewards": "奖励",
        "rewards_help": "未被截断的回答的平均奖励，以及与父阶段的配对变化。",
        "reward_model": "奖励模型",
        "cut_off": "被截断",
        "failures": "回答如何失败",
        "failures_help": "占全部回答的比例，仅限记录所能证明者。",
        "truncated": "截断",
        "unanswered": "未找到答案",
        "refused": "拒答",
        "repetitive": "重复",
        "wrong_language": "语言不符",
        "matrix": "胜率",
        "matrix_help": "行优于列的比例：（胜 + 平/2）/ 题数，附 95% 置信区间，任务：{tasks}。",
        "by_score": "按任务自身得分",
        "by_reward": "按 {name} 的奖励",
        "categories": "分类得分",
        "samples": "并排样例",
        "question": "题目",
        "target": "参考答案",
        "score": "得分",
        "answers": "回答",
        "runs": "运行记录",
        "notes": "说明",
        "command": "命令",
        "fingerprint": "指纹",
        "no_run": "未运行",
        "written": "由 evalsuite stages {version} 生成，请勿编辑。",
        "method": "阅读说明",
        "method_text": (
            "种子与题目是交叉的随机效应：多个种子的区间同时反映换种子与换题目的波动（双向方差，"
            "Howe 置信限）；只有一个种子时，区间只反映换题目的波动。"
            "警告针对眼前的检查点：每个种子与其父阶段在相同题目上比较，退步还按全部种子的平均检验，"
            "并对任务与种子作 Holm 校正，因此不逊于父阶段的阶段触发每类警告的概率不超过 5%。"
        ),
        "hacking": (
            "奖励作弊：在 {task} 上，{rm} 给出的奖励上升 {reward}，而检查得分下降 {fell} 分（两者均 {p}）"
        ),
        "collapse": (
            "坍缩：在 {task} 上，{prompts} 个不同题目中有 {share} 得到同一个回答，"
            "{parent} 为 {parent_share}（{p}）：“{answer}”"
        ),
        "refusing": "一概拒答：在 {task} 上拒答 {share}，{parent} 为 {parent_share}（{p}）",
        "trade": "此消彼长：{task} 下降 {fell} 分（{p}），而 {other} 上升 {gained} 分",
        "loss": "退步：{task} 下降 {fell} 分（{p}），超过界限 {margin} 分",
        "trade_over": (
            "此消彼长：{task} 在 {over} 个种子上合计平均下降 {fell} 分（95% 置信区间 {least} … {most}，{p}），"
            "超过界限 {margin} 分，而 {other} 上升 {gained} 分"
        ),
        "loss_over": (
            "退步：{task} 在 {over} 个种子上合计平均下降 {fell} 分（95% 置信区间 {least} … {most}，{p}），"
            "超过界限 {margin} 分"
        ),
        "unearned": (
            "在 {task} 上，{rm} 给出的奖励上升 {reward}（{p}），而检查得分的升幅确定小于界限（变化 {gained} 分）"
        ),
        "in_seeds": "{text}（{seeds}）",
        "failing": "{failure}：在 {task} 上占 {share}，{parent} 为 {parent_share}（{p}）",
    },
}


def legend(stages: Stages) -> str:
    """What changes and their marks mean; only the marks that these stages can have."""
    words = STAGES_WORDS[stages.language]
    several = any(change.seeds > 1 for each in stages.transitions for change in each.changes)
    return words["transitions_help"].format(marks=words["two_marks" if several else "one_mark"])


def reason(alarm: Alarm, language: str) -> str:
    """Why the alarm was raised, in one sentence."""
    words = STAGES_WORDS[language]
    shown = {
        "task": alarm.task,
        "parent": alarm.parent,
        **{key: _shown(key, value, words) for key, value in alarm.values.items()},
    }
    if "over" in alarm.values:  # its words say how many seeds
        return words[f"{alarm.kind}_over"].format(**shown)
    text = words[alarm.kind].format(**shown)
    if not alarm.seeds:
        return text
    return words["in_seeds"].format(text=text, seeds=_joined(alarm.seeds, words))


def _joined(labels: Sequence[str], words: dict[str, str]) -> str:
    """``seeds 1, 2``; labels that are more than a seed as they are."""
    numbers = [label.removeprefix("seed ") for label in labels]
    if not all(number.isdecimal() for number in numbers):
        return ", ".join(labels)
    word = words["seed"] if len(numbers) == 1 else words["some_seeds"]
    return f"{word} {', '.join(numbers)}"


def _shown(key: str, value: object, words: dict[str, str]) -> str:
    if isinstance(value, str):
        return words[value] if key == "failure" else value
    assert isinstance(value, (int, float))
    if key == "p":
        return p_value(value)
    if key in ("share", "parent_share"):
        return percent(value)
    if key in ("prompts", "over"):
        return f"{value:,.0f}"
    if key == "reward":
        return f"{value:.2f}"
    return points(value)
