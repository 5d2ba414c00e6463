"""A folder that has everything, so that no network is needed."""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError
from mlops_pipeline.platforms.sources import (
    BASE,
    SERVING,
    Archive,
    Chart,
    ManifestFile,
    NodeImage,
)
from mlops_pipeline.platforms.sources import contents as bundle_contents
from mlops_pipeline.platforms.sources.contents import IMAGES, BundleFile, Contents
from mlops_pipeline.platforms.sources.verified import Verified
from mlops_pipeline.platforms.sources.versions import ECHO_IMAGE, this_machine


class Bundle:
    """A folder with a `bundle.toml` that has each file's digest. No network is needed.

    Each file is compared with its digest at its first use, and again if its size or time changes.
    """

    def __init__(self, folder: Path, *, verified: Verified) -> None:
        self._folder = folder
        self._verified = verified

    def require(self, names: Iterable[str]) -> None:
        """Ensure that everything of those names exists and is undamaged.

        With BASE, our serving images are verified if they exist: then none is built.

        Raises:
            ConfigurationError: something is missing; says what.
            IntegrityError: a file differs from its digest.
        """
        for name in names:
            for file in (*self._named(name), *(self._held(SERVING) if name == BASE else ())):
                self._checked(file)

    def binary(self, name: str) -> Path:
        """Return a program: `kind`, `helm`.

        Raises:
            ConfigurationError: it is missing or not executable.
            IntegrityError: it differs from its digest.
        """
        path = self._checked(self._newest(name, "binary"))
        if not os.access(path, os.X_OK):
            raise ConfigurationError(f"{path} is not executable; run `chmod +x {path}`")
        return path

    def chart(self, name: str) -> Chart:
        """Return a chart: `base`, `istiod`, `gateway`, `seldon-core-operator`.

        Raises:
            ConfigurationError: it is missing.
            IntegrityError: it differs from its digest.
        """
        file = self._newest(name, "chart")
        return Chart(self._checked(file), file.version)

    def manifest(self, name: str) -> ManifestFile:
        """Return a manifest: `metallb-native`, `ingress-nginx`, `bookinfo`.

        Raises:
            ConfigurationError: it is missing.
            IntegrityError: it differs from its digest.
        """
        file = self._newest(name, "manifest")
        return ManifestFile(self._checked(file), file.version)

    def node_image(self) -> NodeImage:
        """Return the image of kind's nodes, with its archive.

        Raises:
            ConfigurationError: it is missing.
            IntegrityError: it differs from its digest.
        """
        reference = self._contents.node_image
        for file in self._contents.files:
            if file.kind == "node-image" and reference in file.images:
                return NodeImage(reference, self._checked(file))
        raise self._missing(f"the node image {reference}")

    def archives(self, group: str) -> tuple[Archive, ...]:
        """Return the archives of a group of images; see `Sources` for the groups.

        Raises:
            ConfigurationError: there are none, except for SERVING.
            IntegrityError: one differs from its digest.
        """
        files = self._held(SERVING) if group == SERVING else self._named(group, *IMAGES)
        return tuple(Archive(self._checked(file), file.images) for file in files)

    def echo_image(self) -> str:
        """Return the reference of the echo image; it is in the group `extras`."""
        return ECHO_IMAGE

    def _newest(self, name: str, kind: str) -> BundleFile:
        return self._named(name, kind)[-1]

    def _named(self, name: str, *kinds: str) -> list[BundleFile]:
        """Return the files of a name, at least one."""
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
            f"the bundle {self._folder} has no {what} (it has {held}); use a bundle that has it, "
            "or use the network: unset MLOPS_BUNDLE and `bundle` in mlops.toml"
        )

    @cached_property
    def _contents(self) -> Contents:
        contents = bundle_contents.read(self._folder)
        if contents.platform not in ("", this_machine()):
            raise ConfigurationError(
                f"the bundle {self._folder} is for {contents.platform}, but this machine is "
                f"{this_machine()}; use one that was created with --machine {this_machine()}"
            )
        return contents

    def _checked(self, file: BundleFile) -> Path:
        """Return the path of a file that matches its digest."""
        path = self._folder / file.path
        try:
            found = self._verified.difference(path, file.sha256)
        except OSError as error:
            raise ConfigurationError(
                f"the bundle names {path}, which cannot be read ({error.strerror}); copy the "
                "bundle again"
            ) from error
        if found:
            raise IntegrityError(
                f"{path} has the digest {found}, expected {file.sha256}: it was changed or copied "
                "incompletely; copy the bundle again"
            )
        return path
