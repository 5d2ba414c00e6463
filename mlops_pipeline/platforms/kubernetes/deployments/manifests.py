"""Translates our SeldonDeployment to the object that is applied to a cluster, and back.

The object has the given manifest in an annotation. A reader gets that manifest, unless somebody
changed the object by hand: then the reader gets the object's current state.

Seldon's operator 1.17 handles each field in its `controllers` and in `defaults.go`:
https://github.com/SeldonIO/seldon-core/tree/v1.17.1/operator
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlops_pipeline.clients.errors import ConfigurationError, InvalidManifestError
from mlops_pipeline.clients.kubernetes import SELDON_DEPLOYMENT, Manifest
from mlops_pipeline.platforms.kubernetes.deployments.predictors import Image, Predictors
from mlops_pipeline.platforms.kubernetes.deployments.standing import as_it_stands
from mlops_pipeline.platforms.kubernetes.deployments.written import (
    APPLIED_ANNOTATION,
    GATEWAY_ANNOTATION,
    IMAGE_ANNOTATION,
    NAMES_ANNOTATION,
    NO_ENGINE_ANNOTATION,
    STAGE_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TRUST_ANNOTATION,
    edits,
    find_given,
    find_names,
    guessed_names,
    is_stage,
    is_template_whole,
    is_whole,
    stage_digest,
)
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_ours
from mlops_pipeline.platforms.seldon import (
    MANAGED_BY,
    PREDICTOR_ANNOTATION,
    Predictor,
    SeldonDeployment,
)
from mlops_pipeline.platforms.sticky import STICKY_ANNOTATION
from mlops_pipeline.serving.frameworks import get_served
from mlops_pipeline.settings.layers import ServingSettings

_NAME_LENGTH = 63
_SERVING = ServingSettings()
_NONE_KEPT: Mapping[str, Manifest] = {}


class Manifests:
    """Writes and reads the SeldonDeployments of a cluster.

    `secret` is the Secret that artifacts are read with if a manifest names none. `image` is None if
    upstream's images serve, which do not support our probes. Each container names its image; the
    operator respects that except for the container before TF Serving. `pull_secret` is the Secret
    that nodes pull it with. `engine` puts Seldon's executor before each model. `deadline` is the
    number of seconds in which a pod must become ready. `serving` has the resources of the
    containers. `trust` returns which signatures of artifacts count, for our own image; empty: none
    is verified.
    """

    def __init__(
        self,
        *,
        secret: str,
        image: Image | None,
        pull_secret: str = "",
        engine: bool = False,
        deadline: float = 240,
        serving: ServingSettings = _SERVING,
        trust: Callable[[], str] = lambda: "",
    ) -> None:
        self._predictors = Predictors(
            secret=secret,
            image=image,
            pull_secret=pull_secret,
            engine=engine,
            deadline=deadline,
            serving=serving,
            trust=trust,
        )

    @property
    def are_ours(self) -> bool:
        """Whether our own image serves."""
        return self._predictors.image is not None

    @property
    def secret(self) -> str:
        """The Secret that artifacts are read with if a manifest names none."""
        return self._predictors.secret

    def secret_of(self, predictor: Predictor) -> str:
        """Return the name of the Secret that the predictor's artifact is read with."""
        return self._predictors.secret_of(predictor)

    def require_servers(self, deployment: SeldonDeployment) -> None:
        """Require that the images in use serve each model, and that the split is not sticky.

        Raises:
            ConfigurationError: upstream's images serve, and there is none for a framework.
            InvalidManifestError: the split is sticky.
        """
        _require_random_split(deployment)
        served = (get_served(p.graph.implementation) for p in deployment.spec.predictors)
        lacking = {row.implementation for row in served if not (self.are_ours or row.is_upstream)}
        if lacking:
            raise ConfigurationError(
                f"could not apply {deployment.namespace}/{deployment.name}: Seldon has no image "
                f"for {', '.join(sorted(lacking))}; set `serving.images` of the platform to own"
            )

    def place(
        self, deployment: SeldonDeployment, there: Manifest | None = None
    ) -> SeldonDeployment:
        """Return the deployment with the names that its predictors have in the cluster.

        A digest of its pods is appended to the name of a predictor that says so by
        `PREDICTOR_ANNOTATION`. So a change of the pods makes another predictor: its pods start
        beside the serving ones, and the traffic moves when they are proved.

        So it is with every predictor that has Seldon's executor, where replacing pods under one
        name would lose requests: the executor closes its port as soon as it gets the signal to stop
        (Seldon gives its container no preStop), and when the executor is turned on or off, Seldon's
        operator changes the Service's port before the new pods are ready. Other predictors keep the
        name that their manifest gave them.

        A predictor whose pods the settings would change, and that was read from `there`, the object
        of the cluster, keeps its name there, whatever its name and share are now. If nobody changed
        it by hand, it has the digest of its pods, and must not be rendered anew.
        """
        plain = deployment.to_manifest()["spec"]["predictors"]
        placed = (
            _kept(predictor, there) or self._placed(deployment, predictor, given)
            for predictor, given in zip(deployment.spec.predictors, plain, strict=True)
        )
        return _with_predictors(deployment, placed)

    def render(
        self,
        deployment: SeldonDeployment,
        *,
        kept: Mapping[str, Manifest] = _NONE_KEPT,
        there: Manifest | None = None,
        is_stage: bool = False,
        told: SeldonDeployment | None = None,
    ) -> dict[str, Any]:
        """Return the manifest to apply.

        `kept` has predictors of the cluster, by their names there, that must not change, except for
        their traffic. `there` is the object of the cluster. `told` is what a reader gets while the
        deployment is only a stage on the way to another one; None: this deployment.
        """
        placed = self.place(deployment, there)
        given = (told or deployment).annotated({STAGE_ANNOTATION: ""})
        manifest = placed.to_manifest()
        spec = {
            **manifest["spec"],
            "predictors": [
                _with_traffic(kept[predictor.name], predictor.traffic)
                if predictor.name in kept
                else self._predictors.render(placed, predictor, plain)
                for predictor, plain in zip(
                    placed.spec.predictors, manifest["spec"]["predictors"], strict=True
                )
            ],
        }
        metadata, written = given.to_manifest()["metadata"], {APPLIED_ANNOTATION: _plain(given)}
        if told is not None or not is_stage:
            written[NAMES_ANNOTATION] = json.dumps(_names(self.place(given, there), given))
        if told is not None:
            written[STAGE_ANNOTATION] = stage_digest(spec)
            if gateway := deployment.metadata.annotations.get(GATEWAY_ANNOTATION):
                written[GATEWAY_ANNOTATION] = gateway
        return {
            "apiVersion": SELDON_DEPLOYMENT.api_version,
            "kind": SELDON_DEPLOYMENT.kind,
            "metadata": {
                **metadata,
                "namespace": deployment.namespace,
                "labels": {**metadata.get("labels", {}), **MANAGED_BY},
                "annotations": {**metadata.get("annotations", {}), **written},
            },
            "spec": spec,
        }

    def read(self, manifest: Manifest) -> SeldonDeployment:
        """Return the given deployment, or the current state if somebody changed it by hand.

        A predictor for which the current settings would make other pods has the digest of those in
        the cluster. For a deployment of somebody else, the fields that this project knows are
        returned: its predictors with their models and traffic. Other fields of Seldon's are
        omitted.
        """
        given, names = self._find_whole(manifest), self.names(manifest)
        if given is None:
            return as_it_stands(manifest, names)
        there = {names[p["name"]]: p for p in manifest["spec"]["predictors"] if p["name"] in names}
        given = _marked(given, self._rendered(given), there)
        # What is on the way to another manifest does not equal a wanted deployment.
        stage = manifest["metadata"]["annotations"].get(STAGE_ANNOTATION, "")
        return given.annotated({STAGE_ANNOTATION: stage})

    def find_told(self, manifest: Manifest | None) -> SeldonDeployment | None:
        """Return what `read` returns; None if somebody else made or changed the object."""
        return self.read(manifest) if manifest and self._find_whole(manifest) else None

    def names(self, manifest: Manifest) -> dict[str, str]:
        """Return a predictor's name in the cluster → its name in the given manifest.

        Empty for a deployment of somebody else.
        """
        if (given := find_given(manifest)) is None:
            return {}
        return find_names(manifest) or guessed_names(manifest, given, self.place(given))

    def annotating(self, manifest: Manifest, annotations: Mapping[str, str]) -> Manifest:
        """Return the patch that annotates a deployment, and the given manifest in its annotation.

        Manual changes stay, and are still reported as manual changes.
        """
        given = find_given(manifest)
        applied = {APPLIED_ANNOTATION: _plain(given.annotated(annotations))} if given else {}
        # A merge patch removes what is null.
        changed = {name: text or None for name, text in annotations.items()}
        return {"metadata": {"annotations": {**changed, **applied}}}

    def standing(self, manifest: Manifest) -> SeldonDeployment:
        """Return what stands in the cluster, each predictor with its name there.

        Its stem is the name that `read` returns it with.
        """
        given, names = self._find_whole(manifest), self.names(manifest)
        if given is None or is_stage(manifest):
            there = as_it_stands(manifest)
        else:
            there = self.place(self.read(manifest), manifest)
        named = (_named(p, names.get(p.name, p.stem)) for p in there.spec.predictors)
        return _with_predictors(there, named)

    def edits(self, manifest: Manifest) -> Mapping[str, str]:
        """Return predictor → what somebody changed by hand since it was applied.

        The keys are the predictors' names in the cluster. An object that an older version of this
        project wrote, or that has another image, does not count as changed.
        """
        given = find_given(manifest)
        return edits(manifest, given, self.names(manifest)) if given is not None else {}

    def difference(self, manifest: Manifest, wanted: SeldonDeployment) -> str:
        """Say how the settings differ from how a deployment of ours serves; empty if not at all."""
        if not is_ours(manifest):
            return ""
        there, asked = (_serving_of(m) for m in (manifest, self.render(wanted)))
        return "; ".join(_differences(there, asked))

    def has_other_pods(self, manifest: Manifest) -> bool:
        """Say whether somebody changed by hand the pods of a deployment of ours."""
        found = manifest["spec"].get("predictors") or ()
        ours = find_given(manifest) is not None
        return ours and not all(is_template_whole(manifest, predictor) for predictor in found)

    def _find_whole(self, manifest: Manifest) -> SeldonDeployment | None:
        """Return the deployment that was given; None if somebody else made or changed it."""
        given = find_given(manifest)
        if given is None or not is_whole(manifest, given, self.names(manifest)):
            return None
        return given

    def _rendered(self, given: SeldonDeployment) -> list[dict[str, Any]]:
        """Return the predictors of a deployment as the current settings make them."""
        plain = given.to_manifest()["spec"]["predictors"]
        return [
            self._predictors.render(given, *pair)
            for pair in zip(given.spec.predictors, plain, strict=True)
        ]

    def _placed(
        self, deployment: SeldonDeployment, predictor: Predictor, plain: Mapping[str, Any]
    ) -> Predictor:
        if TEMPLATE_ANNOTATION in predictor.annotations:
            return predictor
        stem = predictor.stem
        annotations = self._predictors.render(deployment, predictor, {**plain, "name": stem})[
            "annotations"
        ]
        if not (has_engine(annotations) or PREDICTOR_ANNOTATION in annotations):
            return predictor
        suffix = f"-{annotations[TEMPLATE_ANNOTATION][:8]}"
        marks = {PREDICTOR_ANNOTATION: stem, TEMPLATE_ANNOTATION: ""}
        name = stem[: _NAME_LENGTH - len(suffix)] + suffix
        return _with(predictor, name=name, annotations={**predictor.annotations, **marks})


