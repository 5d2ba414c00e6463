"""The object_store layer with an existing S3: nothing is created in it."""

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError, UnavailableError
from mlops_pipeline.platforms.kubernetes.bases.layer import StoreLayer
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps, bring_up
from mlops_pipeline.platforms.kubernetes.layers.object_store import buckets, rclone
from mlops_pipeline.platforms.kubernetes.layers.object_store.manifests import NAMESPACE
from mlops_pipeline.platforms.kubernetes.layers.object_store.rclone import (
    RcloneSecrets,
    settings_of,
)
from mlops_pipeline.platforms.kubernetes.objects.states import with_obstacle, worst
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import (
    Absent,
    Broken,
    Change,
    Drifted,
    Facts,
    LayerState,
    Ready,
    describe,
)
from mlops_pipeline.settings.layers import LayerSettings

if TYPE_CHECKING:
    from mlops_pipeline.clients.s3 import Credentials, ObjectStore

_GLANCE = 5.0
_ANSWER = 30.0


class ExternalStore(StoreLayer):
    """The S3 in object_store.endpoint, with the keys that AWS's tools would use."""

    name = "object_store"
    description = "S3-compatible storage of somebody else, with the buckets for models and data."
    kinds = ("s3",)
    namespace = NAMESPACE
    """The objects of a previous store of our own are there."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._settings = parts.settings.object_store

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether the settings name an existing one."""
        return bool(settings.object_store.endpoint)

    def observe(self) -> LayerState:
        """Examine whether it answers, its buckets, and the Secrets with its keys."""
        try:
            _refuse_unreachable(self._settings.endpoint, setting=self._setting)
            secrets = self._secrets()
            states = [self._look_at_buckets()]
            if stale := secrets.stale():
                states.append(Drifted((f"its Secret is out of date in: {', '.join(stale)}",)))
            return with_obstacle(worst(states) or Ready(self._facts()), self._refuse)
        except NotFoundError:
            return Absent()
        except (UnavailableError, ConfigurationError) as error:
            return Broken.by(error)

    def ensure(self) -> Change:
        """Require its buckets, and write the Secrets that servers read it with.

        Raises:
            ConfigurationError: there are no keys for it, a bucket of it is missing, or pods cannot
                reach its address.
            AccessDeniedError: it refuses the keys.
            UnavailableError: it does not answer.
        """
        return bring_up(self, self._parts, self._bring_up, purpose="examine the object store")

    def _bring_up(self, steps: Steps) -> Facts:
        self._refuse()
        clock = self._parts.clock
        with steps.step("buckets"):
            buckets.require(
                self._glance,
                timeout=_ANSWER,
                clock=clock,
                hint=self._hint,
                remedy=self._remedy,
            )
        timeout = self._parts.settings.ready_timeout
        self._secrets().ensure_known(timeout=timeout, clock=clock)
        return self._facts()

    def remove(self) -> None:
        """Leave everything unchanged: the store is not ours."""

    def users(self) -> tuple[str, ...]:
        """Return the SeldonDeployments of somebody else that read artifacts with our Secret."""
        by_default = self._parts.settings.seldon.keys_by_default
        return rclone.readers(self._parts.api(), by_default=by_default)

    def discard(self) -> None:
        """Delete the Secrets with its keys. The stored data stays: the store is not ours.

        Raises:
            NotFoundError: there is no cluster.
        """
        rclone.delete_all(self._parts.api())

    def client(self, *, patience: float = 30.0, attempts: int = 4) -> "ObjectStore":
        """Return a client; see `ObjectStore` for the options.

        Raises:
            ConfigurationError: there are no keys for it.
        """
        from mlops_pipeline.clients.s3 import ObjectStore

        return ObjectStore(
            self._settings.endpoint,
            self._key(),
            region=self._settings.region,
            advise=lambda: f"see the log of {self._settings.endpoint}",
            patience=patience,
            attempts=attempts,
        )

    def ensure_secret(self, namespace: str) -> bool:
        """Write the Secret for reading artifacts in a namespace; return whether it changed.

        Raises:
            ConfigurationError: there are no keys for it.
            ConflictError: a Secret of that name exists and is not ours.
            NotFoundError: there is no cluster.
        """
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock
        return self._secrets().ensure(namespace, timeout=timeout, clock=clock)

    @property
    def _setting(self) -> str:
        return f"{self._parts.settings.platform}.object_store.endpoint"

    @property
    def _remedy(self) -> str:
        return f"create them at {self._settings.endpoint}; this project does not change that store"

    @property
    def _hint(self) -> str:
        return f"check that {self._setting} is right and can be reached from here"

    def _look_at_buckets(self) -> LayerState:
        """Examine the buckets: this project does not create one, or let the store answer."""
        found = buckets.observe(self._glance())
        if isinstance(found, Ready) or found.obstacle:
            return found
        remedy = self._hint if isinstance(found, Broken) else self._remedy
        return Broken.needing_help(f"{describe(found)}; {remedy}")

    def _refuse(self) -> None:
        """Refuse an address that pods cannot reach and a Secret of somebody else."""
        _refuse_unreachable(self._settings.endpoint, setting=self._setting)
        rclone.require_ours(self._parts.api(), namespace=self._parts.settings.models_namespace)

    def _glance(self) -> "ObjectStore":
        return self.client(patience=_GLANCE, attempts=1)

    def _key(self) -> "Credentials":
        from mlops_pipeline.clients.s3 import standard_credentials

        return standard_credentials(self._settings.profile)

    def _secrets(self) -> RcloneSecrets:
        content = settings_of(self._settings.endpoint, self._key(), region=self._settings.region)
        namespace = self._parts.settings.models_namespace
        return RcloneSecrets(self._parts.api(), content, namespace=namespace)

    def _facts(self) -> Facts:
        return {
            "address": self._settings.endpoint,
            "region": self._settings.region,
            "buckets": ", ".join(buckets.BUCKETS),
        }


def _refuse_unreachable(endpoint: str, *, setting: str) -> None:
    """Refuse a loopback address: in a pod, it is the pod itself."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if parts.scheme not in ("http", "https") or not host:
        reason = "it is not a URL such as https://s3.example.com"
    elif loopback:
        reason = "in a pod, that is the pod itself; use an address of this machine in its network"
    else:
        return
    raise ConfigurationError(f"could not use {setting} = {endpoint!r}: {reason}")
