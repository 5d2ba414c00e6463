"""Creating a bundle: a folder with everything that `versions.toml` pins and the settings need."""

import importlib.metadata
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mlops_pipeline.clients.containers import EngineApi
from mlops_pipeline.clients.downloads import Downloads
from mlops_pipeline.clients.errors import CommandError, ConflictError
from mlops_pipeline.clients.files import READABLE, sha256_of, writing
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.sources import BASE
from mlops_pipeline.platforms.sources import contents as bundle_contents
from mlops_pipeline.platforms.sources.contents import (
    CONTENTS,
    BundleFile,
    Contents,
    Kind,
)
from mlops_pipeline.platforms.sources.upstream import bring
from mlops_pipeline.platforms.sources.versions import (
    NODE,
    PinnedFile,
    PinnedImage,
    Versions,
)

_log = logging.getLogger(__name__)
NAME = "mlops-pipeline"
"""The name of the bundles that this project creates; others may use any name."""
MAKING = ".making"
"""A bundle's temporary files, which are deleted when it is complete."""
_LOCK_TIMEOUT = 3600.0
_PULL_TIMEOUT = 3600.0
_SAVE_TIMEOUT = 1800.0
_ARCHIVES: dict[str, Kind] = {NODE: "node-image", BASE: "build-image"}


@dataclass(frozen=True)
class Built:
    """Images that are built on this machine, for one archive."""

    archive: str
    version: str
    references: tuple[str, ...]
    ensure: Callable[[], None]
    """Builds them in the engine."""


@dataclass(frozen=True)
class Gathering:
    """Creates bundles for one kind of machine: `linux/amd64`."""

    machine: str
    versions: Versions
    engine: EngineApi
    downloads: Callable[[Locks], Downloads]
    built: Built | None = None

    def create(self, folder: Path, names: Iterable[str]) -> Contents:
        """Create a bundle of everything of those names in `folder`; existing valid files are kept.

        Its list is written last, so a folder without one is incomplete. The same call then resumes.

        Raises:
            ConfigurationError: upstream lacks a file, or the disk is full.
            ConflictError: the folder has other content.
            CommandError: an image cannot be pulled or saved.
            IntegrityError: a downloaded file is not the pinned one.
            UnavailableError: upstream or the engine does not answer.
        """
        with writing(folder):
            return self._create(folder, tuple(names))

    def _create(self, folder: Path, names: tuple[str, ...]) -> Contents:
        _refuse_others(folder)
        making = folder / MAKING
        making.mkdir(parents=True, exist_ok=True)
        locks = Locks(making, timeout=_LOCK_TIMEOUT)
        with locks.held("create", purpose=f"create the bundle {folder}"):
            before = _begin(folder)
            made = self._gather(folder, names, before, self.downloads(locks))
            for file in before.files:
                if file.path not in {kept.path for kept in made.files}:
                    (folder / file.path).unlink(missing_ok=True)
            bundle_contents.write(folder, made)
        shutil.rmtree(making, ignore_errors=True)
        return made

    def _gather(
        self, folder: Path, names: tuple[str, ...], before: Contents, downloads: Downloads
    ) -> Contents:
        """Download or build one file after the other, and record each as soon as it is complete."""
        made = replace(
            before,
            files=(),
            name=NAME,
            version=importlib.metadata.version("mlops-pipeline"),
            platform=self.machine,
            node_image=self.versions.image(NODE).reference,
        )
        known = {file.path: file for file in before.files}
        for planned, produce in self._plan(folder, names, downloads):
            there = known.get(planned.path)
            if there is None or not _is_kept(folder, there, planned):
                (folder / planned.path).parent.mkdir(parents=True, exist_ok=True)
                produce()
                there = _described(folder, planned)
                _log.info("%s: %.1f MB", planned.path, (there.size or 0) / 1e6)
            made = replace(made, files=(*made.files, there))
            known[there.path] = there
            noted = replace(made, files=tuple(known.values()))
            bundle_contents.write(folder / MAKING, noted)
        return made

    def _plan(
        self, folder: Path, names: tuple[str, ...], downloads: Downloads
    ) -> Iterator[tuple[BundleFile, Callable[[], None]]]:
        for wanted in (file for name in names for file in self.versions.named(name)):
            planned = _planned_file(wanted)
            yield planned, _bringing(wanted, folder / planned.path, downloads)
        for name in names:
            images = tuple(i for i in self.versions.images if i.archive == name)
            if images:
                references = tuple(image.reference for image in images)
                planned = _planned_archive(name, images[0].version, references)
                yield planned, self._saving(folder, planned, partial(self._ensure, images))
        if self.built is not None:
            planned = _planned_archive(
                self.built.archive, self.built.version, self.built.references
            )
            yield planned, self._saving(folder, planned, self.built.ensure)

    def _saving(
        self, folder: Path, planned: BundleFile, ensure: Callable[[], None]
    ) -> Callable[[], None]:
        def save() -> None:
            ensure()
            target = folder / planned.path
            written = folder / MAKING / target.name
            written.unlink(missing_ok=True)  # Podman does not overwrite a file.
            self.engine.save(
                planned.images, written, platform=self._platform, timeout=_SAVE_TIMEOUT
            )
            written.chmod(READABLE)
            written.replace(target)

        return save

    @property
    def _platform(self) -> str:
        """Return the platform of nodes on such a machine: Linux, whatever its own system is."""
        return f"linux/{self.machine.partition('/')[2]}"

    def _ensure(self, images: Iterable[PinnedImage]) -> None:
        for image in images:
            self._ensure_one(image)

    def _ensure_one(self, image: PinnedImage) -> None:
        """Pull the image into the engine, for the machine that the bundle is for."""
        platform = self._platform
        there = self.engine.find_image(image.reference)
        if there is not None and there.platform == platform:
            if image.digest in there.digests:
                return
            if not there.digests:
                _log.warning(
                    "using %s of the engine unchanged: it was not pulled from a registry, so "
                    "there is no digest to compare",
                    image.reference,
                )
                return
            if not image.digest:
                return
        _log.info("pulling %s", image.pulled)
        self.engine.pull(image.pulled, platform=platform, timeout=_PULL_TIMEOUT)
        if image.digest:
            self.engine.tag(image.pulled, image.reference)
        there = self.engine.find_image(image.reference)
        if there is None or there.platform != platform:
            found = there.platform if there is not None else "nothing"
            raise CommandError(
                f"could not pull the image {image.reference} for {platform}: its registry returned "
                f"{found}"
            )


