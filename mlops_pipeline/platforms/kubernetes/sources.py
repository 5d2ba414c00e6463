"""Where programs, charts, manifests and images come from."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError
from mlops_pipeline.clients.files import sha256_of, write_atomically

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ECHO_IMAGE = "hashicorp/http-echo:1.0.0"
"""Answers every request with a given text; listens on 5678."""
NODE_IMAGE = (
    "kindest/node:v1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d"
)
"""The newest for kind v0.33.0 that also runs where there are only cgroups v1."""
_CONTENTS = "bundle.toml"
_IMAGES = ("images", "build-image", "node-image")


@dataclass(frozen=True)
class Chart:
    """A packed Helm chart."""

    path: Path
    version: str


@dataclass(frozen=True)
class ManifestFile:
    """A YAML file of manifests, as upstream publishes it."""

    path: Path
    version: str


@dataclass(frozen=True)
class NodeImage:
    """The image of kind's nodes; with an archive where the engine need not pull it."""

    reference: str
    archive: Path | None


@dataclass(frozen=True)
class Archive:
    """An archive of images (`docker save`), with the references of what it holds."""

    path: Path
    images: tuple[str, ...]


class Sources(Protocol):
    """Everything from outside, asked for by name.

    Every method raises ConfigurationError where the thing cannot be had, with what to do.
    """

    def require(self, names: Iterable[str]) -> None:
        """Make sure that everything of those names can be had, before anything is changed.

        A name is that of a program, a chart, a manifest or a group of images.
        """

    def binary(self, name: str) -> Path:
        """Return a program: `kind`, `helm`."""

    def chart(self, name: str) -> Chart:
        """Return a chart: `base`, `istiod`, `gateway`, `seldon-core-operator`."""

    def manifest(self, name: str) -> ManifestFile:
        """Return a manifest: `metallb-native`, `ingress-nginx`."""

    def node_image(self) -> NodeImage:
        """Return the image of kind's nodes."""

    def archives(self, group: str) -> tuple[Archive, ...]:
        """Return the archives of a group of images; none where nodes pull them.

        Groups: `metallb`, `istio`, `seldon`, `storage`, `extras`, `python`.
        """

    def echo_image(self) -> str:
        """Return the reference of the image that echoes; it is in the group `extras`."""


