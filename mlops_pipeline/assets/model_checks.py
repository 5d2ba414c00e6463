"""The checks of `<model>/model`."""

import dagster as dg

from mlops_pipeline.assets.checks import Proposition, make_checks, of_criteria
from mlops_pipeline.assets.keys import model_key
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import trained_elsewhere
from mlops_pipeline.delivery.criteria import model_criteria
from mlops_pipeline.delivery.judging import Verdict
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.reproducing import check_reproduction
from mlops_pipeline.resources.platform import PlatformResource


def model_checks(platform: str, model: RegisteredModel) -> dg.AssetChecksDefinition:
    """Return the checks of the artifact; its criteria block, so no bad model reaches users."""
    return make_checks(
        model_key(platform, model.name, "model"),
        [*of_criteria(model_criteria(model.spec)), *_reproduction(model)],
        can_accept=True,
    )


def _reproduction(model: RegisteredModel) -> list[Proposition]:
    """Return the check that trains twice, if the model's file wants it."""
    if not model.spec.trains_reproducibly or model.spec.train is trained_elsewhere:
        return []

    def evaluate(
        context: dg.AssetCheckExecutionContext, resource: PlatformResource, reference: ModelRef
    ) -> Verdict:
        return check_reproduction(
            model,
            reference,
            datasets=resource.datasets(),
            artifacts=resource.artifacts(),
            worker_context=resource.worker_context(context.instance),
        )

    text = "A second training of the same inputs gives the same bytes, or weights and signature."
    return [Proposition("trains_reproducibly", text, evaluate)]
