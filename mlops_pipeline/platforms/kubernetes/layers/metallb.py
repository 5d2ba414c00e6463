"""The MetalLB layer: addresses of the container network for Services of type LoadBalancer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from typing import Any

from mlops_pipeline.clients.errors import ConfigurationError, IntegrityError, WaitTimeoutError
from mlops_pipeline.clients.kubernetes import (
    DAEMON_SET,
    EVENT,
    IP_ADDRESS_POOL,
    L2_ADVERTISEMENT,
    POD,
    SERVICE,
    Access,
    KubernetesApi,
    Manifest,
    Resource,
)
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.platforms.kubernetes.bases.layer import Question
from mlops_pipeline.platforms.kubernetes.bases.manifest import ManifestLayer
from mlops_pipeline.platforms.kubernetes.bases.rights import INSTALLED, WRITE, allow
from mlops_pipeline.platforms.kubernetes.bases.steps import Steps
from mlops_pipeline.platforms.kubernetes.objects import pods, probes, upstream
from mlops_pipeline.platforms.kubernetes.objects.endings import find_lasting, stays, wait_for_end
from mlops_pipeline.platforms.kubernetes.objects.load_balancers import address_of, describe_waiting
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_mine, our_namespaces
from mlops_pipeline.platforms.kubernetes.objects.webhooks import describe_silence
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

_SYSTEM = "metallb-system"
_CONTROLLER = "controller"
_SPEAKER = "speaker"
_POOL = "mlops-pipeline"
_RIGHTS = (
    *((name, "metallb.io", WRITE) for name in ("ipaddresspools", "l2advertisements")),
    # What others have told it to do is looked for before it is removed.
    *(
        (name, "metallb.io", ("list",))
        for name in ("bgpadvertisements", "bfdprofiles", "communities", "bgppeers")
    ),
)
_CONFIGURING = (
    IP_ADDRESS_POOL,
    L2_ADVERTISEMENT,
    *(Resource("metallb.io/v1beta1", k) for k in ("BGPAdvertisement", "BFDProfile", "Community")),
    Resource("metallb.io/v1beta2", "BGPPeer"),
)
"""Kinds by which people tell MetalLB what to do."""
_ANSWER = 30.0
_GIVEN = 20.0
"""Seconds for Services that are there already to get their addresses from a new pool."""
_SLOW = 0.5
"""Seconds between looks at what takes seconds."""


class MetalLB(ManifestLayer):
    """MetalLB by upstream's native manifest, with one pool that is announced by ARP."""

    name = "metallb"
    title = "MetalLB"
    description = "MetalLB, which gives Services of type LoadBalancer addresses of this machine."
    kinds = ("metallb", "kubernetes")
    namespace = _SYSTEM
    manifest = "metallb-native"
    images = "metallb"
    controller = _CONTROLLER
    addresses = 1

    def __init__(self, parts: Parts, *, needed: Callable[[], int] = lambda: 1) -> None:
        """`needed` gives the number of addresses that all layers take."""
        super().__init__(parts)
        self._needed = needed

    @classmethod
    def is_wanted(cls, settings: LayerSettings) -> bool:
        """Say whether it gives the addresses."""
        return settings.load_balancer == cls.name

    @property
    def sources(self) -> tuple[str, ...]:
        """What its manifest needs, and the image of the check."""
        return (*super().sources, "extras")

    @property
    def rights(self) -> tuple[Access, ...]:
        """To install it, to configure it, and to see what others have configured."""
        return allow((*INSTALLED, *_RIGHTS))

    @property
    def remedy(self) -> str:
        """What to do about a MetalLB of somebody else."""
        if self._parts.settings.platform == "kubernetes":
            return "use it as it is (kubernetes.metallb.install = false), or remove it"
        return "remove it, or use another cluster"

    @property
    def checks(self) -> tuple[HealthCheck, ...]:
        """That an address that it gives answers here."""
        asked = "here" if self._parts.reaches_addresses else "a node"
        text = (
            f"A Service of type LoadBalancer gets an address, which a pod answers at from {asked}."
        )
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
        """Ask whether a MetalLB of somebody else is there."""
        yield "metallb", lambda: self._diagnose(api)

    def _diagnose(self, api: KubernetesApi) -> Diagnosis:
        # What it brings is known where its manifest can be had; whoever needs it asks for that.
        with suppress(ConfigurationError, IntegrityError):
            if foreign := self.describe_foreign(api):
                return Diagnosis("metallb", foreign, self.remedy)
        return Diagnosis("metallb", f"ours, with {self._parts.settings.metallb.addresses}")

    def users(self) -> tuple[str, ...]:
        """Return the Services of somebody else with an address of ours, and their own pools.

        With MetalLB go its definitions, and with them all that people have made by them.
        """
        api = self._parts.api()
        pools, namespaces = api.list(IP_ADDRESS_POOL), set(our_namespaces(api))
        ranges = [part for pool in pools if is_mine(api, pool) for part in _ranges(pool)]
        services = [
            found
            for found in api.list(SERVICE)
            if _is_given(found, ranges) and found["metadata"]["namespace"] not in namespaces
        ]
        configured = [found for resource in _CONFIGURING for found in api.list(resource)]
        return tuple(
            f"{found['kind']} {found['metadata']['namespace']}/{found['metadata']['name']}"
            for found in (*services, *configured)
            if not is_mine(api, found) and stays(found)
        )

    def look(self, api: KubernetesApi) -> Iterator[LayerState]:
        """Look at its speakers, and at our pool, whose annotations stand for all."""
        if reason := _describe_speakers(api):
            yield Broken(reason)
            return
        pool = find_lasting(api, IP_ADDRESS_POOL, _POOL, namespace=_SYSTEM)
        if pool is None:
            yield Drifted((f"the IPAddressPool {_SYSTEM}/{_POOL} is not there",))
            return
        yield Drifted(tuple(self._differences(api, pool, self._choose(api))))

    def facts(self, api: KubernetesApi) -> Facts:
        """Return the version and the addresses that it may give."""
        pool = api.get(IP_ADDRESS_POOL, _POOL, namespace=_SYSTEM)
        given = _addresses(pool)
        count = len(AddressRange.parse(given))
        return {"version": upstream.version_of(pool), "addresses": given, "count": count}

    def _differences(
        self, api: KubernetesApi, pool: Manifest, chosen: AddressRange
    ) -> Iterator[str]:
        # Without the manifest nobody can say which version is asked for.
        with suppress(ConfigurationError, IntegrityError):
            if different := upstream.difference(pool, self.noted()):
                yield different
        if (there := _addresses(pool)) != str(chosen):
            yield f"its addresses are {there or 'none'}, and {chosen} are asked for"
        if find_lasting(api, L2_ADVERTISEMENT, _POOL, namespace=_SYSTEM) is None:
            yield f"the L2Advertisement {_SYSTEM}/{_POOL} is not there: no address is announced"

    def _choose(self, api: KubernetesApi) -> AddressRange:
        pool = api.find(IP_ADDRESS_POOL, _POOL, namespace=_SYSTEM)
        return self._parts.choose_addresses(
            _addresses(pool) if pool is not None else "",
            wanted=self._parts.settings.metallb.addresses,
            least=self._needed(),
        )

    def require(self, api: KubernetesApi) -> None:
        """Refuse to go on without a range of addresses."""
        self._choose(api)

    def change(self, manifest: dict[str, Any]) -> None:
        """Let the kubelet look at once: upstream has it wait 10 s with what takes one."""
        if manifest["kind"] not in ("Deployment", "DaemonSet"):
            return
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            if probe := container.get("readinessProbe"):
                probe |= {"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": 10}

    def wait(self, api: KubernetesApi, steps: Steps) -> None:
        """Wait for the controller and a speaker on each node, and give MetalLB its addresses."""
        super().wait(api, steps)
        with steps.step("pods"):
            probe = partial(_describe_speakers, api, describe=pods.explain_unready)
            wait_until(
                f"DaemonSet {_SYSTEM}/{_SPEAKER}",
                patiently(pods.replacing_failed(api, probe, lambda: _speakers(api))),
                timeout=self._parts.settings.ready_timeout,
                clock=self._parts.clock,
                hint=f"see `kubectl describe pods --namespace {_SYSTEM}`",
            )
        self._open(api, self._choose(api), steps)

    def _open(self, api: KubernetesApi, chosen: AddressRange, steps: Steps) -> None:
        """Apply the pool as soon as MetalLB's webhooks answer: they do some time after its pods.

        One that answered may be gone a moment later, with a controller that is just being replaced.
        """
        objects = _pool(chosen, self.noted())
        timeout, clock = self._parts.settings.ready_timeout, self._parts.clock

        def apply() -> None:
            for manifest in objects:
                api.apply(manifest, dry_run=True)
            api.apply_all(objects)

        for resource in (IP_ADDRESS_POOL, L2_ADVERTISEMENT):
            wait_for_end(api, resource, _POOL, namespace=_SYSTEM, timeout=timeout, clock=clock)
        with steps.step("webhook"):
            wait_until(
                "MetalLB's webhook",
                lambda: describe_silence(apply),
                timeout=timeout,
                clock=clock,
                hint=f"see `kubectl logs --namespace {_SYSTEM} deployment/{_CONTROLLER}`",
            )
        with steps.step("addresses"), suppress(WaitTimeoutError):
            # Those that cannot have theirs are told by the layers that they belong to.
            wait_until(
                "the addresses of Services",
                patiently(lambda: describe_waiting(self._parts)),
                timeout=_GIVEN,
                clock=clock,
                interval=_SLOW / 5,
            )