def _bringing(wanted: PinnedFile, target: Path, downloads: Downloads) -> Callable[[], None]:
    def download() -> None:
        bring(wanted, target, downloads=downloads)

    return download


def _planned_file(wanted: PinnedFile) -> BundleFile:
    path = {
        "binary": f"bin/{wanted.name}",
        "chart": f"charts/{wanted.name}-{wanted.version}.tgz",
        "manifest": f"manifests/{wanted.name}.yaml",
    }[wanted.kind]
    return BundleFile(path, wanted.kind, wanted.version, "", None, url=wanted.url)


def _planned_archive(name: str, version: str, references: tuple[str, ...]) -> BundleFile:
    kind = _ARCHIVES.get(name, "images")
    return BundleFile(f"images/{name}.tar", kind, version, "", None, images=references)


def _described(folder: Path, planned: BundleFile) -> BundleFile:
    path = folder / planned.path
    return replace(planned, sha256=sha256_of(path), size=path.stat().st_size)


def _is_kept(folder: Path, there: BundleFile, planned: BundleFile) -> bool:
    """Say whether an existing file is the wanted one and undamaged."""
    if replace(there, sha256="", size=None) != planned:
        return False
    path = folder / there.path
    return path.is_file() and sha256_of(path) == there.sha256


def _begin(folder: Path) -> Contents:
    """Return what an earlier call created, and remove the list until the bundle is complete."""
    whole, begun = folder / CONTENTS, folder / MAKING / CONTENTS
    if whole.exists():
        bundle_contents.read(folder)  # An unreadable list stays, so that somebody can examine it.
        whole.replace(begun)
    return bundle_contents.read(folder / MAKING) if begun.exists() else Contents(())


def _refuse_others(folder: Path) -> None:
    """Refuse to write into a folder or a bundle of somebody else."""
    if folder.exists() and not folder.is_dir():
        raise ConflictError(f"{folder} is not a folder; name another. Nothing was changed")
    if (folder / CONTENTS).exists() and (name := bundle_contents.read(folder).name) != NAME:
        raise ConflictError(
            f"{folder} is a bundle that this project did not create (its name is {name!r}), and "
            "its files would be replaced; create the bundle in another folder, or use this one "
            "unchanged with MLOPS_BUNDLE. Nothing was changed"
        )
    if not folder.exists() or (folder / CONTENTS).exists() or (folder / MAKING).exists():
        return
    if found := sorted(path.name for path in folder.iterdir()):
        raise ConflictError(
            f"expected an empty folder, a bundle or a new folder, but {folder} contains "
            f"{', '.join(found[:3])}; name another folder. Nothing was changed"
        )
