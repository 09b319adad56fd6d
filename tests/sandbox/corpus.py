"""Programs that a harness must survive, each with the outcomes that are right for it.

Unless a case says otherwise its checks want the square of a number. ``@NAME@`` stands for
something real on this machine, see :data:`PLACES`. A case whose checks end with ``== []`` tries to
reach what is outside and lists what it reached: it passes if it is contained.
"""

from __future__ import annotations

from textwrap import dedent
from typing import NamedTuple

from evalsuite.sandbox import Limits

LIMITS = Limits(wall_seconds=4.0, cpu_seconds=4, memory_bytes=512 << 20)

PLACES = ("SECRET", "FOLDER", "PORT", "ABSTRACT", "UNIX", "HARNESS")
"""A file that only the tests know, its folder, listeners of the host, the harness's process."""

SQUARE = "assert f(2) == 4\nassert f(3) == 9"
NOTHING = "found = f()\nassert found == [], found"
RIGHT = "\ndef f(x):\n    return x * x\n"


class Case(NamedTuple):
    """One program; ``outcomes`` are all that would be right."""

    solution: str
    outcomes: tuple[str, ...]
    checks: str
    detail: str


CASES: dict[str, Case] = {}


def case(name: str, outcomes: str, solution: str, checks: str = SQUARE, detail: str = "") -> None:
    assert name not in CASES
    CASES[name] = Case(dedent(solution), tuple(outcomes.split()), checks, detail)


def contained(name: str, body: str) -> None:
    """A case of attempts, each an indented statement that raises unless it got through.

    ``body`` is lines ``label: expression``.
    """
    attempts = []
    for line in filter(None, map(str.strip, body.splitlines())):
        label, _, expression = line.partition(": ")
        attempts.append((label, expression))
    solution = (
        "import ctypes, os, pathlib, resource, signal, socket, subprocess, sys, time\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def connected(family, kind, address, message=b'x'):\n"
        "    with socket.socket(family, kind) as s:\n"
        "        s.settimeout(1)\n"
        "        s.connect(address)\n"
        "        return s.send(message)\n"
        "def f():\n"
        "    reached = []\n"
        f"    for label, attempt in {attempts!r}:\n"
        "        try:\n"
        "            if eval(attempt, globals()):\n"
        "                reached.append(label)\n"
        "        except Exception:\n"
        "            pass\n"
        "    return reached\n"
    )
    case(name, "passed", solution, NOTHING)


# Honest programs, as controls

case("right", "passed", RIGHT)
case("wrong", "failed", "def f(x): return x + 2", detail="AssertionError")
case("raises", "failed", "def f(x):\n    return x / 0", detail="ZeroDivisionError")
case("syntax error", "failed", "def f(x:\n  return", detail="SyntaxError")
case("bad indentation", "failed", "def f(x):\nreturn x", detail="IndentationError")
case("no function", "failed", "def g(x): return x * x", detail="'f'")
case("null in the source", "failed", "x = 1\0" + RIGHT)
case("surrogate in the source", "failed", "x = '\ud800'" + RIGHT)
case("empty", "failed", "")
case(
    "much of the standard library",
    "passed",
    """
    import asyncio, collections, dataclasses, functools, heapq, itertools, json, math, random, re
    import subprocess, tempfile, threading
    @dataclasses.dataclass
    class Number:
        value: int
    async def squared(n):
        await asyncio.sleep(0)
        return n.value ** 2
    def f(x):
        with tempfile.NamedTemporaryFile("w+") as file:
            file.write(json.dumps(asyncio.run(squared(Number(x)))))
            file.flush()
            return int(subprocess.run(["cat", file.name], capture_output=True, text=True).stdout)
    """,
)
case(
    "numpy",
    "passed",
    "import numpy\ndef f(x): return (numpy.full((90, 90), x) @ numpy.eye(90))[0, 0] ** 2",
)
case("reads an empty input", "passed", "import sys\nassert sys.stdin.read() == ''" + RIGHT)

