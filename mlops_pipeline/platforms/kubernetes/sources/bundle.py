"""A folder that has everything: nothing is asked of a network."""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError
from mlops_pipeline.platforms.kubernetes.sources import (
    BASE,
    SERVING,
    Archive,
    Chart,
    ManifestFile,
    NodeImage,
)
from mlops_pipeline.platforms.kubernetes.sources import contents as bundle_contents
from mlops_pipeline.platforms.kubernetes.sources.contents import IMAGES, BundleFile, Contents
from mlops_pipeline.platforms.kubernetes.sources.verified import Verified
from mlops_pipeline.platforms.kubernetes.sources.versions import ECHO_IMAGE, this_machine


class Bundle:
    """A folder with a `bundle.toml` that names each file with its digest: no network is needed.

    Each file is compared with its digest the first time that it is asked for, and again when its
    size or time changes.
    """

    def __init__(self, folder: Path, *, verified: Verified) -> None:
        self._folder = folder
        self._verified = verified

    def require(self, names: Iterable[str]) -> None:
        """Make sure that everything of those names is there, whole.

        With BASE our serving images are looked at, where they are there: none is built then.

        Raises:
            ConfigurationError: something is missing; named.
            IntegrityError: a file differs from its digest.
        """
        for name in names:
            for file in (*self._named(name), *(self._held(SERVING) if name == BASE else ())):
                self._checked(file)

    def binary(self, name: str) -> Path:
        """Return a program: `kind`, `helm`.

        Raises:
            ConfigurationError: it is not there, or not to be run.
            IntegrityError: it differs from its digest.
        """
        path = self._checked(self._newest(name, "binary"))
        if not os.access(path, os.X_OK):
            raise ConfigurationError(f"{path} may not be run; `chmod +x {path}` allows it")
        return path

    def chart(self, name: str) -> Chart:
        """Return a chart: `base`, `istiod`, `gateway`, `seldon-core-operator`.

        Raises:
            ConfigurationError: it is not there.
            IntegrityError: it differs from its digest.
        """
        file = self._newest(name, "chart")
        return Chart(self._checked(file), file.version)

    def manifest(self, name: str) -> ManifestFile:
        """Return a manifest: `metallb-native`, `ingress-nginx`, `bookinfo`.

        Raises:
            ConfigurationError: it is not there.
            IntegrityError: it differs from its digest.
        """
        file = self._newest(name, "manifest")
        return ManifestFile(self._checked(file), file.version)

    def node_image(self) -> NodeImage:
        """Return the image of kind's nodes, with its archive.

        Raises:
            ConfigurationError: it is not there.
            IntegrityError: it differs from its digest.
        """
        reference = self._contents.node_image
        for file in self._contents.files:
            if file.kind == "node-image" and reference in file.images:
                return NodeImage(reference, self._checked(file))
        raise self._missing(f"the node image {reference}")

    def archives(self, group: str) -> tuple[Archive, ...]:
        """Return the archives of a group of images, as they are named in `Sources`.

        Raises:
            ConfigurationError: there are none, but for SERVING.
            IntegrityError: one differs from its digest.
        """
        files = self._held(SERVING) if group == SERVING else self._named(group, *IMAGES)
        return tuple(Archive(self._checked(file), file.images) for file in files)

    def echo_image(self) -> str:
        """Return the reference of the image that echoes; it is in the group `extras`."""
        return ECHO_IMAGE

    def _newest(self, name: str, kind: str) -> BundleFile:
        return self._named(name, kind)[-1]

    def _named(self, name: str, *kinds: str) -> list[BundleFile]:
        """Return the files of a name, of which there is one at least."""
        if found := self._held(name, *kinds):
            return found
        raise self._missing(f"{kinds[0]} {name}" if kinds else name)

    def _held(self, name: str, *kinds: str) -> list[BundleFile]:
        """Return the files of a name; `seldon.executor` names one archive of the group `seldon`."""
        group, dot, _ = name.partition(".")
        return [
            file
            for file in self._contents.files
            if file.name == group
            and (not kinds or file.kind in kinds)
            and (not dot or Path(file.path).stem == name)
        ]

    def _missing(self, what: str) -> ConfigurationError:
        held = ", ".join(sorted({file.name for file in self._contents.files}))
        return ConfigurationError(
            f"the bundle {self._folder} has no {what} (it has {held}); take one that has it, or "
            "let it be had from a network: unset MLOPS_BUNDLE and `bundle` in mlops.toml"
        )

    @cached_property
    def _contents(self) -> Contents:
        contents = bundle_contents.read(self._folder)
        if contents.platform not in ("", this_machine()):
            raise ConfigurationError(
                f"the bundle {self._folder} is for {contents.platform}, and this is "
                f"{this_machine()}; take one that was made with --machine {this_machine()}"
            )
        return contents

    def _checked(self, file: BundleFile) -> Path:
        """Return the path of a file whose bytes are those of its digest."""
        path = self._folder / file.path
        try:
            found = self._verified.difference(path, file.sha256)
        except OSError as error:
            raise ConfigurationError(
                f"the bundle names {path}, which cannot be read ({error.strerror}); get the "
                "bundle anew"
            ) from error
        if found:
            raise IntegrityError(
                f"{path} has the digest {found}, and its bundle says {file.sha256}: it was "
                "altered or did not arrive whole; get the bundle anew"
            )
        return path
