"""A program that leaves what it can, and one that looks for it."""

from __future__ import annotations

PLANT = """
import builtins, os, sys, math
for folder in ("/tmp", "/dev/shm", "/var/tmp", "/", os.getcwd(), os.path.dirname(os.__file__)):
    try:
        for name in ("left.py", "json.py", "sitecustomize.py"):
            with open(folder + "/" + name, "w") as file: file.write("found = True")
    except OSError: pass
import random, socket
builtins.left = math.left = sys.left = True
os.environ["left"] = "left"
os.umask(0o123)
random.seed(7)
sys.path.insert(0, "/tmp")
s = socket.socket(socket.AF_UNIX)
s.bind("\\0left")
s.listen()
os.fork() or __import__("time").sleep(1000)
"""
FIND = """
import builtins, gc, math, os, socket, sys
def found():
    seen = [f for d in ("/tmp", "/dev/shm", "/") for f in os.listdir(d) if f.endswith(".py")]
    seen += [w.__name__ for w in (builtins, math, sys) if hasattr(w, "left")]
    seen += list(os.environ)
    seen += ["umask"] if os.umask(0o22) == 0o123 else []
    seen += ["sys.path"] if "/tmp" in sys.path else []
    try:
        import left
        seen.append("import")
    except ImportError: pass
    try:
        socket.socket(socket.AF_UNIX).connect("\\0left")
        seen.append("socket")
    except OSError: pass
    try:
        os.kill(3, 0)
        seen.append("process")
    except OSError: pass
    return seen
"""