def _describe_speakers(
    api: KubernetesApi,
    *,
    describe: Callable[[Sequence[Manifest], Sequence[Manifest]], str] = pods.describe_unready,
) -> str | None:
    """Say why not every node has a speaker of the applied version; None when each has.

    `describe` says why pods are not ready; an error of its own ends the wait.
    """
    found = api.find(DAEMON_SET, _SPEAKER, namespace=_SYSTEM)
    if found is None:
        return f"DaemonSet {_SYSTEM}/{_SPEAKER} is not there"
    status = found.get("status") or {}
    seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 1)
    wanted = status.get("desiredNumberScheduled", 0)
    counts = [status.get(key, 0) for key in ("updatedNumberScheduled", "numberAvailable")]
    there = _speakers(api)
    counts.append(sum(map(pods.is_ready, there)))
    if seen and wanted and min(counts) >= wanted:
        return None
    why = describe(there, api.list(EVENT, namespace=_SYSTEM)) or "pods are being replaced"
    return f"{min(counts)} of {wanted} nodes have a speaker: {why}"


def _speakers(api: KubernetesApi) -> Sequence[Manifest]:
    return api.list(POD, namespace=_SYSTEM, labels=f"component={_SPEAKER}")


def _pool(chosen: AddressRange, annotations: dict[str, str]) -> list[Manifest]:
    metadata = {"name": _POOL, "namespace": _SYSTEM, "labels": upstream.labels_of(MetalLB.name)}
    return [
        {
            "apiVersion": IP_ADDRESS_POOL.api_version,
            "kind": IP_ADDRESS_POOL.kind,
            "metadata": {**metadata, "annotations": annotations},
            "spec": {"addresses": [str(chosen)]},
        },
        {
            "apiVersion": L2_ADVERTISEMENT.api_version,
            "kind": L2_ADVERTISEMENT.kind,
            "metadata": metadata,
            "spec": {"ipAddressPools": [_POOL]},
        },
    ]


def _is_given(service: Manifest, ranges: Sequence[AddressRange]) -> bool:
    """Say whether a Service has an address of one of the ranges."""
    try:
        address = IPv4Address(address_of(service) or "")
    except ValueError:
        return False
    return any(address in given for given in ranges)


def _ranges(pool: Manifest) -> Iterator[AddressRange]:
    for part in pool["spec"].get("addresses") or ():
        with suppress(ValueError):
            yield AddressRange.parse(str(part))


def _addresses(pool: Manifest) -> str:
    return ", ".join(str(part) for part in pool["spec"].get("addresses") or ())
