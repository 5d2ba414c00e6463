"""`status`: what is really there now, as people and as programs read it."""

import json
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ServerSpec
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.release_brief import ReleaseBrief, find_brief
from mlops_pipeline.clients.errors import AccessDeniedError, PipelineError, UnavailableError
from mlops_pipeline.delivery.artifacts import Holdout
from mlops_pipeline.delivery.desired import describe_pin, find_pin, find_pin_on_deployment
from mlops_pipeline.platforms.layers import Ready, Unready, describe
from mlops_pipeline.platforms.observing import SeenState, name_of, observe_platform
from mlops_pipeline.platforms.platform import PredictorStatus as Predictor
from mlops_pipeline.platforms.seldon import SeldonDeployment
from mlops_pipeline.resources.home import EXAMPLES

_NO_ANSWER = "unknown: see the layers above"
_CERTIFICATES = "gateway.crt"
_INLINE = 16
"""Most values of a row that is written into a curl line; a longer one goes to a file."""


@dataclass(frozen=True)
class Place:
    """Where a deployment is."""

    namespace: str
    deployment: str


class LayerStatus(BaseModel):
    """A layer: `state` is ready, absent, drifted, broken or unknown.

    `repairable` says whether `up` makes it ready; null while it is ready or unknown.
    """

    name: str
    state: str
    reason: str
    repairable: bool | None
    address: str


class PredictorStatus(BaseModel):
    """A predictor: `traffic` in percent.

    `state` is ready, starting, failed, stopped, edited or unsupervised.
    """

    name: str
    digest: str
    traffic: int
    replicas: int
    state: str
    reason: str


class PinStatus(BaseModel):
    """A pinned artifact: `waiting` is the digest of the newest one, empty where that is pinned."""

    digest: str
    by: str
    since: str
    waiting: str

    def describe(self) -> str:
        """Return which artifact is pinned since when and by whom, and which newer one waits."""
        return describe_pin(**self.model_dump())


class ModelStatus(BaseModel):
    """A model: `predictors` is empty while it is not deployed; `reason` says why.

    `pin` is null while no artifact is pinned, or where the object store does not answer. `release`
    is null while none is in progress.
    """

    name: str
    registered: bool
    namespace: str
    deployment: str
    url: str
    reason: str
    pin: PinStatus | None = None
    release: ReleaseBrief | None = None
    predictors: list[PredictorStatus]


class RefusedStatus(BaseModel):
    """A registered model that cannot be used, and why."""

    name: str
    source: str
    reason: str


class Status(BaseModel):
    """The document that `status --json` prints. Its fields are stable."""

    platform: str
    gateway: str
    object_store: str
    layers: list[LayerStatus]
    models: list[ModelStatus]
    refused: list[RefusedStatus]

    def is_ready(self) -> bool:
        """Return whether every layer is ready, every registered model too, and none is refused."""
        return (
            not self.refused
            and all(layer.state == "ready" for layer in self.layers)
            and all(
                model.predictors and all(p.state == "ready" for p in model.predictors)
                for model in self.models
                if model.registered
            )
        )


def observe(context: Context) -> Status:
    """Look at everything. Changes nothing."""
    seen = observe_platform(context.platform)
    layers = [_describe_layer(name, state) for name, state in seen.items()]
    addresses = {layer.name: layer.address for layer in layers}
    gateway = addresses.get(context.platform.gateway, "")
    store = addresses.get("object_store", "")
    there = _find_deployments(context)
    return Status(
        platform=context.platform.name,
        gateway=gateway,
        object_store=store,
        layers=layers,
        models=[
            *(
                _observe_model(
                    context,
                    m.name,
                    m.spec.server,
                    gateway,
                    notes=_notes_on(context, m, store) if there is not None else _Notes(),
                    answers=there is not None,
                )
                for m in context.models
            ),
            *_observe_others(context, gateway, there or ()),
        ],
        refused=[
            RefusedStatus(name=m.label, source=m.source, reason=m.reason) for m in context.refused
        ],
    )


def _find_deployments(context: Context) -> Sequence[SeldonDeployment] | None:
    """Return the deployments that may be listed, or None if the platform does not answer."""
    try:
        return context.platform.deployments.list()
    except AccessDeniedError:
        return ()
    except UnavailableError:
        return None


def _observe_others(
    context: Context, gateway: str, there: Sequence[SeldonDeployment]
) -> Iterator[ModelStatus]:
    """Deployments of no registered model: applied by hand, called by their own name."""
    known = {(m.spec.server.namespace, m.spec.server.deployment) for m in context.models}
    for found in there:
        if (found.namespace, found.name) not in known:
            place = Place(found.namespace, found.name)
            yield _observe_model(context, found.name, place, gateway)


