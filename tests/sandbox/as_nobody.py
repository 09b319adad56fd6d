"""Run by a user without rights: every attempt of the corpus, and two programs in a row.

Prints what was not contained, then how many programs there were and which listeners were reached.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from corpus import CASES, LIMITS
from host import Host
from neighbours import FIND, PLANT

from evalsuite.sandbox import Program, open_sandbox

assert os.getuid() == 65534
host = Host(Path(sys.argv[1]))
programs = {
    name: Program(solution=host.filled_in(case.solution), checks=case.checks)
    for name, case in CASES.items()
    if case.outcomes == ("passed",) and name != "numpy"
}
programs["plant"] = Program(solution=PLANT, checks="")
programs["find"] = Program(solution=FIND, checks="found = found()\nassert found == [], found")
with open_sandbox(limits=LIMITS, workers=1) as opened:
    for number, verdict in opened.run(programs.values()):
        if not verdict.passed:
            print(list(programs)[number], verdict)
print(len(programs), host.reached)
