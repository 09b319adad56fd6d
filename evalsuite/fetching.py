"""``evalsuite fetch``: a task's published data from the Hugging Face hub, at a pinned revision.

What was fetched is noted in ``source.json`` beside the files: the commit that the revision named,
and the checksum of every file. The folder is put in place as a whole, or not at all.
"""

from __future__ import annotations

import datetime
import fnmatch
import hashlib
import json
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from evalsuite.data import DataFolder
from evalsuite.errors import BadOption, DataMissing, UnknownName
from evalsuite.files import home, write_atomically, writing
from evalsuite.task import Task, TaskMeta

NOTE = "source.json"
WHOLE = "*"
"""Key in ``DataSource.sha256`` of :meth:`DataFolder.checksum` after all samples and examples are
read. It says whether fetched or local data is, file for file, what the task was written for."""

MAX_UNPACKED = 2 << 30
"""Bytes that one archive may unpack to."""
MAX_MEMBERS = 100_000


def default_folder(name: str) -> Path:
    """Where a task's data is fetched to, if the user names no folder."""
    return home() / "data" / name


def fetch(task: Task | TaskMeta, folder: Path) -> Path:
    """Download a task's data into ``folder`` in its official layout; zip archives are unpacked.

    An earlier fetch is replaced as a whole; a folder that holds anything else is refused.

    Raises:
        UnknownName: the hub has no such data set, revision or file.
        BadOption: the task has no data on the hub, or the folder holds something else.
        DataMissing: no network, no permission, or not the published files.
        CannotWrite: no space or no permission.
    """
    meta = task if isinstance(task, TaskMeta) else task.meta
    if not meta.source.hub:
        raise BadOption(
            f"{meta.name} has no data on the hub",
            where=f"task {meta.name}",
            hint=f"give your own with --data; expected {meta.source.layout}",
        )
    folder = folder.expanduser().resolve()
    _refuse_foreign(folder)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        revision = _download(meta, staging)
        note = {
            "task": meta.name,
            "hub": meta.source.hub,
            "requested": meta.source.revision,
            "revision": revision,
            "sha256": _verified(meta, staging),
            "fetched": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        with writing(folder):
            for archive in sorted(staging.rglob("*.zip")):
                unpack(archive, archive.parent)
                archive.unlink()
        if isinstance(task, Task):
            note["layout"] = _layout(task, staging)
        write_atomically(staging / NOTE, json.dumps(note, ensure_ascii=False, indent=2) + "\n")
        with writing(folder):
            staging.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip archive that nobody vouches for; returns the files written.

    Raises:
        DataMissing: not a zip archive, damaged, encrypted, too large, or a member that is a link
            or would land outside ``folder``.
    """
    written = []
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if not _litter(m)]
            if len(members) > MAX_MEMBERS or sum(m.file_size for m in members) > MAX_UNPACKED:
                raise _damaged(archive, "it would unpack to far more than a data set holds")
            for member in members:
                target = folder / _safe(archive, member)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)  # never more than the size just added up
                written.append(target)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as fault:
        raise _damaged(archive, str(fault)) from None
    return written


def _safe(archive: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(member.filename)
    outside = path.is_absolute() or not path.parts or ".." in path.parts or ":" in path.parts[0]
    if outside or "\\" in member.filename or stat.S_ISLNK(member.external_attr >> 16):
        raise _damaged(archive, f"it holds {member.filename[:80]!r}, which leads outside")
    return path


def _litter(member: zipfile.ZipInfo) -> bool:
    return member.is_dir() or member.filename.startswith("__MACOSX/") or not member.filename


def _damaged(archive: Path, reason: str) -> DataMissing:
    return DataMissing(
        f"the archive cannot be used: {reason}",
        where=archive.name,
        hint="fetch again, or unpack it yourself and use --data",
    )


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / NOTE).is_file():
        raise BadOption(
            "the folder holds something that was not fetched",
            where=str(folder),
            hint="choose an empty folder with --out",
        )
    if folder.exists() and not folder.is_dir():
        raise BadOption("a file stands there", where=str(folder), hint="choose another --out")


def _download(meta: TaskMeta, folder: Path) -> str:
    """Download the wanted files and return the commit they come from."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    source = meta.source
    where = f"{source.hub}@{source.revision}"
    by_hand = f"download {', '.join(source.files)} by hand from {source.url}, unpack, use --data"
    try:
        api = HfApi()
        info = api.dataset_info(source.hub, revision=source.revision, timeout=30)
        names = [sibling.rfilename for sibling in info.siblings or []]
        there = [name for name in names if ".." not in PurePosixPath(name).parts]
        for pattern in source.files:
            wanted = fnmatch.filter(there, pattern)
            if not wanted:
                raise UnknownName("file on the hub", pattern, there, where=where, hint=by_hand)
            for name in wanted:
                api.hf_hub_download(
                    source.hub, name, repo_type="dataset", revision=info.sha, local_dir=folder
                )
    except UnknownName:
        raise
    except RevisionNotFoundError:
        raise UnknownName("revision", source.revision, (), where=where, hint=by_hand) from None
    except RepositoryNotFoundError:
        hint = f"it may be private: set HF_TOKEN; or {by_hand}"
        raise UnknownName("data set on the hub", source.hub, (), where=where, hint=hint) from None
    except Exception as fault:
        reason = (str(fault).splitlines() or [""])[0][:200]
        raise DataMissing(
            f"the hub does not give it: {type(fault).__name__} {reason}", where=where, hint=by_hand
        ) from None
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return str(info.sha)


def _verified(meta: TaskMeta, folder: Path) -> dict[str, str]:
    """File → checksum of what was downloaded; raises where a published checksum differs."""
    found: dict[str, str] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        with file.open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
        published = meta.source.sha256.get(name)
        if published not in (None, found[name]):
            raise DataMissing(
                f"not the published file: sha256 {found[name][:12]}… where {published[:12]}… is due",
                where=f"{meta.source.hub}: {name}",
                hint="fetch again; if it stays so, the data set was changed after the task",
            )
    return found


def _layout(task: Task, folder: Path) -> str:
    """Read all of it once: ``published`` if it is what the task was written for, else its checksum.

    Raises:
        DataMissing, BadRow: it is not in the layout that the task reads.
    """
    data = DataFolder(folder, layout=task.meta.source.layout)
    for _ in task.samples(data):
        pass
    for _ in task.examples(data):
        pass
    checksum = data.checksum()
    return "published" if task.meta.source.sha256.get(WHOLE) == checksum else checksum