def _describe_layer(name: str, state: SeenState) -> LayerStatus:
    return LayerStatus(
        name=name,
        state=name_of(state),
        reason=describe(state),
        repairable=state.is_repairable if isinstance(state, Unready) else None,
        address=str(state.facts.get("address", "")) if isinstance(state, Ready) else "",
    )


@dataclass(frozen=True)
class _Notes:
    """What the deployment of a registered model says beside its predictors."""

    pin: PinStatus | None = None
    release: ReleaseBrief | None = None


def _notes_on(context: Context, model: RegisteredModel, object_store: str) -> _Notes:
    return _Notes(
        pin=_find_pin(context, model, object_store=object_store),
        release=find_brief(context, model, has_store=bool(object_store)),
    )


def _find_pin(context: Context, model: RegisteredModel, *, object_store: str) -> PinStatus | None:
    """Return the pin; without an address of the object store only what the deployment says."""
    find = find_pin if object_store else find_pin_on_deployment
    try:
        found = find(model.spec, context.platform)
    except PipelineError:
        return None  # The layers say what does not answer.
    if found is None:
        return None
    wanted = found.desired
    return PinStatus(digest=wanted.digest, by=wanted.by, since=wanted.since, waiting=found.waiting)


def _observe_model(
    context: Context,
    name: str,
    server: "Place | ServerSpec",
    gateway: str,
    *,
    notes: "_Notes | None" = None,
    answers: bool = True,
) -> ModelStatus:
    """Look at a model, unless the platform does not answer: it is asked only once."""
    seen, reason = _look_at(context, server) if answers else ((), _NO_ANSWER)
    notes = notes or _Notes()
    return ModelStatus(
        name=name,
        registered=isinstance(server, ServerSpec),
        namespace=server.namespace,
        deployment=server.deployment,
        reason=reason,
        pin=notes.pin,
        release=notes.release,
        url=f"{gateway}/seldon/{server.namespace}/{server.deployment}" if gateway else "",
        predictors=[
            PredictorStatus(**{name: getattr(p, name) for name in PredictorStatus.model_fields})
            for p in seen
        ],
    )


def _look_at(context: Context, server: "Place | ServerSpec") -> tuple[Sequence[Predictor], str]:
    """Return the predictors of a deployment; without any, the reason."""
    deployments, place = context.platform.deployments, server.namespace
    try:
        seen = deployments.status(server.deployment, namespace=place)
        reason = "" if seen else deployments.describe_absence(server.deployment, namespace=place)
    except AccessDeniedError as error:
        return (), f"unknown: {error}"
    except UnavailableError:
        return (), _NO_ANSWER
    return seen, reason


