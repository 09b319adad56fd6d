"""A program that tries to get out."""

from __future__ import annotations

from evalsuite.sandbox.program import Program, Verdict

_SOLUTION = '''
import os, socket

def reached():
    """What it should not reach."""
    found = []
    try:
        open("/usr/evalsuite-probe", "w")
        found.append("writes to /usr")
    except OSError:
        pass
    if os.path.exists("/etc/passwd") or os.path.exists("/etc/shadow"):
        found.append("reads /etc")
    if os.listdir("/proc") or os.listdir("/tmp"):
        found.append("sees processes or files")
    if os.getuid() == 0 or os.getppid() != 1:
        found.append("runs as root or beside other processes")
    if dict(os.environ):
        found.append("has an environment")
    with socket.socket() as connection:
        try:
            connection.bind(("127.0.0.1", 0))
            connection.listen()
            with socket.socket() as other:
                other.settimeout(1)
                other.connect(connection.getsockname())
            found.append("has a network")
        except OSError:
            pass
    return found
'''

PROBE = Program(solution=_SOLUTION, checks="assert reached() == [], reached()")


def fault_of(verdict: Verdict) -> str:
    """Why it shows no isolation; empty if it does."""
    if verdict.passed:
        return ""
    return f"bubblewrap does not isolate here: {verdict.outcome} {verdict.detail}"
