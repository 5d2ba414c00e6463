"""The MetalLB layer: addresses of the container network for Services of type LoadBalancer."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError
from mlops_pipeline.clients.kubernetes import IP_ADDRESS_POOL, Access, KubernetesApi, Manifest
from mlops_pipeline.platforms.kubernetes.bases.layer import Question
from mlops_pipeline.platforms.kubernetes.bases.manifest import ManifestLayer
from mlops_pipeline.platforms.kubernetes.bases.rights import INSTALLED, WRITE, allow
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.layers.metallb import pool, speakers
from mlops_pipeline.platforms.kubernetes.layers.metallb.speakers import SYSTEM
from mlops_pipeline.platforms.kubernetes.objects import probes, upstream
from mlops_pipeline.platforms.kubernetes.parts.addresses import AddressRange
from mlops_pipeline.platforms.kubernetes.parts.base import Parts
from mlops_pipeline.platforms.layers import (
    Broken,
    Diagnosis,
    Drifted,
    Facts,
    Finding,
    HealthCheck,
    LayerState,
)
from mlops_pipeline.settings.layers import LayerSettings

CONTROLLER = "controller"
_RIGHTS = (
    *((name, "metallb.io", WRITE) for name in ("ipaddresspools", "l2advertisements")),
    # Before it is removed, its configuration by others is looked for.
    *(
        (name, "metallb.io", ("list",))
        for name in ("bgpadvertisements", "bfdprofiles", "communities", "bgppeers")
    ),
)
_ANSWER = 30.0


class MetalLB(ManifestLayer):
    """MetalLB from upstream's native manifest, with one pool that is announced by ARP."""

    name = "metallb"
    title = "MetalLB"
    description = (
        "MetalLB, which assigns addresses of this machine to Services of type LoadBalancer."
    )
    kinds = ("metallb", "kubernetes")
    namespace = SYSTEM
    manifest = "metallb-native"
    images = "metallb"
    controller = CONTROLLER
    addresses = 1

    def __init__(self, parts: Parts, *, needed: Callable[[], int] = lambda: 1) -> None:
        """`needed` returns the number of addresses that all layers need."""
        super().__init__(parts)
        self._needed = needed

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether it assigns the addresses."""
        return settings.load_balancer == cls.name

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of its manifest, and the image of the check."""
        return (*super().sources, "extras")

    @property
    def rights(self) -> tuple[Access, ...]:
        """The rights to install and configure it, and to read the configuration of others."""
        return allow((*INSTALLED, *_RIGHTS))

    @property
    def remedy(self) -> str:
        """What to do about a MetalLB of somebody else."""
        if self._parts.settings.platform == "kubernetes":
            return "use it unchanged (kubernetes.metallb.install = false), or remove it"
        return "remove it, or use another cluster"

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """Whether an address that it assigns answers here."""
        asked = "this machine" if self._parts.reaches_addresses else "a node"
        text = f"A Service of type LoadBalancer gets an address that leads from {asked} to its pod."
        return (HealthCheck("gives_addresses", text, self._try_address),)

    def _try_address(self) -> Finding:
        api, clock = self._parts.api(), self._parts.clock
        image = self._parts.sources.echo_image()
        with probes.echo(
            api, self._parts.images, type="LoadBalancer", image=image, clock=clock
        ) as echoed:
            seconds = probes.answer_of(
                echoed,
                echoed.url,
                timeout=_ANSWER,
                clock=clock,
                hint=self._parts.unreachable,
                ask=self._parts.ask,
            )
            seen = f"{echoed.url} answered {seconds:.1f} s after its pod was ready"
            return Finding(passed=True, seen=seen, facts={"address": echoed.url})

    def survey(self, api: KubernetesApi) -> Iterator[Question]:
        """Yield whether somebody else has installed a MetalLB."""
        yield "metallb", lambda: self._diagnose(api)

    def _diagnose(self, api: KubernetesApi) -> Diagnosis:
        # The objects to look for are in its manifest. Another diagnosis reports a missing manifest.
        with suppress(ConfigurationError, IntegrityError):
            if foreign := self.describe_foreign(api):
                return Diagnosis("metallb", foreign, self.remedy)
        return Diagnosis("metallb", f"ours, with {self._parts.settings.metallb.addresses}")

    def require(self, api: KubernetesApi) -> None:
        """Refuse to continue without a range of addresses."""
        self._choose(api)

    def change(self, manifest: dict[str, Any]) -> None:
        """Let the kubelet probe at once: upstream sets an initial delay of 10 s."""
        if manifest["kind"] not in ("Deployment", "DaemonSet"):
            return
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            if probe := container.get("readinessProbe"):
                probe |= {"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": 10}

    def wait(self, api: KubernetesApi, steps: Steps) -> None:
        """Wait for the controller and a speaker on each node, and create MetalLB's pool."""
        super().wait(api, steps)
        with steps.step("pods"):
            speakers.wait(self._parts, api)
        pool.open_as_soon_as_it_may(
            self._parts, self._pool(self._choose(api)), steps, controller=CONTROLLER
        )

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Examine its speakers and our pool, which carries the annotations."""
        if reason := speakers.describe_unready(api):
            yield Broken(reason)
            return
        there = pool.find(api)
        if there is None:
            yield Drifted((f"the IPAddressPool {SYSTEM}/{pool.NAME} is missing",))
            return
        # Without the manifest, the expected version is unknown.
        with suppress(ConfigurationError, IntegrityError):
            if different := upstream.difference(there, self.noted()):
                yield Drifted((different,))
        yield Drifted(tuple(pool.differences(api, there, self._choose(api))))

    def facts(self, api: KubernetesApi) -> Facts:
        """Return the version and the addresses that it may assign."""
        there = api.get(IP_ADDRESS_POOL, pool.NAME, namespace=SYSTEM)
        given = pool.addresses_of(there)
        count = len(AddressRange.parse(given))
        return {"version": upstream.version_of(there), "addresses": given, "count": count}

    def users(self) -> tuple[str, ...]:
        """Name Services of somebody else with an address of ours, and others' pools."""
        return pool.users(self._parts.api())

    def _choose(self, api: KubernetesApi) -> AddressRange:
        there = api.find(IP_ADDRESS_POOL, pool.NAME, namespace=SYSTEM)
        return self._parts.choose_addresses(
            pool.addresses_of(there) if there is not None else "",
            wanted=self._parts.settings.metallb.addresses,
            least=self._needed(),
        )

    def _pool(self, chosen: AddressRange) -> list[Manifest]:
        return pool.manifests(
            chosen, labels=upstream.labels_of(self.name), annotations=self.noted()
        )
