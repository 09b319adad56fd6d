"""The stages of one training, read from finished runs: what each gained, lost and gamed."""

from evalsuite.stages.definition import Definition, read_definition
from evalsuite.stages.study import Stages, study

__all__ = ["Definition", "Stages", "read_definition", "study"]
