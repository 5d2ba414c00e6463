"""Which artifact a deployment should serve, who asked for it and when, and whether it is pinned.

The desired state is written into annotations of the deployment's metadata: no platform replaces a
server because of them. A copy is kept in the object store::

    models/<model>/desired/<platform>/<namespace>/<deployment>.json

So a deployment that was deleted returns as it was wanted. The higher revision counts.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import DAMAGES, IntegrityError
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.delivery.artifacts import BUCKET, artifact_store, ref_to
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.state import RELEASE_ANNOTATION
from mlops_pipeline.delivery.verdicts import VerdictLog
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.seldon import DIGEST_ANNOTATION, SeldonDeployment

_LOGGER = logging.getLogger(__name__)
BY_ANNOTATION = "mlops-pipeline/wanted-by"
SINCE_ANNOTATION = "mlops-pipeline/wanted-since"
PINNED_ANNOTATION = "mlops-pipeline/pinned"
REVISION_ANNOTATION = "mlops-pipeline/revision"


@dataclass(frozen=True)
class Desired:
    """What a deployment should serve."""

    digest: str
    """Of the artifact."""
    by: str = ""
    """The command or the Dagster run that asked for it."""
    since: str = ""
    """UTC, ISO 8601."""
    is_pinned: bool = False
    """Whether a run that brings another artifact leaves this one in place."""
    revision: int = 0
    """Rises with each change; 0 for a deployment of a version that wrote no desired state."""

    def annotations(self) -> dict[str, str]:
        """Return the annotations of the deployment's metadata."""
        digest = {DIGEST_ANNOTATION: self.digest}
        if not self.revision:
            return digest
        return digest | {
            BY_ANNOTATION: self.by,
            SINCE_ANNOTATION: self.since,
            PINNED_ANNOTATION: str(self.is_pinned).lower(),
            REVISION_ANNOTATION: str(self.revision),
        }


@dataclass(frozen=True)
class Pin:
    """A pinned artifact, and what waits behind it."""

    desired: Desired
    waiting: str
    """Digest of the newest later artifact of the model that no check refuses; else empty."""

    def describe(self) -> str:
        """Return which artifact is pinned since when and by whom, and which newer one waits."""
        known = self.desired
        return describe_pin(known.digest, known.by, known.since, self.waiting)


def describe_pin(digest: str, by: str, since: str, waiting: str) -> str:
    """Return a sentence on a pin; `waiting` is the digest of a newer artifact, or empty."""
    waits = f"; the newer artifact {waiting[:12]} waits" if waiting else ""
    return f"{digest[:12]} is pinned since {since} by {by}{waits}"


def read_annotations(annotations: Mapping[str, str]) -> Desired | None:
    """Return the desired state in a deployment's annotations; None where they hold none.

    A manifest of somebody else's has no digest, and one edited by hand may have no number.
    """
    digest, revision = annotations.get(DIGEST_ANNOTATION), annotations.get(REVISION_ANNOTATION, "0")
    if not digest or not revision.isdecimal():
        return None
    return Desired(
        digest,
        by=annotations.get(BY_ANNOTATION, ""),
        since=annotations.get(SINCE_ANNOTATION, ""),
        is_pinned=annotations.get(PINNED_ANNOTATION) == "true" and int(revision) > 0,
        revision=int(revision),
    )


def without_desired(deployment: SeldonDeployment) -> SeldonDeployment:
    """Return a manifest without the desired state that an export of a deployment brings along.

    It has no release either: that belongs to the deployment that was exported.
    """
    desired = (BY_ANNOTATION, SINCE_ANNOTATION, PINNED_ANNOTATION, REVISION_ANNOTATION)
    ours = (*desired, RELEASE_ANNOTATION)
    return deployment.annotated(dict.fromkeys(ours, ""))


