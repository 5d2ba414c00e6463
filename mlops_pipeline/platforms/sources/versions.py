"""What `versions.toml` pins."""

import platform
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from mlops_pipeline.clients.errors import ConfigurationError

FILE = Path(__file__).parents[2] / "versions.toml"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
Kind = Literal["binary", "chart", "manifest"]
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class PinnedFile:
    """A file of one version, as upstream publishes it."""

    kind: Kind
    name: str
    version: str
    url: str
    sha256: str
    """The SHA-256 of the file behind `url`; empty if it must be read from `sha256_url`."""
    sha256_url: str
    member: str
    """The wanted file inside the archive behind `url`; empty: it is not an archive."""
    least: str
    """The lowest suitable version on PATH; empty: a program on PATH is never used."""
    below: str

    @property
    def basename(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class PinnedImage:
    """An image of one tag."""

    archive: str
    reference: str
    digest: str
    """`sha256:…` of its index for all architectures; empty if unknown."""

    @property
    def group(self) -> str:
        """The name to find it by."""
        return self.archive.partition(".")[0]

    @property
    def version(self) -> str:
        """Its tag."""
        return self.reference.rpartition(":")[2]

    @property
    def pulled(self) -> str:
        """The reference to pull it by, with its digest if known."""
        return f"{self.reference}@{self.digest}" if self.digest else self.reference


@dataclass(frozen=True)
class Versions:
    """Everything that is pinned, for one machine: `linux/amd64`, `linux/arm64`, `darwin/arm64`."""

    files: tuple[PinnedFile, ...]
    images: tuple[PinnedImage, ...]

    def file(self, name: str, kind: Kind) -> PinnedFile:
        """Return a file.

        Raises:
            ConfigurationError: nothing of that name is pinned for this machine.
        """
        for file in self.files:
            if (file.name, file.kind) == (name, kind):
                return file
        raise ConfigurationError(
            f"{FILE.name} has no {kind} {name} for this machine; set MLOPS_BUNDLE to a bundle that "
            "has it"
        )

    def named(self, name: str) -> tuple[PinnedFile, ...]:
        """Return the files of that name, of any kind; empty if it is a group of images.

        Raises:
            ConfigurationError: nothing of that name is pinned.
        """
        found = tuple(file for file in self.files if file.name == name)
        if not found and not any(name in (image.group, image.archive) for image in self.images):
            known = {file.name for file in self.files} | {image.archive for image in self.images}
            raise ConfigurationError(
                f"{FILE.name} has no {name} for this machine; it has {', '.join(sorted(known))}"
            )
        return found

    def image(self, archive: str) -> PinnedImage:
        """Return the first image of an archive."""
        return next(image for image in self.images if image.archive == archive)


def read(machine: str = "", path: Path | None = None) -> Versions:
    """Return what is pinned for `machine`; the default is this machine.

    Raises:
        ConfigurationError: the file is invalid.
    """
    return _read(machine or this_machine(), path or FILE)


def _pinned(archive: str) -> str:
    return read().image(archive).reference


def this_machine() -> str:
    """Return `<system>/<architecture>`, named as in Go."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}/{_MACHINES.get(machine, machine)}"


@lru_cache(maxsize=4)
def _read(machine: str, path: Path) -> Versions:
    try:
        content = tomllib.loads(path.read_text())
        return Versions(
            files=(
                *(
                    _file("binary", {**entry, **entry["files"][machine]})
                    for entry in content["binary"]
                    if machine in entry["files"]
                ),
                *(_file("chart", entry) for entry in content["chart"]),
                *(_file("manifest", entry) for entry in content["manifest"]),
            ),
            images=tuple(_image(entry) for entry in content["image"]),
        )
    except (OSError, ValueError, LookupError) as error:
        raise ConfigurationError(f"{path} is invalid: {error}; reinstall this package") from error


def _file(kind: Kind, entry: Mapping[str, Any]) -> PinnedFile:
    return PinnedFile(
        kind=kind,
        name=entry["name"],
        version=entry["version"],
        url=entry["url"],
        sha256=entry.get("sha256", ""),
        sha256_url=entry["sha256_url"] if "sha256" not in entry else "",
        member=entry.get("member", ""),
        least=entry.get("least", ""),
        below=entry.get("below", ""),
    )


def _image(entry: Mapping[str, str]) -> PinnedImage:
    return PinnedImage(
        archive=entry["archive"],
        reference=entry["reference"].format(python=PYTHON),
        digest=entry.get("digest", ""),
    )


NODE = "node"
ECHO_IMAGE = _pinned("extras")
"""Answers every request with a given text; listens on port 5678."""
STORE_IMAGE = _pinned("storage")
PYTHON_IMAGE = _pinned("python")
"""The base of the serving images."""