def _kept(predictor: Predictor, there: Manifest | None) -> Predictor | None:
    """Return a predictor that was read from the cluster, with its name there; else None."""
    digest = predictor.annotations.get(TEMPLATE_ANNOTATION)
    if not digest or there is None:
        return None
    for found in there["spec"].get("predictors") or ():
        is_same = (found.get("annotations") or {}).get(TEMPLATE_ANNOTATION) == digest
        # The operator labels the pods of a shadow.
        if is_same and bool(found.get("shadow")) == predictor.shadow:
            mark = digest if is_template_whole(there, found) else ""
            annotations = {**predictor.annotations, TEMPLATE_ANNOTATION: mark}
            return _with(predictor, name=found["name"], annotations=annotations)
    return None


def _marked(
    given: SeldonDeployment,
    anew: Sequence[Mapping[str, Any]],
    there: Mapping[str, Mapping[str, Any]],
) -> SeldonDeployment:
    """Return a deployment whose predictors have the digest of pods that the settings would change.

    `anew` are its predictors as the settings make them, `there` is given name → predictor of the
    cluster.
    """
    told = []
    for predictor, again in zip(given.spec.predictors, anew, strict=True):
        found, annotations = there.get(predictor.name), dict(predictor.annotations)
        if annotations.pop(TEMPLATE_ANNOTATION, None) == "":
            annotations[TEMPLATE_ANNOTATION] = ""  # It is placed already.
        elif found is not None and _pods(found) != _pods(again):
            annotations[TEMPLATE_ANNOTATION] = found["annotations"][TEMPLATE_ANNOTATION]
        is_same = annotations == predictor.annotations
        told.append(predictor if is_same else _with(predictor, annotations=annotations))
    return _with_predictors(given, told)


