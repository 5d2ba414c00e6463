"""Snapshots of datasets in the object store: content-addressed, made once per input."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlops_pipeline.catalog import describing, worker
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import DAMAGES, ConfigurationError, IntegrityError
from mlops_pipeline.clients.files import sha256_of
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.references import DatasetRef
from mlops_pipeline.delivery.working import WorkerContext, work

BUCKET = "datasets"
_TIMEOUT = 300.0
_DEFAULT = WorkerContext()


@dataclass(frozen=True)
class Snapshot:
    """A snapshot, what is in it, and what was done so that it is there."""

    ref: DatasetRef
    profile: Mapping[str, Any]
    """What `catalog.worker.profile` returns."""
    size: int
    """Bytes of its data.npz."""
    change: Literal["created", "repaired", "unchanged"]
    """Repaired: its data had been changed in the store, and was stored again."""


class DatasetStore:
    """The bucket `datasets`.

    `<model>/<digest>/{data.npz,profile.json}` with what people look at beside them
    (`catalog.describing`), and `<model>/inputs/<digest>.json` that finds it.
    """

    def __init__(self, store: Objects) -> None:
        self._store = store

    def ensure(
        self, model: RegisteredModel, *, file: Path | None, worker_context: WorkerContext = _DEFAULT
    ) -> Snapshot:
        """Return the snapshot of the model's dataset.

        Its data is loaded and stored when its inputs are new, or when somebody changed it in the
        store.

        Raises:
            ConfigurationError: the configured file is missing.
            CommandError: the dataset cannot be loaded; the reason.
        """
        inputs = _inputs_digest(model, file)
        found = self._find_by_inputs(model, inputs)
        return found or self._load(model, file, inputs, worker_context)

    def find(self, model: RegisteredModel, *, file: Path | None) -> Snapshot | None:
        """Return the snapshot of the model's dataset, or None when `ensure` would load it.

        Raises:
            ConfigurationError: the configured file is missing.
        """
        return self._find_by_inputs(model, _inputs_digest(model, file))

    def profile(self, ref: DatasetRef) -> dict[str, Any]:
        """Return what `catalog.worker.profile` said of the snapshot.

        Raises:
            IntegrityError: it is missing, or is no JSON.
        """
        found = self._find_record(f"{ref.name}/{ref.digest}/{worker.PROFILE}")
        if found is None:
            raise IntegrityError(
                f"{worker.PROFILE} of the snapshot {ref.uri} is missing or damaged; "
                f"run `mlops-pipeline up {ref.name}` to write it again"
            )
        return found

    def find_description(self, ref: DatasetRef) -> dict[str, Any] | None:
        """Return what `catalog.describing` said of the snapshot, None for an earlier version's."""
        return self._find_record(f"{ref.name}/{ref.digest}/{describing.DESCRIPTION}")

    def find_picture(self, ref: DatasetRef, name: str) -> bytes | None:
        """Return a PNG of `catalog.describing.PICTURES`, or None where the data has none."""
        return self._store.find(BUCKET, f"{ref.name}/{ref.digest}/{name}")

    def download(self, ref: DatasetRef, path: Path) -> None:
        """Write the snapshot's data.npz to `path`, its bytes compared with the digest.

        Raises:
            NotFoundError: there is no such snapshot.
            IntegrityError: its data was changed in the store.
        """
        self._store.download(BUCKET, _data_key(ref), path)
        if (seen := sha256_of(path)) != ref.digest:
            raise IntegrityError(
                f"{worker.DATA} of the snapshot {ref.uri} was changed in the object store: its "
                f"SHA-256 is {seen}; run `mlops-pipeline up {ref.name}` to load the data again"
            )

    def _find_by_inputs(self, model: RegisteredModel, inputs: str) -> Snapshot | None:
        """Return the snapshot of these inputs, unless its data was changed.

        Its bytes are read only where its entity tag is not the one that it was stored with.
        """
        index = self._find_record(f"{model.name}/inputs/{inputs}.json") or {}
        found = self._find(model.name, str(index.get("digest")))
        if found is None or self._tag(found.ref) == index.get("etag") or self._is_whole(found.ref):
            return found
        return None

    def _find_record(self, key: str) -> dict[str, Any] | None:
        """Return what a file of JSON holds, or None where it is missing or damaged."""
        data = self._store.find(BUCKET, key)
        try:
            found = None if data is None else json.loads(data)
        except DAMAGES:
            return None
        return found if isinstance(found, dict) else None

    def _find(self, name: str, digest: str) -> Snapshot | None:
        ref = ref_to(name, digest)
        profile = self._find_record(f"{name}/{digest}/{worker.PROFILE}")
        size = self._store.sizes(BUCKET, key := _data_key(ref)).get(key)
        if profile is None or size is None:
            return None
        return Snapshot(ref, profile, size, "unchanged")

    def _tag(self, ref: DatasetRef) -> str | None:
        return self._store.etags(BUCKET, key := _data_key(ref)).get(key)

    def _is_whole(self, ref: DatasetRef) -> bool:
        try:
            with temporary_folder("verify") as folder:
                self.download(ref, folder / worker.DATA)
        except IntegrityError:
            return False
        return True

    def _load(
        self, model: RegisteredModel, file: Path | None, inputs: str, worker_context: WorkerContext
    ) -> Snapshot:
        with temporary_folder("dataset") as folder:
            with worker_context.without_turn():
                work(
                    "dataset",
                    model,
                    *(("--input", str(file)) if file else ()),
                    *("--output", str(folder)),
                    purpose=f"load the dataset of {model.name}" + (f" from {file}" if file else ""),
                    timeout=_TIMEOUT,
                    on_line=worker_context.on_line,
                )
            data, profile = folder / worker.DATA, (folder / worker.PROFILE).read_bytes()
            ref = ref_to(model.name, sha256_of(data))
            change = self._publish(ref, Path(folder))
            self._store.put(
                BUCKET,
                f"{model.name}/inputs/{inputs}.json",
                json.dumps({"digest": ref.digest, "etag": self._tag(ref)}).encode(),
            )
            return Snapshot(ref, json.loads(profile), data.stat().st_size, change)

    def _publish(
        self, ref: DatasetRef, folder: Path
    ) -> Literal["created", "repaired", "unchanged"]:
        """Store what the worker wrote, its profile last; say what that did to the data.

        The digest is that of the data: another version may describe the same data otherwise.
        """
        known = self._find(ref.name, ref.digest)
        is_whole = known is not None and self._is_whole(ref)
        prefix = f"{ref.name}/{ref.digest}/"
        if not is_whole:
            self._store.upload(BUCKET, _data_key(ref), folder / worker.DATA)
        for file in (describing.DESCRIPTION, *describing.PICTURES):
            if (folder / file).is_file():
                self._store.upload(BUCKET, prefix + file, folder / file)
        profile = (folder / worker.PROFILE).read_bytes()
        if known is None or known.profile != json.loads(profile):
            self._store.put(BUCKET, prefix + worker.PROFILE, profile)
        if known is None:
            return "created"
        return "unchanged" if is_whole else "repaired"