def show(status: Status, console: Console) -> None:
    """Print the status as two tables."""
    layers = Table("layer", "state", "address", box=None, pad_edge=False, header_style="bold")
    for layer in status.layers:
        prefix = "`up` cannot repair this: " if layer.repairable is False else ""
        told = f"{prefix}{layer.reason}"
        layers.add_row(layer.name, _coloured(layer.state), layer.address or escape(told))
    console.print(layers)
    console.print()
    models = Table(
        "model",
        "version",
        "traffic",
        "replicas",
        "state",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    models.add_column("url", overflow="fold")
    for model in status.models:
        name = model.name if model.registered else f"{model.namespace}/{model.deployment}"
        if not model.predictors:
            models.add_row(name, "", "", "", _coloured("absent"), escape(model.reason))
        for p in model.predictors:
            models.add_row(
                name,
                p.digest[:12],
                f"{p.traffic} %",
                str(p.replicas),
                _coloured(p.state),
                escape(p.reason) or model.url,
            )
    for refused in status.refused:
        reason = escape(f"{refused.source}: {refused.reason}")
        models.add_row(refused.name, "", "", "", _coloured("refused"), reason)
    console.print(models)
    _show_notes(status, console)


def _show_notes(status: Status, console: Console, *, told: Collection[str] = ()) -> None:
    """Print a sentence for each pin, and for each release of a model that is not in `told`."""
    for model in status.models:
        if model.pin is not None:
            _print(
                console,
                f"{model.name}: {model.pin.describe()}. Run `mlops-pipeline unpin {model.name}` to "
                "allow the artifact of the current inputs",
            )
        if model.release is not None and model.name not in told:
            _print(
                console,
                f"{model.name}: {model.release.sentence}. `mlops-pipeline release status "
                f"{model.name}` shows the evidence and the commands that continue the release",
            )


def _print(console: Console, sentence: str) -> None:
    console.print(sentence, soft_wrap=True, markup=False, highlight=False)


def _coloured(state: str) -> str:
    colour = {"ready": "green", "absent": "dim", "stopped": "dim"}.get(state, "red")
    return f"[{colour}]{state}[/{colour}]"


def show_summary(context: Context, console: Console, *, told: Collection[str] = ()) -> None:
    """Print the table that `up` ends with: addresses, versions, metrics, and lines for curl.

    `told` are the models of whose releases the command has said how they stand.
    """
    status = observe(context)
    layers = Table("layer", "address", box=None, pad_edge=False, header_style="bold")
    for layer in status.layers:
        layers.add_row(layer.name, layer.address or layer.reason)
    console.print(layers)
    console.print()
    registered = {m.name: m for m in context.models}
    serving = [m for m in status.models if m.name in registered and _is_serving(m)]
    models = Table("model", "version", "quality", box=None, pad_edge=False, header_style="bold")
    models.add_column("url", overflow="fold")
    for model in serving:
        digest = _main(model).digest
        models.add_row(
            model.name, digest[:12], _quality(context, registered[model.name], digest), model.url
        )
    console.print(models)
    _show_notes(status, console, told=told)
    for model in serving:
        console.print(f"\n[bold]{model.name}[/bold]")
        line = curl_line(context, registered[model.name], model)
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _is_serving(model: ModelStatus) -> bool:
    return bool(model.predictors and _main(model).digest)


def _main(model: ModelStatus) -> PredictorStatus:
    """Return the predictor that most of the requests go to."""
    return max(model.predictors, key=lambda predictor: predictor.traffic)


def _quality(context: Context, model: RegisteredModel, digest: str) -> str:
    from mlops_pipeline.cli.models import describe_quality
    from mlops_pipeline.delivery.artifacts import ref_to

    try:
        metrics = context.artifacts.manifest(ref_to(model.name, digest)).metrics
    except PipelineError:
        return "unknown"
    return describe_quality(model.spec.metric, metrics)


def curl_line(context: Context, model: RegisteredModel, status: ModelStatus) -> str:
    """Return a line for a shell that asks the model; long rows are read from a file made for it."""
    return (
        f"curl {_trust(context)}-X POST {status.url}/api/v1.0/predictions "
        "-H 'Content-Type: application/json' "
        f"-d {_example_data(context, model, status)}"
    )


def example_files(context: Context) -> list[str]:
    """Return the names of the files that `curl_line` may have written."""
    return [_CERTIFICATES, *(_example_file(model.name) for model in context.models)]


def _example_file(model: str) -> str:
    return f"{model}.json"


def _trust(context: Context) -> str:
    """Return the option by which curl trusts the gateway, with a file written for it, or none."""
    from mlops_pipeline.clients.files import write_if_changed

    if not (certificates := context.platform.gateway_trust()):
        return ""
    file = context.settings.home / EXAMPLES / _CERTIFICATES
    write_if_changed(file, certificates)
    return f"--cacert {shlex.quote(str(file))} "


def _example_data(context: Context, model: RegisteredModel, status: ModelStatus) -> str:
    if 0 < len(model.spec.example) <= _INLINE:
        row = ", ".join(map(_shown_cell, model.spec.example))
        return f'\'{{ "data": {{ "ndarray": [[{row}]] }} }}\''
    file = context.settings.home / EXAMPLES / _example_file(model.name)
    _write_example(context, model, _main(status).digest, file)
    return shlex.quote(f"@{file}")


def _shown_cell(value: object) -> str:
    """Return a value of a row as JSON, without the `.0` of a whole number."""
    is_float = isinstance(value, float)
    text = f"{value:g}" if is_float else json.dumps(value, ensure_ascii=False)
    return text.replace("'", "\\u0027")  # The shell's quotes surround it.


def _write_example(context: Context, model: RegisteredModel, digest: str, file: Path) -> None:
    from mlops_pipeline.clients.files import write_if_changed
    from mlops_pipeline.delivery.artifacts import ref_to
    from mlops_pipeline.delivery.verification import example_request

    if model.spec.example:
        request = json.dumps({"data": {"ndarray": [model.spec.example]}})
    else:
        holdout: Holdout = context.artifacts.proof_rows(ref_to(model.name, digest))
        request = example_request(holdout)
    write_if_changed(file, request)