class DesiredState:
    """The desired state of one model's deployment on a platform."""

    def __init__(
        self,
        spec: ModelSpec,
        platform: Platform,
        *,
        with_copy: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Without `with_copy`, only the deployment is asked: the object store may be down."""
        self._spec = spec
        self._deployments = platform.deployments
        self._store: Objects | None = platform.object_store() if with_copy else None
        self._now = now
        self._key = (
            f"{spec.name}/desired/{platform.name}/{spec.server.namespace}/"
            f"{spec.server.deployment}.json"
        )

    def find(self) -> Desired | None:
        """Return what the deployment should serve, or None where nobody has asked for anything.

        A damaged copy counts only where the deployment itself says nothing.

        Raises:
            IntegrityError: nothing but a damaged copy says what was wanted.
            UnavailableError: the object store or the cluster does not answer.
        """
        there = self._on_deployment()
        try:
            copy = self._copy()
        except IntegrityError as error:
            if there is None or not there.revision:
                raise
            _LOGGER.warning("%s. They are already used now", error)
            return there
        known = [state for state in (there, copy) if state is not None]
        return max(known, key=lambda state: state.revision, default=None)

    def describe_difference(self) -> str:
        """Say that the existing deployment is older than the copy, which counts then; else empty.

        Somebody has applied an earlier manifest, or one without a desired state. A copy that is
        older is that of a command that was killed before it wrote it.
        """
        server, wanted = self._spec.server, self.find()
        found = self._deployments.find(server.deployment, namespace=server.namespace)
        there = self._on_deployment()
        revision = there.revision if there else 0
        if found is None or wanted is None or wanted.revision <= revision:
            return ""
        return (
            f"the deployment has revision {revision} of its desired state, but the object "
            f"store has revision {wanted.revision} by {wanted.by}, which takes precedence"
        )

    def wanting(self, ref: ModelRef, *, by: str, is_pinned: bool) -> Desired:
        """Return the desired state that asks for the artifact: the known one where it does so."""
        known = self.find()
        if known and (known.digest, known.is_pinned) == (ref.digest, is_pinned):
            return known
        since = self._now().isoformat(timespec="seconds")
        return Desired(ref.digest, by, since, is_pinned, 1 + (known.revision if known else 0))

    def keep(self, desired: Desired) -> None:
        """Write the copy, unless it says the same.

        Raises:
            UnavailableError: the object store did not take it.
        """
        try:
            is_known = self._copy() == desired
        except IntegrityError:
            is_known = False
        if self._store is not None and desired.revision and not is_known:
            self._store.put(BUCKET, self._key, json.dumps(asdict(desired)).encode())

    def unpin(self, *, by: str) -> Desired | None:
        """End a pin, and return what was pinned; None where nothing is. All servers stay.

        The copy comes first: it counts, whatever becomes of the deployment.

        Raises:
            PipelineError: the object store or the platform does not answer.
        """
        known = self.find()
        if known is None or not known.is_pinned:
            return None
        free = self.wanting(ref_to(self._spec.name, known.digest), by=by, is_pinned=False)
        self.keep(free)
        server = self._spec.server
        self._deployments.annotate(
            server.deployment, free.annotations(), namespace=server.namespace
        )
        return known

    def _on_deployment(self) -> Desired | None:
        server = self._spec.server
        found = self._deployments.find(server.deployment, namespace=server.namespace)
        return read_annotations(found.metadata.annotations) if found else None

    def _copy(self) -> Desired | None:
        data = self._store.find(BUCKET, self._key) if self._store is not None else None
        return None if data is None else _parse(data, f"s3://{BUCKET}/{self._key}")


def find_pin(spec: ModelSpec, platform: Platform) -> Pin | None:
    """Return the model's pin, or None where nothing is pinned.

    Raises:
        IntegrityError: nothing but a damaged copy says what was wanted.
        UnavailableError: the object store or the cluster does not answer.
    """
    known = DesiredState(spec, platform).find()
    if known is None or not known.is_pinned:
        return None
    return Pin(known, _find_waiting(spec, platform, known.digest))


def find_pin_on_deployment(spec: ModelSpec, platform: Platform) -> Pin | None:
    """Return the pin that the deployment itself has, where the object store is not to be asked."""
    known = DesiredState(spec, platform, with_copy=False).find()
    return Pin(known, "") if known and known.is_pinned else None


def _find_waiting(spec: ModelSpec, platform: Platform, pinned: str) -> str:
    """Return the digest of the newest later artifact that no check refuses; empty without one."""
    stored = [a for a in artifact_store(platform).list(spec.name) if a.complete]
    since = next((a.created for a in stored if a.ref.digest == pinned), "")
    later = [a.ref.digest for a in stored if a.created > since and a.ref.digest != pinned]
    known = VerdictLog(platform.object_store()).standings(spec.name) if later else {}
    barred = ("refused", "unevaluated")
    return next((d for d in later if d not in known or known[d].state not in barred), "")


def _parse(data: bytes, uri: str) -> Desired:
    types = {"digest": str, "by": str, "since": str, "is_pinned": bool, "revision": int}
    try:
        fields: dict[str, Any] = json.loads(data)
        if all(type(fields[name]) is kind for name, kind in types.items()):
            return Desired(**{name: fields[name] for name in types})
        reason = "a field has the wrong type"
    except DAMAGES as error:
        reason = repr(error)
    raise IntegrityError(
        f"could not read the desired state {uri}: {reason}. Delete this object; without it, "
        "the annotations of the deployment are used"
    )


def forget(platform: Platform) -> None:
    """Delete every copy of this platform's desired states.

    Raises:
        UnavailableError: the object store does not answer.
        NotFoundError: the platform has no object store.
    """
    store = platform.object_store()
    for key in store.sizes(BUCKET, ""):
        if key.split("/")[1:3] == ["desired", platform.name]:
            store.delete(BUCKET, key)


def pinned_digests(store: Objects) -> set[str]:
    """Return the digests of the artifacts that copies of desired states pin.

    Raises:
        IntegrityError: a copy is damaged: it may have pinned one.
    """
    copies = (
        _parse(store.get(BUCKET, key), f"s3://{BUCKET}/{key}")
        for key in store.sizes(BUCKET, "")
        if key.split("/")[1:2] == ["desired"]
    )
    return {copy.digest for copy in copies if copy.is_pinned}