def ref_to(name: str, digest: str) -> DatasetRef:
    """Return the reference to a snapshot."""
    return DatasetRef(name, f"s3://{BUCKET}/{name}/{digest}", digest)


def _data_key(ref: DatasetRef) -> str:
    return f"{ref.name}/{ref.digest}/{worker.DATA}"


def _inputs_digest(model: RegisteredModel, file: Path | None) -> str:
    """Digest what a snapshot depends on: the code, the task, the configured file, the libraries."""
    if file is not None and not file.exists():
        raise ConfigurationError(
            f"the dataset of {model.name} is set to {file}, which does not exist; "
            f"correct the setting `datasets.{model.name}`"
        )
    files = {} if file is None else _hashes(file)
    parts = {
        "source": model.source_digest(),
        "task": model.spec.task.settings(),
        "classes": model.spec.dataset.classes,
        "worker": worker.fingerprint(),
        "versions": worker.versions(model.spec),
        "files": files,
        **schema_part(model.spec),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def schema_part(spec: ModelSpec) -> dict[str, Any]:
    """Return the part of an inputs digest that the schema is; nothing without one."""
    schema = spec.dataset.schema
    return {} if schema is None else {"schema": schema.as_json()}


def _hashes(file: Path) -> dict[str, str]:
    """Return path → SHA-256 of the file, or of every file below the folder."""
    if file.is_file():
        return {file.name: sha256_of(file)}
    files = (path for path in file.rglob("*") if path.is_file())
    return {path.relative_to(file).as_posix(): sha256_of(path) for path in files}
