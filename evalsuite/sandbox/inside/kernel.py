"""The system calls that Python 3.11 has no function for."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

NEW_NAMESPACES = (
    0x00020000  # mounts
    | 0x04000000  # host name
    | 0x08000000  # System V memory and queues
    | 0x10000000  # users
    | 0x20000000  # processes
    | 0x40000000  # network
)
_ALL_NAMESPACES = NEW_NAMESPACES | 0x02000000
_NOSUID, _NODEV, _READ_ONLY = 2, 4, 1
_SET_DUMPABLE, _CAP_DROP, _SET_SECCOMP, _SUBREAPER, _NO_NEW_PRIVILEGES = 4, 24, 22, 36, 38

_libc = ctypes.CDLL(None, use_errno=True)


def _done(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces of ``flags`` for new ones. Raises OSError."""
    _done(_libc.unshare(ctypes.c_int(flags)), "new namespaces")


def mount_empty(folder: str, size: int, *, read_only: bool = False) -> None:
    """An empty folder of at most ``size`` bytes over ``folder``. Raises OSError."""
    flags = _NOSUID | _NODEV | (_READ_ONLY if read_only else 0)
    options = f"size={size},nr_inodes=4096,mode=1777".encode()
    done = _libc.mount(b"tmpfs", folder.encode(), b"tmpfs", ctypes.c_ulong(flags), options)
    _done(done, f"an empty {folder}")


def _prctl(option: int, value: int, third: object = 0) -> int:
    none = ctypes.c_ulong(0)
    done: int = _libc.prctl(option, ctypes.c_ulong(value), third or none, none, none)
    return done


def set_dumpable(readable: bool) -> None:
    """Whether processes of the same user may read and trace this one."""
    _done(_prctl(_SET_DUMPABLE, int(readable)), "dumpable")


def adopt_orphans() -> None:
    """Make this process the parent of its descendants whose own parent ended."""
    _done(_prctl(_SUBREAPER, 1), "subreaper")


def drop_rights() -> None:
    """Give up every capability, and the way to new ones, for this process and its children."""
    _done(_prctl(_NO_NEW_PRIVILEGES, 1), "no new privileges")
    capability = 0
    while _prctl(_CAP_DROP, capability) == 0:
        capability += 1
    if ctypes.get_errno() not in (errno.EINVAL, errno.EPERM):
        _done(-1, "bounding set")
    header = struct.pack("=Ii", 0x20080522, 0)
    _done(_libc.capset(header, bytes(24)), "capabilities")


_DENIED = {
    # name: (x86_64, aarch64)
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "setns": (308, 268),
    "sethostname": (170, 161),
    "settimeofday": (164, 170),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_MACHINES = {
    # audit number, column of the table, clone, clone3, socket
    "x86_64": (0xC000003E, 0, 56, 435, 41),
    "aarch64": (0xC00000B7, 1, 220, 435, 198),
}
_X32 = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000


def filter_known() -> bool:
    """Whether there is a filter of system calls for this machine."""
    return platform.machine() in _MACHINES


def _filter() -> bytes:
    """A seccomp program: the calls above and new namespaces get EPERM, and sockets other than Unix
    and internet ones EAFNOSUPPORT (AF_VSOCK, for one, knows no network namespace)."""
    audit, column, clone, clone3, socket = _MACHINES[platform.machine()]
    code: list[bytes] = []

    def add(operation: int, value: int, yes: int = 0, no: int = 0) -> None:
        code.append(struct.pack("=HBBI", operation, yes, no, value))

    def refuse(number: int, value: int) -> None:
        add(_EQUAL, number, 0, 1)
        add(_RETURN, _REFUSE | value)

    add(_LOAD, 4)
    add(_EQUAL, audit, 1, 0)
    add(_RETURN, _REFUSE | errno.EPERM)
    add(_LOAD, 0)
    add(_AT_LEAST, _X32, 0, 1)
    add(_RETURN, _REFUSE | errno.EPERM)
    for numbers in _DENIED.values():
        refuse(numbers[column], errno.EPERM)
    refuse(clone3, errno.ENOSYS)
    add(_EQUAL, clone, 0, 4)
    add(_LOAD, 16)
    add(_ANY_BIT, _ALL_NAMESPACES, 0, 1)
    add(_RETURN, _REFUSE | errno.EPERM)
    add(_RETURN, _ALLOW)
    add(_EQUAL, socket, 0, 5)
    add(_LOAD, 16)
    for family in (1, 2, 10):
        add(_EQUAL, family, {1: 3, 2: 2, 10: 1}[family], 0)
    add(_RETURN, _REFUSE | errno.EAFNOSUPPORT)
    add(_RETURN, _ALLOW)
    return b"".join(code)


def filter_calls() -> None:
    """Refuse, from now on, what no program needs; no way back. Nothing where no filter is known."""
    if not filter_known():
        return
    program = _filter()
    memory = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(memory))
    _done(_prctl(_SET_SECCOMP, 2, header), "filter of system calls")