# Time

case("endless loop", "timed_out", "while True: pass")
case("endless loop in a call", "timed_out", "def f(x):\n    while True: pass")
case("endless sleep", "timed_out", "import time\ntime.sleep(1e6)")
case("stops itself", "timed_out", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)")
case(
    "ignores every signal",
    "timed_out",
    """
    import signal
    for number in signal.valid_signals():
        try: signal.signal(number, signal.SIG_IGN)
        except OSError: pass
    while True: pass
    """,
)
case("regular expression", "timed_out", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')")
case(
    "endless generator", "timed_out out_of_memory", "def f():\n    while True: yield 1", "list(f())"
)
case(
    "hangs when shown",
    "timed_out",
    "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
)
case(
    "alarm",
    "killed",
    "import signal, time\nsignal.setitimer(signal.ITIMER_REAL, .05)\ntime.sleep(60)",
    detail="SIGALRM",
)
case(
    "deadlock",
    "timed_out",
    "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
)
case(
    "no time passes",
    "timed_out",
    "import time\ntime.monotonic = time.time = lambda: 0.0\nwhile time.time() < 1: pass",
)

# Processes

case(
    "fork bomb", "failed killed timed_out out_of_memory", "import os\nwhile True: os.fork()" + RIGHT
)
case(
    "fork bomb that goes on",
    "timed_out out_of_memory",
    """
    import os
    while True:
        try: os.fork()
        except OSError: pass
    """,
)
case("fork bomb of the shell", "failed timed_out", "import os\nos.system(':(){ :|:& };:')\n")
case(
    "threads without end",
    "failed",
    "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()",
    detail="RuntimeError",
)
case(
    "thread that runs on",
    "passed",
    "import threading\ndef g():\n    while True: pass\nthreading.Thread(target=g).start()" + RIGHT,
)
case(
    "child that holds the output",
    "passed",
    "import subprocess\nsubprocess.Popen(['sleep', '1000'])" + RIGHT,
)
case(
    "daemon by two forks",
    "passed",
    """
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(1)
        os._exit(0)
    """
    + RIGHT.replace("\n", "\n    "),
)
case(
    "daemon by nohup",
    "passed",
    "import os\nos.system('nohup setsid sleep 1000 >/dev/null 2>&1 &')" + RIGHT,
)
case(
    "child ignores signals",
    "passed",
    "import os, signal\nif os.fork() == 0:\n    for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n    while True: pass\n"
    + RIGHT,
)
case("kills itself", "killed", "import os\nos.kill(os.getpid(), 9)", detail="SIGKILL")
case(
    "ends itself",
    "killed",
    "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
    detail="SIGTERM",
)
case("aborts", "killed", "import os\nos.abort()", detail="SIGABRT")
case("null pointer", "killed", "import ctypes\nctypes.string_at(0)", detail="SIGSEGV")
case(
    "null pointer in a call",
    "killed",
    "import ctypes\ndef f(x): return ctypes.string_at(x)",
    detail="SIGSEGV",
)
case("kills all", "passed killed", "import os\ntry: os.kill(-1, 9)\nexcept OSError: pass" + RIGHT)
case("kills its parent", "passed", "import os\nos.kill(os.getppid(), 9)" + RIGHT)
case("kills its group", "killed", "import os\nos.killpg(0, 9)" + RIGHT)
case(
    "kills every number",
    "passed killed",
    """
    import os, signal
    for process in [1, @HARNESS@, *range(1, 70000)]:
        if process != os.getpid():
            for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
                try: os.kill(process, number)
                except OSError: pass
    """
    + RIGHT.replace("\n", "\n    "),
)
contained(
    "kills the harness",
    """
    kill: os.kill(@HARNESS@, 9) is None
    group: os.killpg(@HARNESS@, 9) is None
    """,
)
case(
    "becomes another program",
    "failed",
    "import os\nos.execv('/bin/true', ['true'])",
    detail="exited with 0",
)

# Memory and disk

case(
    "memory without end", "out_of_memory", "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
)
case(
    "memory in a call",
    "out_of_memory",
    "def f(x):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))",
)
case("much memory at once", "out_of_memory", "kept = bytearray(1 << 40)")
case("long text", "out_of_memory", "kept = 'x' * 10 ** 12")
case("huge number", "timed_out out_of_memory", "kept = 7 ** (7 ** 12)")
case(
    "memory of many processes",
    "out_of_memory",
    """
    import os, time
    for _ in range(12):
        if os.fork() == 0:
            kept = bytearray(os.urandom(1 << 20) * 100)
            while True: time.sleep(1)
    time.sleep(60)
    """,
)
case(
    "memory error caught",
    "passed",
    "try: kept = bytearray(1 << 40)\nexcept MemoryError: pass" + RIGHT,
)
case(
    "fills /tmp",
    "failed",
    "n = 0\nwhile True:\n    n += 1\n    open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))",
    detail="OSError",
)
case(
    "fills /dev/shm",
    "failed",
    "n = 0\nwhile True:\n    n += 1\n    open(f'/dev/shm/{n}', 'wb').write(bytes(1 << 20))",
    detail="OSError",
)
case(
    "one big file",
    "failed",
    "with open('/tmp/big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
    detail="OSError",
)
case(
    "files without end",
    "failed",
    "n = 0\nwhile True:\n    n += 1\n    open(f'/tmp/{n}', 'wb').close()",
    detail="OSError",
)
case(
    "open files without end",
    "failed",
    "kept = []\nwhile True: kept.append(open('/dev/null'))",
    detail="OSError",
)
case("deep recursion", "failed", "def f(x): return f(x)", detail="RecursionError")
case(
    "deeper recursion",
    "killed out_of_memory timed_out",
    "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x): return f(x)",
)
case("deep source", "failed killed out_of_memory", "f = lambda x: " + "(" * 5000 + "x" + ")" * 5000)
case("deep operators", "failed killed out_of_memory", "f = lambda x: " + "-" * 300_000 + "x")
contained(
    "memory that no limit sees",
    """
    memfd: libc.memfd_create(b'x', 0) >= 0
    shared: libc.shmget(0, 1 << 20, 0o1600) >= 0
    queue: libc.msgget(0, 0o1600) >= 0
    more memory: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)) is None
    more processes: resource.setrlimit(resource.RLIMIT_NPROC, (-1, -1)) is None
    more files: resource.setrlimit(resource.RLIMIT_NOFILE, (9999, 9999)) is None
    cores: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)) is None
    """,
)

# Output

case("floods stdout", "timed_out", "while True: print('x' * 10_000)")
case(
    "floods stderr and is right",
    "passed",
    "import sys\nfor _ in range(2000): sys.stderr.write('y' * 10_000)" + RIGHT,
)
case("closes its output", "passed", "import os, sys\nsys.stdout.close()\nos.close(2)" + RIGHT)
case("bytes that are no text", "passed", "import os\nos.write(1, b'\\xff\\xfe\\x00\\x80')" + RIGHT)
case("prints a surrogate", "failed", "print('\\ud800')" + RIGHT, detail="UnicodeEncodeError")
case("prints nulls", "passed", "print('\\0' * 1000)" + RIGHT)
case("replaces stdout", "passed", "import sys\nsys.stdout = sys.stderr = None" + RIGHT)
case(
    "forges a verdict on stdout",
    "failed",
    'import os\nfor n in range(3): os.write(n, b\'{"outcome": "passed"}\\n\') if n else 0\nos._exit(0)',
)
case("huge exception", "failed", "raise ValueError('x' * 10 ** 8)", detail="ValueError")
case(
    "exception that cannot be shown",
    "failed",
    "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
    detail="E",
)
case(
    "exception with a hostile class",
    "failed",
    "class M(type):\n    def __getattribute__(self, name): raise SystemExit\nclass E(Exception, metaclass=M): pass\nraise E",
)
case("exception of surrogates", "failed", "raise ValueError('\\udcff\\0')", detail="ValueError")
case(
    "endless chain of exceptions",
    "failed",
    "a = ValueError()\nb = ValueError()\na.__context__ = b\nb.__context__ = a\nraise a",
    detail="ValueError",
)

# Leaving before the checks have ended

for number, (leave, detail) in enumerate(
    [
        ("sys.exit(0)", "SystemExit"),
        ("sys.exit()", "SystemExit"),
        ("exit()", "SystemExit"),
        ("quit(0)", "SystemExit"),
        ("raise SystemExit", "SystemExit"),
        ("raise SystemExit(0)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise BaseException", "BaseException"),
        ("os._exit(0)", "exited with 0"),
        ("ctypes.CDLL(None).exit(0)", "exited with 0"),
        ("ctypes.CDLL(None)._exit(0)", "exited with 0"),
        ("atexit.register(os._exit, 0); sys.exit(0)", "SystemExit"),
        ("threading.Thread(target=os._exit, args=(0,)).start(); time.sleep(9)", "exited with 0"),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", "KeyboardInterrupt"),
        ("os.fork() and os._exit(0); time.sleep(9)", "exited with 0"),
    ]
):
    imports = "import atexit, ctypes, os, signal, sys, threading, time\n"
    case(f"leaves at once {number}: {leave}", "failed", f"{imports}{leave}", detail=detail)
    case(
        f"leaves in a call {number}: {leave}",
        "failed",
        f"{imports}def f(x):\n    {leave}",
        detail=detail,
    )
case(
    "leaves in a catch",
    "failed",
    "def f(x): raise SystemExit(0)",
    "try:\n    f(2)\nexcept BaseException:\n    pass",
)
case(
    "leaves when deleted",
    "failed",
    "import os\nclass D:\n    def __del__(self): os._exit(0)\nd = D()\ndel d",
)

# Forging

case(
    "equal to all",
    "failed",
    "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()",
    detail="NotComparable",
)
case(
    "different from nothing",
    "failed",
    "class A:\n    def __ne__(self, other): return False\ndef f(x): return A()",
    "assert not f(2) != 4",
)
case(
    "number equal to all",
    "failed",
    "class A(int):\n    def __eq__(self, other): return True\ndef f(x): return A(0)",
)
case(
    "text equal to all",
    "failed",
    "class A(str):\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "assert f(2) == 'four'",
)
case(
    "list equal to all",
    "failed",
    "class A(list):\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "assert f(2) == [4]",
)
case(
    "dict equal to all",
    "failed",
    "class A(dict):\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "assert f(2) == {4: 4}",
)
case(
    "list of equals to all",
    "failed",
    "class A:\n    def __eq__(self, other): return True\n    __hash__ = object.__hash__\ndef f(x): return [A()]",
    "assert f(2) == [4]",
)
case(
    "close to all",
    "failed",
    "class A(float):\n    def __sub__(self, other): return 0.0\n    __rsub__ = __sub__\n    def __abs__(self): return 0.0\n    def __lt__(self, other): return True\ndef f(x): return A(0)",
    "assert abs(f(2) - 4.0) < 1e-6",
)
case(
    "close to all, no number",
    "failed",
    "class A:\n    def __sub__(self, other): return 0.0\n    def __float__(self): return 4.0\ndef f(x): return A()",
    "import math\nassert abs(f(2) - 4.0) < 1e-6 or math.isclose(f(2), 4.0)",
)
case(
    "contains all",
    "failed",
    "class A:\n    def __contains__(self, other): return True\n    def __iter__(self): return iter(())\ndef f(x): return A()",
    "assert 4 in f(2)",
)
case(
    "sorts like all",
    "failed",
    "class A:\n    def __lt__(self, other): return True\n    def __eq__(self, other): return True\ndef f(x): return [A(), A()]",
    "assert sorted(f(2)) == [1, 2]",
)
case(
    "claims another class",
    "failed",
    "class A:\n    __class__ = int\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "assert isinstance(f(2), int) and f(2) == 4",
)
case(
    "its module for the checks",
    "failed",
    "class math:\n    isclose = staticmethod(lambda *a: True)\ndef f(x): return 5",
    "assert math.isclose(f(2), 4)",
)
case(
    "ends an iteration early",
    "failed",
    "def f(x): raise StopIteration",
    "assert all(map(f, [2, 3]))",
)
case(
    "strange name of a process",
    "passed",
    "import ctypes\nctypes.CDLL(None).prctl(15, b'VmHWM: x)\\n \\xff', 0, 0, 0)" + RIGHT,
)
case(
    "function that is no function",
    "failed",
    "class F:\n    def __call__(self, x): return self\n    def __eq__(self, other): return True\nf = F()",
)
case(
    "patches assert",
    "failed",
    "import builtins\nclass Quiet(Exception):\n    def __new__(cls, *a): raise SystemExit(0)\nbuiltins.AssertionError = Quiet\ndef f(x): return 5",
)
case(
    "patches builtins",
    "failed",
    "import builtins\nfor name in ('compile', 'exec', 'eval', 'isinstance', 'len', 'type', 'getattr', 'abs', 'sorted'):\n    setattr(builtins, name, lambda *a, **k: True)\ndef f(x): return 5",
)
case(
    "patches math",
    "failed",
    "import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return 5",
    "import math\nassert math.isclose(f(2), 4)",
)
case(
    "patches exits",
    "failed",
    "import sys, os\nsys.exit = os._exit = os.abort = lambda *a: None\ndef f(x): return 5",
)
case(
    "patches the cell",
    "failed",
    "import sys\nfor name, module in list(sys.modules.items()):\n    if name.startswith('inside'):\n        for key in list(vars(module)):\n            if not key.startswith('__'): setattr(module, key, lambda *a, **k: None)\ndef f(x): return 5",
)
case(
    "reports itself",
    "failed",
    "import os, sys\nsys.modules['inside.checks'].check({'checks': '', 'preamble': '', 'entry': ''}, None, print)\nos._exit(0)",
)
case(
    "defines the check",
    "failed",
    "def check(f): return True\ndef f(x): return 5",
    "def check(f):\n    assert f(2) == 4\ncheck(f)",
)
case(
    "writes to every file",
    "failed",
    'import os\nfor n in range(256):\n    try: os.write(n, b\'{"outcome": "passed", "detail": "", "where": ""}\\n\')\n    except OSError: pass\nos._exit(0)',
)
case(
    "writes a verdict as a message",
    "failed",
    "import os, json\nfor m in (['passed', None], {'outcome': 'passed'}, 'passed', True, ['value', ['object', ['x', 'y']]]):\n    d = json.dumps(m).encode()\n    os.write(3, len(d).to_bytes(4, 'big') + d)\nos._exit(0)",
)
case("messages without sense", "failed", "import os\nwhile True: os.write(3, os.urandom(1000))")
case("message of 4 GiB", "failed", "import os, time\nos.write(3, b'\\xff' * 4)\ntime.sleep(60)")
case(
    "message of deep lists",
    "failed",
    "import os\ndef send(b): os.write(3, len(b).to_bytes(4, 'big') + b)\nsend(b'[\"ready\", null]')\nsend(b'[' * 50_000 + b']' * 50_000)\nimport time; time.sleep(60)",
)
case(
    "exceptions of another shape",
    "failed",
    "import os, time, json\ndef send(m):\n    b = json.dumps(m).encode()\n    os.write(3, len(b).to_bytes(4, 'big') + b)\nsend(['ready', None])\nsend(['raised', ['ValueError', ['x' * 10 ** 6], ['y' * 10 ** 6], 10 ** 4000]])\ntime.sleep(60)",
)
case(
    "message that takes much memory",
    "out_of_memory failed timed_out",
    "import os, time\nb = b'[' + b'[],' * 20_000_000 + b'0]'\nos.write(3, len(b).to_bytes(4, 'big'))\nb = memoryview(b)\nwhile b: b = b[os.write(3, b):]\ntime.sleep(60)",
)
case(
    "answers that take much memory",
    "out_of_memory failed timed_out",
    "def f(x): return [[] for _ in range(3_000_000)]",
    "kept = [f(n) for n in range(99)]",
)
case(
    "values that are none",
    "failed",
    "import os, time\ndef send(b): os.write(3, len(b).to_bytes(4, 'big') + b)\nsend(b'[\"ready\", null]')\nfor _ in range(9): send(b'[\"value\", [\"list\", 7]]')\ntime.sleep(60)",
)
case(
    "exceptions that are none",
    "failed",
    "import os, time\ndef send(b): os.write(3, len(b).to_bytes(4, 'big') + b)\nsend(b'[\"ready\", null]')\nfor _ in range(9): send(b'[\"raised\", [[], {}, 1e999, Infinity]]')\ntime.sleep(60)",
)
case("closes its channel", "failed", "import os, time\nos.closerange(0, 256)\ntime.sleep(60)")
case("moves its channel", "failed", "import os\nos.dup2(1, 3)" + RIGHT)
case("too large a value", "failed out_of_memory", "def f(x): return 'x' * (1 << 27)")
case(
    "contains itself", "failed", "a = []\na.append(a)\ndef f(x): return a", detail="RecursionError"
)
case(
    "searches for the checks",
    "passed",
    """
    import gc, sys
    def f():
        'Objects and frames that mention what only the checks know.'
        mark = ''.join(map(chr, (122, 97, 110, 122, 105, 98, 97, 114)))
        found = []
        frame = sys._getframe()
        while frame:
            found += [k for k, v in frame.f_locals.items() if k != 'found' and k != 'mark' and mark in repr(v)]
            frame = frame.f_back
        for thing in gc.get_objects():
            for part in gc.get_referents(thing):
                if isinstance(part, (str, bytes)) and part is not mark and mark in str(part):
                    found.append(str(part)[:80])
        return found
    """,
    "mark = 'zanzibar'\nassert f() == [], f()",
)
contained(
    "files that it holds",
    """
    files: [n for n in range(4, 1024) if os.fstat(n)]
    more: [n for n in range(4, 1024) if not os.set_inheritable(n, True)]
    read: os.read(0, 1)
    listing: os.listdir('/proc/self/fd')
    """,
)

# Reaching outside

contained(
    "secrets",
    """
    file: open('@SECRET@').read()
    folder: os.listdir('@FOLDER@')
    home: os.listdir(os.path.expanduser('~'))
    root: [name for name in os.listdir('/root') if not (sys.prefix + sys.base_prefix).count('/root/' + name + '/')]
    shadow: open('/etc/shadow').read()
    passwd: open('/etc/passwd').read()
    environment: dict(os.environ)
    its own file: open('/proc/self/environ').read()
    first process: open('/proc/1/environ').read()
    harness: open('/proc/@HARNESS@/cmdline').read()
    processes: os.listdir('/proc')
    answers: __import__('evalsuite').__file__
    dataset: [p for d in sys.path for p in pathlib.Path(d).glob('evalsuite*/*')]
    users: __import__('getpass').getuser()
    system: os.listdir('/sys') or os.listdir('/var') or os.listdir('/home')
    kernel: open('/dev/kmsg').read(1) or open('/dev/mem', 'rb').read(1) or open('/dev/vda', 'rb').read(1)
    """,
)
contained(
    "links",
    """
    symbolic: os.symlink('@SECRET@', 's') or open('s').read()
    root: os.symlink('/proc/1/root@SECRET@', 'r') or open('r').read()
    hard: os.link('@SECRET@', 'h') or open('h').read()
    up: open('../../../..@SECRET@').read()
    working: open('/proc/self/cwd/../..@SECRET@').read()
    handle: libc.open_by_handle_at(-100, b'x' * 100, 0) >= 0
    """,
)
contained(
    "writing",
    """
    secret: open('@SECRET@', 'a').write('x')
    beside: open('@FOLDER@/planted', 'w').write('x')
    system: open('/usr/planted', 'w').write('x')
    root: open('/planted', 'w').write('x')
    python: open(os.__file__, 'a').write('x')
    packages: [open(d + '/planted.py', 'w').write('x') for d in sys.path if os.path.isdir(d)]
    devices folder: open('/dev/planted', 'w').write('x')
    own root: open('/root/planted', 'w').write('x')
    folder: os.mkdir('/planted') is None
    cell: open('/evalsuite/inside/zygote.py', 'a').write('x')
    rename: os.rename('/usr', '/tmp/usr') is None
    remove: os.unlink('/usr/bin/env') is None
    mode: os.chmod('/usr/bin', 0o777) is None
    devices: os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0)) is None
    magic: open('/proc/sysrq-trigger', 'w').write('b')
    memory: open('/proc/self/mem', 'r+b').write(b'x')
    killer: open('/proc/self/oom_score_adj', 'w').write('-1000')
    pattern: open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x')
    """,
)
contained(
    "sockets",
    """
    tcp: connected(socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', @PORT@))
    udp: connected(socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', @PORT@))
    six: connected(socket.AF_INET6, socket.SOCK_STREAM, ('::1', @PORT@))
    far: connected(socket.AF_INET, socket.SOCK_STREAM, ('1.1.1.1', 53))
    far udp: connected(socket.AF_INET, socket.SOCK_DGRAM, ('1.1.1.1', 53))
    unix: connected(socket.AF_UNIX, socket.SOCK_STREAM, '@UNIX@')
    abstract: connected(socket.AF_UNIX, socket.SOCK_STREAM, chr(0) + '@ABSTRACT@')
    netlink: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    packet: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
    machine: socket.socket(40, socket.SOCK_STREAM)
    crypto: socket.socket(38, socket.SOCK_SEQPACKET)
    name: socket.getaddrinfo('example.com', 80)
    docker: connected(socket.AF_UNIX, socket.SOCK_STREAM, '/var/run/docker.sock')
    """,
)
contained(
    "rights",
    """
    root: os.setuid(0) is None
    group: os.setgid(0) is None
    groups: os.setgroups([0]) is None
    user: os.getuid() == 0 or os.geteuid() == 0
    su: subprocess.run(['su', '-c', 'true'], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
    mount: libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0
    proc: libc.mount(b'proc', b'/proc', b'proc', 0, None) == 0
    unmount: libc.umount2(b'/proc', 2) == 0
    root folder: os.chroot('/tmp') is None
    namespaces: libc.unshare(0x10000000) == 0
    namespaces by clone: libc.syscall(56, 0x10000011, 0, 0, 0, 0) >= 0
    enter: libc.setns(0, 0) == 0
    host name: socket.sethostname('x') is None
    restart: libc.reboot(0x01234567) == 0
    clock: time.clock_settime(time.CLOCK_REALTIME, 0) is None
    trace parent: libc.ptrace(16, os.getppid(), 0, 0) == 0
    trace first: libc.ptrace(16, 1, 0, 0) == 0
    traced: libc.ptrace(0, 0, 0, 0) == 0
    modules: libc.syscall(313, 0, b'', 0) == 0
    keys: libc.syscall(248, b'user', b'k', b'x', 1, -3) > 0
    bpf: libc.syscall(321, 0, 0, 0) >= 0
    rings: libc.syscall(425, 8, bytes(200)) >= 0
    priority: os.nice(-5) < 0
    limits of the first: resource.prlimit(1, resource.RLIMIT_CPU, (1, 1)) is None
    """,
)
case(
    "core dump",
    "killed",
    """
    import ctypes, os, resource
    try: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    except ValueError: pass
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    ctypes.string_at(0)
    """,
    detail="SIGSEGV",
)
