"""Snapshots of datasets in the object store: content-addressed, made once per input."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_pipeline.catalog import describing, worker
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.files import sha256_of
from mlops_pipeline.clients.process import run
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.references import DatasetRef

BUCKET = "datasets"
_TIMEOUT = 300.0


@dataclass(frozen=True)
class Snapshot:
    """A snapshot, what is in it, and whether it was there already."""

    ref: DatasetRef
    profile: Mapping[str, Any]
    """What `catalog.worker.profile` returns."""
    size: int
    """Bytes of its data.npz."""
    created: bool


class DatasetStore:
    """The bucket `datasets`.

    `<model>/<digest>/{data.npz,profile.json}` with what people look at beside them
    (`catalog.describing`), and `<model>/inputs/<digest>.json` that finds it.
    """

    def __init__(self, store: Objects) -> None:
        self._store = store

    def ensure(self, model: RegisteredModel, *, file: Path | None) -> Snapshot:
        """Return the snapshot of the model's dataset; load and store it when its inputs are new.

        Raises:
            ConfigurationError: the configured file is not there.
            CommandError: the dataset cannot be loaded; the reason.
        """
        inputs = _inputs_digest(model, file)
        return self._find_by_inputs(model, inputs) or self._load(model, file, inputs)

    def find(self, model: RegisteredModel, *, file: Path | None) -> Snapshot | None:
        """Return the snapshot of the model's dataset, or None when `ensure` would load it.

        Raises:
            ConfigurationError: the configured file is not there.
        """
        return self._find_by_inputs(model, _inputs_digest(model, file))

    def profile(self, ref: DatasetRef) -> dict[str, Any]:
        """Return what `catalog.worker.profile` said of the snapshot."""
        return dict(
            json.loads(self._store.get(BUCKET, f"{ref.name}/{ref.digest}/{worker.PROFILE}"))
        )

    def find_description(self, ref: DatasetRef) -> dict[str, Any] | None:
        """Return what `catalog.describing` said of the snapshot, None for an earlier version's."""
        data = self._store.find(BUCKET, f"{ref.name}/{ref.digest}/{describing.DESCRIPTION}")
        return None if data is None else dict(json.loads(data))

    def find_picture(self, ref: DatasetRef, name: str) -> bytes | None:
        """Return a PNG of `catalog.describing.PICTURES`, or None where the data has none."""
        return self._store.find(BUCKET, f"{ref.name}/{ref.digest}/{name}")

    def download(self, ref: DatasetRef, path: Path) -> None:
        """Write the snapshot's data.npz to `path`."""
        self._store.download(BUCKET, f"{ref.name}/{ref.digest}/{worker.DATA}", path)

    def _find_by_inputs(self, model: RegisteredModel, inputs: str) -> Snapshot | None:
        index = self._store.find(BUCKET, f"{model.name}/inputs/{inputs}.json")
        return None if index is None else self._find(model.name, str(json.loads(index)["digest"]))

    def _find(self, name: str, digest: str) -> Snapshot | None:
        profile = self._store.find(BUCKET, f"{name}/{digest}/{worker.PROFILE}")
        key = f"{name}/{digest}/{worker.DATA}"
        size = self._store.sizes(BUCKET, key).get(key)
        if profile is None or size is None:
            return None
        return Snapshot(_ref(name, digest), json.loads(profile), size, created=False)

    def _load(self, model: RegisteredModel, file: Path | None, inputs: str) -> Snapshot:
        with temporary_folder("dataset") as folder:
            run(
                [
                    *(sys.executable, "-m", worker.__name__, "dataset", model.source),
                    *(("--input", str(file)) if file else ()),
                    *("--output", str(folder)),
                ],
                purpose=f"load the dataset of {model.name}" + (f" from {file}" if file else ""),
                timeout=_TIMEOUT,
            )
            data, profile = folder / worker.DATA, (folder / worker.PROFILE).read_bytes()
            digest = sha256_of(data)
            created = self._publish(model.name, digest, Path(folder))
            self._store.put(
                BUCKET,
                f"{model.name}/inputs/{inputs}.json",
                json.dumps({"digest": digest}).encode(),
            )
            return Snapshot(
                _ref(model.name, digest), json.loads(profile), data.stat().st_size, created=created
            )

    def _publish(self, name: str, digest: str, folder: Path) -> bool:
        """Store what the worker wrote, its profile last; say whether the data is new.

        The digest is that of the data: another version may describe the same data otherwise.
        """
        known = self._find(name, digest)
        prefix = f"{name}/{digest}/"
        if known is None:
            self._store.upload(BUCKET, prefix + worker.DATA, folder / worker.DATA)
        for file in (describing.DESCRIPTION, *describing.PICTURES):
            if (folder / file).is_file():
                self._store.upload(BUCKET, prefix + file, folder / file)
        profile = (folder / worker.PROFILE).read_bytes()
        if known is None or known.profile != json.loads(profile):
            self._store.put(BUCKET, prefix + worker.PROFILE, profile)
        return known is None


def _ref(name: str, digest: str) -> DatasetRef:
    return DatasetRef(name, f"s3://{BUCKET}/{name}/{digest}", digest)


def _inputs_digest(model: RegisteredModel, file: Path | None) -> str:
    """Digest what a snapshot depends on: the loading code, the configured file, the libraries."""
    if file is not None and not file.exists():
        raise ConfigurationError(
            f"the dataset of {model.name} is set to {file}, which does not exist; "
            f"mend the setting `datasets.{model.name}`"
        )
    files = {} if file is None else _hashes(file)
    parts = {
        "source": model.source_digest(),
        "worker": worker.fingerprint(),
        "versions": worker.versions(model.spec),
        "files": files,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _hashes(file: Path) -> dict[str, str]:
    """Return path → SHA-256 of the file, or of every file below the folder."""
    if file.is_file():
        return {file.name: sha256_of(file)}
    files = (path for path in file.rglob("*") if path.is_file())
    return {path.relative_to(file).as_posix(): sha256_of(path) for path in files}
