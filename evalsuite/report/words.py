"""The words of a page, in English and Chinese. Both languages have every key; a test says so."""

from __future__ import annotations

LANGUAGES: dict[str, str] = {"en": "en", "zh": "zh-CN"}
"""Language → its code in HTML."""

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "models": "Models",
        "tasks": "Tasks",
        "newest_run": "Newest run",
        "results": "Results",
        "model": "Model",
        "baseline": "baseline",
        "theme": "Light / dark",
        "lower": "lower is better",
        "macro": "macro over",
        "comma": ", ",
        "points": "points",
        "results_help": (
            "Score, 95% interval, number of samples. Choose a column heading to sort by it."
        ),
        "errors": "errors",
        "truncated": "truncated",
        "charts": "Intervals",
        "charts_help": "Dot: score. Line: 95% interval. Dashed: the baseline's score.",
        "no_score_for": "Without a score",
        "differences": "Against the baseline",
        "differences_help": (
            "Paired, question by question: difference in points, its 95% interval, two-sided p"
            " value (not corrected for the number of comparisons), samples better and worse."
        ),
        "better": "better",
        "worse": "worse",
        "samples": "Samples",
        "samples_help": "Disagreements come first. The arrow keys ← and → go through the list.",
        "task": "Task",
        "show": "Show",
        "kind_all": "All",
        "kind_differ": "Models differ",
        "kind_errors": "With errors",
        "kind_truncated": "Truncated",
        "shown_of": "{shown} of {total} shown",
        "previous": "Previous",
        "next": "Next",
        "question": "Question",
        "target": "Target",
        "extracted": "Extracted",
        "nothing_extracted": "nothing",
        "score": "score",
        "no_samples": "No such samples.",
        "not_answered": "not asked",
        "error": "error",
        "details": "Details",
        "output": "Output",
        "choice": "choice",
        "log_likelihood": "log-likelihood",
        "nothing_common": "no samples in common",
        "no_baseline_score": "the baseline has no score",
        "no_samples_here": "no samples",
        "needs_script": "The sample viewer and sorting need JavaScript; everything else is here.",
        "breakdown": "By tag",
        "runs": "Runs",
        "runs_help": "What each score depends on, and the command that repeats it.",
        "signature": "Signatures",
        "command": "Reproduce",
        "source": "Checkpoint",
        "fingerprint": "Fingerprint",
        "template": "Chat template",
        "engine": "Engine",
        "status": "Status",
        "finished": "Finished",
        "warnings": "Warnings",
        "cost": "Quality, speed and memory",
        "cost_help": (
            "To the right: tokens a second. Upwards: the score. Area: peak memory. Filled: no other"
            " configuration is as good, as fast and as small, and better in one. Only what ran the"
            " same workload on the same hardware stands in one picture."
        ),
        "speed": "Tokens a second",
        "weights": "Weights",
        "hardware": "Hardware",
        "time": "Time",
        "tokens": "Tokens",
        "asked": "asked",
        "computed": "computed",
        "memory": "Peak memory",
        "method": "How to read this",
        "method_text": (
            "A score over independent right-or-wrong answers has Wilson's interval; every other"
            " has a BCa bootstrap, by clusters where samples share a passage, within groups for"
            " macro averages. Differences are paired: Tango's interval and the exact McNemar test"
            " for right-or-wrong answers, otherwise a paired bootstrap and approximate"
            " randomisation. A sample that failed is no zero: it has no score and is counted as"
            " an error. Columns differ where the prompt, the number of examples, the task's"
            " version or the data differ."
        ),
        "not_run": "not run",
        "unfinished": "run is {detail}",
        "no_metric": "has only {detail}",
        "other_protocol": "only {detail}",
        "not_scored": "not scored",
        "no_score": "no score: {detail}",
    },
    "zh": {
        "models": "模型",
        "tasks": "任务",
        "newest_run": "最新运行",
        "results": "结果",
        "model": "模型",
        "baseline": "基线",
        "theme": "浅色 / 深色",
        "lower": "越低越好",
        "macro": "宏平均",
        "comma": "、",
        "points": "分",
        "results_help": "得分、95% 置信区间与样本数。点击列标题即可排序。",
        "errors": "错误",
        "truncated": "截断",
        "charts": "置信区间",
        "charts_help": "圆点为得分，横线为 95% 置信区间，虚线为基线得分。",
        "no_score_for": "无得分",
        "differences": "与基线比较",
        "differences_help": (
            "逐题配对比较：差值（分）、95% 置信区间、双侧 p 值（未作多重比较校正）、"
            "变好与变差的样本数。"
        ),
        "better": "变好",
        "worse": "变差",
        "samples": "样本",
        "samples_help": "模型有分歧的样本排在最前。可用方向键 ← → 翻看。",
        "task": "任务",
        "show": "显示",
        "kind_all": "全部",
        "kind_differ": "模型有分歧",
        "kind_errors": "有错误",
        "kind_truncated": "被截断",
        "shown_of": "显示 {shown} / {total}",
        "previous": "上一个",
        "next": "下一个",
        "question": "题目",
        "target": "参考答案",
        "extracted": "提取结果",
        "nothing_extracted": "无",
        "score": "得分",
        "no_samples": "没有这样的样本。",
        "not_answered": "未提问",
        "error": "错误",
        "details": "详情",
        "output": "输出",
        "choice": "选项",
        "log_likelihood": "对数似然",
        "nothing_common": "没有共同样本",
        "no_baseline_score": "基线没有得分",
        "no_samples_here": "无样本",
        "needs_script": "样本查看与排序需要 JavaScript，其余内容均已在页面中。",
        "breakdown": "分类得分",
        "runs": "运行记录",
        "runs_help": "得分所依赖的全部条件，以及复现命令。",
        "signature": "签名",
        "command": "复现命令",
        "source": "检查点",
        "fingerprint": "指纹",
        "template": "对话模板",
        "engine": "推理引擎",
        "status": "状态",
        "finished": "完成时间",
        "warnings": "警告",
        "cost": "质量、速度与内存",
        "cost_help": (
            "横轴为每秒词元数，纵轴为得分，圆面积为内存峰值。实心点：没有其他配置在三者上都不逊色"
            "且至少一项更优。同一张图中的配置在相同硬件上运行相同负载。"
        ),
        "speed": "每秒词元数",
        "weights": "权重",
        "hardware": "硬件",
        "time": "耗时",
        "tokens": "词元",
        "asked": "待答",
        "computed": "实际计算",
        "memory": "内存峰值",
        "method": "阅读说明",
        "method_text": (
            "相互独立的对错题采用 Wilson 置信区间；其余得分采用 BCa 自助法，"
            "共用文章的样本按簇重抽，宏平均在组内重抽。差值逐题配对：对错题采用 Tango 区间与"
            "精确 McNemar 检验，其余采用配对自助法与近似随机化检验。失败的样本不计为零分，"
            "而是没有得分，单独计为错误。提示词、示例数、任务版本或数据不同的结果分列显示。"
        ),
        "not_run": "未运行",
        "unfinished": "运行状态：{detail}",
        "no_metric": "仅有 {detail}",
        "other_protocol": "仅有 {detail}",
        "not_scored": "未评分",
        "no_score": "无得分：{detail}",
    },
}
