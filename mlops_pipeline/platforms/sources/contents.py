"""`bundle.toml`: the files of a bundle, with the digest of each."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.files import write_atomically

CONTENTS = "bundle.toml"
Kind = Literal["binary", "chart", "manifest", "images", "build-image", "node-image"]
IMAGES: tuple[Kind, ...] = ("images", "build-image", "node-image")
"""`images` are loaded into nodes, the `build-image` into the engine; nodes run the `node-image`."""


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle."""

    path: str
    """Path from the bundle's folder, with `/`."""
    kind: Kind
    version: str
    sha256: str
    size: int | None
    """Bytes."""
    images: tuple[str, ...] = ()
    url: str = ""
    """The URL that it was downloaded from."""

    @property
    def name(self) -> str:
        """The name to find it by: the file's name without its ending, a chart's version or both.

        Archives of images may have a number after a dot: `istio.1.tar` belongs to `istio` too.
        """
        file = PurePosixPath(self.path)
        if self.kind == "chart":
            return file.name.removesuffix(f"-{self.version}.tgz")
        return file.stem if self.kind == "manifest" else file.name.partition(".")[0]


@dataclass(frozen=True)
class Contents:
    """The properties and files of a bundle."""

    files: tuple[BundleFile, ...]
    name: str = ""
    version: str = ""
    platform: str = ""
    """The machine that it is for: `linux/amd64`."""
    node_image: str = ""
    """The reference of the image of kind's nodes."""


def read(folder: Path, *, file: str = CONTENTS) -> Contents:
    """Return the contents of the bundle in `folder`.

    Raises:
        ConfigurationError: it is not a bundle, or its list is invalid.
    """
    path = folder / file
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(
            f"{folder} is not a bundle: {path} cannot be read ({error.strerror}); set MLOPS_BUNDLE "
            "to the folder that contains bundle.toml"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is invalid: {error}; copy the bundle again") from error
    try:
        files = tuple(_file(entry) for entry in content["file"])
    except (LookupError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is not the list of a bundle: an entry has no {error}; copy the bundle again"
        ) from error
    if outside := [f.path for f in files if _leaves(f.path)]:
        raise ConfigurationError(
            f"{path} names {outside[0]}, which is outside of the bundle; do not use this bundle"
        )
    about = {key: str(content.get(key, "")) for key in ("name", "version", "platform")}
    return Contents(files, node_image=str(content.get("node_image", "")), **about)


def write(folder: Path, contents: Contents, *, file: str = CONTENTS) -> None:
    """Write the list of a bundle atomically.

    Raises:
        ConfigurationError: the folder cannot be written, or the disk is full.
    """
    about = ("name", "version", "platform", "node_image")
    lines = [_line(key, getattr(contents, key)) for key in about]
    for entry in contents.files:
        lines += ["", "[[file]]"]
        lines += [_line(key, getattr(entry, key)) for key in ("path", "kind", "version", "sha256")]
        lines += [f"size = {entry.size}"] if entry.size is not None else []
        lines += [_line("images", list(entry.images))] if entry.images else []
        lines += [_line("url", entry.url)] if entry.url else []
    write_atomically(folder / file, "\n".join(lines) + "\n")


def _file(entry: Any) -> BundleFile:
    return BundleFile(
        path=entry["path"],
        kind=entry["kind"],
        version=entry["version"],
        sha256=entry["sha256"],
        size=entry.get("size"),
        images=tuple(entry.get("images", ())),
        url=entry.get("url", ""),
    )


def _line(key: str, value: object) -> str:
    """Return a line of TOML. Its basic strings and arrays are written like JSON's."""
    return f"{key} = {json.dumps(value)}"


def _leaves(path: str) -> bool:
    parts = PurePosixPath(path)
    return parts.is_absolute() or ".." in parts.parts