def _with(predictor: Predictor, **fields: Any) -> Predictor:
    return predictor.model_copy(update=fields)


def _with_predictors(
    deployment: SeldonDeployment, predictors: Iterable[Predictor]
) -> SeldonDeployment:
    spec = deployment.spec.model_copy(update={"predictors": tuple(predictors)})
    return deployment.model_copy(update={"spec": spec})


def _with_traffic(found: Mapping[str, Any], traffic: int) -> dict[str, Any]:
    is_same = found.get("traffic", 0) == traffic
    return {**found, **({} if is_same else {"traffic": traffic})}


def _pods(predictor: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a rendered predictor the settings, or its manifest, decide on."""
    unlike = {"name", "traffic", "replicas", "shadow"}
    marks = {TEMPLATE_ANNOTATION, PREDICTOR_ANNOTATION}
    annotations = predictor.get("annotations") or {}
    return {
        **{key: value for key, value in predictor.items() if key not in unlike},
        "annotations": {key: text for key, text in annotations.items() if key not in marks},
    }


def _names(placed: SeldonDeployment, given: SeldonDeployment) -> dict[str, str]:
    both = zip(placed.spec.predictors, given.spec.predictors, strict=True)
    return {there.name: asked.name for there, asked in both}


def _named(predictor: Predictor, given: str) -> Predictor:
    """Return a predictor of the cluster with the name that its manifest gives it as its stem."""
    if predictor.stem == given:
        return predictor
    annotations = {**predictor.annotations, PREDICTOR_ANNOTATION: given}
    return _with(predictor, annotations=annotations)


def _require_random_split(deployment: SeldonDeployment) -> None:
    if deployment.sticky is not None:
        raise InvalidManifestError(
            f"could not apply {deployment.namespace}/{deployment.name}: a cluster does not support "
            f"the annotation {STICKY_ANNOTATION}. Seldon's operator writes the VirtualService, and "
            "its VirtualService splits requests between predictors at random. Remove the "
            "annotation, or use the embedded platform. Nothing was changed"
        )


def has_engine(annotations: Mapping[str, str]) -> bool:
    """Say whether Seldon's executor runs before the model of a predictor with `annotations`."""
    return annotations.get(NO_ENGINE_ANNOTATION, "").lower() != "true"


def is_named_in_answers(annotations: Mapping[str, str]) -> bool:
    """Say whether answers of a predictor with `annotations` carry its name: our own server's do."""
    return IMAGE_ANNOTATION in annotations and not has_engine(annotations)


def _plain(deployment: SeldonDeployment) -> str:
    return json.dumps(deployment.to_manifest(), sort_keys=True, separators=(",", ":"))


def _differences(
    there: Mapping[str, Iterable[str]], asked: Mapping[str, Iterable[str]]
) -> Iterator[str]:
    for what in asked:
        if there[what] != asked[what]:
            now, then = (", ".join(sorted(of[what])) for of in (there, asked))
            yield f"{what} is {now}, the settings say {then}"


def _serving_of(manifest: Manifest) -> dict[str, set[str]]:
    """Return a readable name of each setting → its values in the predictors."""
    there = [p.get("annotations") or {} for p in manifest["spec"].get("predictors") or ()]
    return {
        "Seldon's executor (seldon.engine)": {"on" if has_engine(p) else "off" for p in there},
        "the serving image": {p.get(IMAGE_ANNOTATION, "Seldon's") for p in there},
        "the digest of the trusted keys (signing)": {
            p.get(TRUST_ANNOTATION, "none") for p in there
        },
    }


def traffic_of(virtual_services: Sequence[Manifest]) -> dict[str, int]:
    """Return predictor → percent of the live requests, as the gateway routes them."""
    shares: dict[str, int] = {}
    for service in virtual_services:
        for route in _first_route(service).get("route") or ():
            shares[str(route["destination"].get("subset", ""))] = int(route.get("weight", 0))
    if len(shares) == 1:
        return dict.fromkeys(shares, 100)
    return shares


def mirrors_of(virtual_services: Sequence[Manifest]) -> set[str]:
    """Return the predictors that get mirrored requests."""
    mirrors = (_first_route(service).get("mirror") for service in virtual_services)
    return {str(mirror.get("subset", "")) for mirror in mirrors if mirror}


def _first_route(service: Manifest) -> Mapping[str, Any]:
    """Return the first HTTP route. The operator writes the HTTP rules before the gRPC rules."""
    first: Mapping[str, Any] = next(iter(service["spec"].get("http") or ()), {})
    return first