@dataclass(frozen=True)
class _File:
    """One entry of a bundle."""

    path: Path
    kind: str
    version: str
    sha256: str
    images: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is asked for by: the file's name without its ending, a chart's version or both.

        Archives of images may go on after a dot: `istio.1.tar` belongs to `istio` too.
        """
        if self.kind == "chart":
            return self.path.name.removesuffix(f"-{self.version}.tgz")
        return self.path.stem if self.kind == "manifest" else self.path.name.partition(".")[0]


class Bundle:
    """A folder with a `bundle.toml` that names each file with its digest: no network is needed.

    Each file is compared with its digest the first time that it is asked for, and again when its
    size or time changes; `verified` is the file that remembers it, beside other state.
    """

    def __init__(self, folder: Path, *, verified: Path) -> None:
        self._folder = folder
        self._verified = verified

    def require(self, names: Iterable[str]) -> None:
        """Make sure that everything of those names is there, whole.

        Raises:
            ConfigurationError: something is missing; named.
            IntegrityError: a file differs from its digest.
        """
        for name in names:
            for file in self._named(name):
                self._checked(file)

    def binary(self, name: str) -> Path:
        """Return a program: `kind`, `helm`.

        Raises:
            ConfigurationError: it is not there, or not to be run.
            IntegrityError: it differs from its digest.
        """
        path = self._only(name, "binary").path
        if not os.access(path, os.X_OK):
            raise ConfigurationError(f"{path} may not be run; `chmod +x {path}` allows it")
        return path

    def chart(self, name: str) -> Chart:
        """Return a chart: `base`, `istiod`, `gateway`, `seldon-core-operator`.

        Raises:
            ConfigurationError: it is not there.
            IntegrityError: it differs from its digest.
        """
        file = self._only(name, "chart")
        return Chart(file.path, file.version)

    def manifest(self, name: str) -> ManifestFile:
        """Return a manifest: `metallb-native`, `ingress-nginx`.

        Raises:
            ConfigurationError: it is not there.
            IntegrityError: it differs from its digest.
        """
        file = self._only(name, "manifest")
        return ManifestFile(file.path, file.version)

    def node_image(self) -> NodeImage:
        """Return the image of kind's nodes, with its archive.

        Raises:
            ConfigurationError: it is not there.
            IntegrityError: it differs from its digest.
        """
        reference = self._content.get("node_image")
        for file in self._files:
            if file.kind == "node-image" and reference in file.images:
                return NodeImage(str(reference), self._checked(file).path)
        raise self._missing(f"the node image {reference}")

    def archives(self, group: str) -> tuple[Archive, ...]:
        """Return the archives of a group of images, as they are named in `Sources`.

        Raises:
            ConfigurationError: there are none.
            IntegrityError: one differs from its digest.
        """
        files = self._named(group, *_IMAGES)
        return tuple(Archive(self._checked(file).path, file.images) for file in files)

    def echo_image(self) -> str:
        """Return the reference of the image that echoes; it is in the group `extras`."""
        return ECHO_IMAGE

    def _only(self, name: str, kind: str) -> _File:
        *_, newest = self._named(name, kind)
        return self._checked(newest)

    def _named(self, name: str, *kinds: str) -> list[_File]:
        files = [f for f in self._files if f.name == name and (not kinds or f.kind in kinds)]
        if not files:
            raise self._missing(f"{kinds[0]} {name}" if kinds else name)
        return files

    def _missing(self, what: str) -> ConfigurationError:
        held = ", ".join(sorted({file.name for file in self._files}))
        return ConfigurationError(
            f"the bundle {self._folder} has no {what} (it has {held}); take one that has it, or "
            "let it be had from a network: unset MLOPS_BUNDLE and `bundle` in mlops.toml"
        )

    @cached_property
    def _files(self) -> tuple[_File, ...]:
        try:
            return tuple(
                _File(
                    path=self._folder / entry["path"],
                    kind=entry["kind"],
                    version=entry["version"],
                    sha256=entry["sha256"],
                    images=tuple(entry.get("images", ())),
                )
                for entry in self._content["file"]
            )
        except (LookupError, TypeError) as error:
            raise ConfigurationError(
                f"{self._folder / _CONTENTS} is not the list of a bundle: an entry has no {error}; "
                "get the bundle anew"
            ) from error

    @cached_property
    def _content(self) -> Mapping[str, Any]:
        path = self._folder / _CONTENTS
        try:
            return tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigurationError(
                f"{self._folder} is no bundle: {path} cannot be read ({error.strerror}); set "
                "MLOPS_BUNDLE to the folder that holds bundle.toml"
            ) from error
        except ValueError as error:
            raise ConfigurationError(
                f"{path} cannot be understood: {error}; get the bundle anew"
            ) from error

    def _checked(self, file: _File) -> _File:
        """Return the file where its bytes are those of its digest."""
        try:
            seen = file.path.stat()
            now = [seen.st_size, seen.st_mtime_ns, file.sha256]
            if self._remembered().get(str(file.path)) == now:
                return file
            found = sha256_of(file.path)
        except OSError as error:
            raise ConfigurationError(
                f"the bundle names {file.path}, which cannot be read ({error.strerror}); get the "
                "bundle anew"
            ) from error
        if found != file.sha256:
            raise IntegrityError(
                f"{file.path} has the digest {found}, and its bundle says {file.sha256}: it was "
                "altered or did not arrive whole; get the bundle anew"
            )
        if self._verified.parent.is_dir():
            known = self._remembered() | {str(file.path): now}
            write_atomically(self._verified, json.dumps(known, indent=1))
        return file

    def _remembered(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._verified.read_text()))
        except (OSError, ValueError, TypeError):
            return {}


class OnPath:
    """Programs from PATH; images are pulled. Charts and manifests need a bundle."""

    def require(self, names: Iterable[str]) -> None:
        """Make sure that the programs among the names are there.

        Raises:
            ConfigurationError: one is not.
        """
        for name in names:
            if name in ("kind", "helm"):
                self.binary(name)

    def binary(self, name: str) -> Path:
        """Return a program: `kind`, `helm`.

        Raises:
            ConfigurationError: it is not on PATH.
        """
        found = shutil.which(name)
        if found is None:
            raise ConfigurationError(
                f"{name} is not on PATH; install it, or set MLOPS_BUNDLE to a bundle that has it"
            )
        return Path(found)

    def chart(self, name: str) -> Chart:
        """Refuse: charts are not downloaded.

        Raises:
            ConfigurationError: always.
        """
        raise _only_in_a_bundle(f"the chart {name}")

    def manifest(self, name: str) -> ManifestFile:
        """Refuse: manifests are not downloaded.

        Raises:
            ConfigurationError: always.
        """
        raise _only_in_a_bundle(f"the manifest {name}")

    def node_image(self) -> NodeImage:
        """Return the image of kind's nodes, which the engine pulls."""
        return NodeImage(NODE_IMAGE, None)

    def archives(self, group: str) -> tuple[Archive, ...]:
        """Return none: nodes pull their images."""
        return ()

    def echo_image(self) -> str:
        """Return the reference of the image that echoes."""
        return ECHO_IMAGE


def _only_in_a_bundle(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} comes from a bundle, and none is set; set MLOPS_BUNDLE to the folder of one"
    )
