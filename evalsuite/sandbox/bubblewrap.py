"""The command that starts a zygote: plainly, or with nothing of the machine but Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from evalsuite.errors import SandboxUnavailable
from evalsuite.sandbox.program import Limits

_INSIDE = Path(__file__).parent / "inside"
_MOUNTED = "/evalsuite"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_OWN = ("/tmp", "/dev", "/proc")
_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime")


def plain_command(limits: Limits) -> list[str]:
    """Python with the zygote in it, isolated from nothing."""
    return [*_python(str(_INSIDE.parent)), msgspec.json.encode(limits).decode(), "none"]


def isolated_command(bubblewrap: str, limits: Limits) -> list[str]:
    """The same inside bubblewrap. Raises SandboxUnavailable where a program would lose its Python.

    Started by root it stays in root's user namespace until the zygote, its first process, has
    become nobody; so not even outside does anything of it belong to root.
    """
    command = [bubblewrap, "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    command += ["--hostname", "sandbox", "--setenv", "PYTHONHASHSEED", "0"]
    command += [*_files(), "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    return [*command, *_python(_MOUNTED), msgspec.json.encode(limits).decode(), "cells"]


def _python(folder: str) -> list[str]:
    start = f"import sys; sys.path.insert(0, {folder!r}); from inside.zygote import main; main()"
    return [sys.executable, "-s", "-P", "-B", "-X", "utf8", "-c", start]


def _files() -> list[str]:
    """System, Python and its packages, read-only, evalsuite itself and its answers left out."""
    arguments: list[str] = []
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            arguments += ["--ro-bind", name, name]
    for name in _FILES:
        arguments += ["--ro-bind-try", name, name]
    made: set[Path] = set()
    for folder in _prefixes():
        if any(folder.is_relative_to(own) for own in _OWN):
            what = f"Python is in {folder}, where each program has a folder of its own"
            raise SandboxUnavailable(what, hint="use an environment in another folder")
        for parent in reversed(folder.parents[:-1]):
            if parent not in made and not parent.is_relative_to("/usr"):
                arguments += ["--perms", "0755", "--dir", str(parent)]
                made.add(parent)
        arguments += ["--ro-bind", str(folder), str(folder)]
    for folder in _hidden():
        arguments += ["--perms", "0555", "--tmpfs", str(folder), "--remount-ro", str(folder)]
    return [*arguments, "--ro-bind", str(_INSIDE), f"{_MOUNTED}/inside"]


def _prefixes() -> list[Path]:
    """The folders of the running Python that are no part of the system, outermost first."""
    found: list[Path] = []
    names = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    every = {Path(name) for name in names} | {Path(name).resolve() for name in names}
    for folder in sorted(every, key=lambda path: len(path.parts)):
        if not any(folder.is_relative_to(other) for other in [Path("/usr"), *found]):
            found.append(folder)
    return found


def _hidden() -> list[Path]:
    """Folders of evalsuite within those."""
    bound = [Path("/usr"), *_prefixes()]
    found = [path for place in sys.path for path in Path(place).glob("evalsuite*") if path.is_dir()]
    return [path for path in found if any(path.is_relative_to(prefix) for prefix in bound)]
