"""Verifying a bundle: every file is read and compared with its digest."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlops_pipeline.clients.files import sha256_of
from mlops_pipeline.platforms.sources import contents as bundle_contents
from mlops_pipeline.platforms.sources.contents import CONTENTS, BundleFile


@dataclass(frozen=True)
class Fault:
    """One difference from the bundle's list."""

    kind: Literal["foreign", "missing", "altered", "extra", "lacking"]
    what: str
    seen: str = ""


def check(folder: Path, *, needed: Iterable[str] = (), machine: str = "") -> tuple[Fault, ...]:
    """Compare every file with its digest. `needed` has names that the bundle must have.

    `machine` is the machine that will use it (`linux/amd64`); empty: that is not compared.

    Raises:
        ConfigurationError: the folder is not a bundle.
    """
    contents = bundle_contents.read(folder)
    named = {file.path for file in contents.files} | {CONTENTS}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    held = {file.name for file in contents.files} | {Path(f.path).stem for f in contents.files}
    foreign = machine and contents.platform not in ("", machine)
    return (
        *([Fault("foreign", contents.platform, f"this machine is {machine}")] if foreign else ()),
        *(fault for file in contents.files for fault in _faults(folder, file)),
        *(Fault("extra", path) for path in sorted(there - named)),
        *(Fault("lacking", name) for name in needed if name not in held),
    )


def _faults(folder: Path, file: BundleFile) -> Iterator[Fault]:
    path = folder / file.path
    try:
        found = sha256_of(path)
    except OSError as error:
        yield Fault("missing", file.path, error.strerror or str(error))
        return
    if found != file.sha256:
        size = path.stat().st_size
        sizes = f"{size} bytes instead of {file.size}, " if file.size not in (None, size) else ""
        yield Fault("altered", file.path, f"{sizes}SHA-256 {found} instead of {file.sha256}")
