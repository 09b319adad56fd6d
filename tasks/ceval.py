"""C-Eval: 52 subjects of Chinese exams, from middle school to professional (Huang et al. 2023).

Only the validation split is asked, 1,346 questions: the answers of the test split were not part of
the published archive. ``official`` repeats the authors' answer-only prompt
(github.com/hkust-nlp/ceval), with the mean over subjects; ``lm-eval`` repeats lm-eval's
``ceval-valid``, which leaves out 考试, puts a space before the letter and takes the mean over
questions.
"""

from __future__ import annotations

from typing import ClassVar

from evalsuite.multiple_choice import Subject, SubjectExam, Wording
from evalsuite.request import Sampling
from evalsuite.task import DataSource, TaskMeta

_SUBJECTS: dict[str, dict[str, str]] = {
    "STEM": {
        "advanced_mathematics": "高等数学",
        "college_chemistry": "大学化学",
        "college_physics": "大学物理",
        "college_programming": "大学编程",
        "computer_architecture": "计算机组成",
        "computer_network": "计算机网络",
        "discrete_mathematics": "离散数学",
        "electrical_engineer": "注册电气工程师",
        "high_school_biology": "高中生物",
        "high_school_chemistry": "高中化学",
        "high_school_mathematics": "高中数学",
        "high_school_physics": "高中物理",
        "metrology_engineer": "注册计量师",
        "middle_school_biology": "初中生物",
        "middle_school_chemistry": "初中化学",
        "middle_school_mathematics": "初中数学",
        "middle_school_physics": "初中物理",
        "operating_system": "操作系统",
        "probability_and_statistics": "概率统计",
        "veterinary_medicine": "兽医学",
    },
    "Humanities": {
        "art_studies": "艺术学",
        "chinese_language_and_literature": "中国语言文学",
        "high_school_chinese": "高中语文",
        "high_school_history": "高中历史",
        "ideological_and_moral_cultivation": "思想道德修养与法律基础",
        "law": "法学",
        "legal_professional": "法律职业资格",
        "logic": "逻辑学",
        "middle_school_history": "初中历史",
        "modern_chinese_history": "近代史纲要",
        "professional_tour_guide": "导游资格",
    },
    "Social Science": {
        "business_administration": "工商管理",
        "college_economics": "大学经济学",
        "education_science": "教育学",
        "high_school_geography": "高中地理",
        "high_school_politics": "高中政治",
        "mao_zedong_thought": "毛泽东思想和中国特色社会主义理论体系概论",
        "marxism": "马克思主义基本原理",
        "middle_school_geography": "初中地理",
        "middle_school_politics": "初中政治",
        "teacher_qualification": "教师资格",
    },
    "Other": {
        "accountant": "注册会计师",
        "basic_medicine": "基础医学",
        "civil_servant": "公务员",
        "clinical_medicine": "临床医学",
        "environmental_impact_assessment_engineer": "环境影响评价工程师",
        "fire_engineer": "注册消防工程师",
        "physician": "医师资格",
        "plant_protection": "植物保护",
        "sports_science": "体育学",
        "tax_accountant": "税务师",
        "urban_and_rural_planner": "注册城乡规划师",
    },
}
"""Category → subject in file names → its name in prompts."""

_HARD = {
    "advanced_mathematics",
    "college_chemistry",
    "college_physics",
    "discrete_mathematics",
    "high_school_chemistry",
    "high_school_mathematics",
    "high_school_physics",
    "probability_and_statistics",
}
"""The authors' C-Eval Hard."""

_OFFICIAL = "以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。\n\n"
_LM_EVAL = "以下是中国关于{subject}的单项选择题，请选出其中的正确答案。\n\n"
_QUESTION = "{question}\n{options}\n答案："


def _tags(subject: str, category: str) -> dict[str, str]:
    return {"category": category, **({"difficulty": "Hard"} if subject in _HARD else {})}


class CEval(SubjectExam):
    meta = TaskMeta(
        name="ceval",
        title="C-Eval",
        description="Chinese exams in 52 subjects, validation split, four options a question",
        languages=("zh",),
        domain="knowledge",
        licence="CC-BY-NC-SA-4.0",
        citation="Huang et al. 2023, C-Eval: A Multi-Level Multi-Discipline Chinese Evaluation "
        "Suite for Foundation Models, arXiv:2305.08322",
        source=DataSource(
            hub="ceval/ceval-exam",
            revision="3923b519fd180e689d0961bf3a032ece929742f3",
            files=("ceval-exam.zip",),
            layout="a folder with dev/SUBJECT_dev.csv and val/SUBJECT_val.csv, "
            "each with the columns id, question, A, B, C, D, answer",
            url="https://cevalbenchmark.com",
        ),
        main_metric="accuracy",
        version=1,
        sample_data="samples/ceval",
    )
    wordings: ClassVar[dict[str, Wording]] = {
        "official": Wording(instruction=_OFFICIAL, question=_QUESTION),
        "lm-eval": Wording(
            instruction=_LM_EVAL, question=_QUESTION, delimiter=" ", strip=True, truncate="left"
        ),
        "generate": Wording(
            instruction=_OFFICIAL, question=_QUESTION, sampling=Sampling(max_tokens=256)
        ),
    }
    subjects: ClassVar[dict[str, Subject]] = {
        subject: Subject(name, _tags(subject, category))
        for category, names in _SUBJECTS.items()
        for subject, name in names.items()
    }
    questions = "val/{subject}_val.csv"
    solved = "dev/{subject}_dev.csv"
    columns = ("question", "A", "B", "C", "D", "answer")


TASK = CEval()
