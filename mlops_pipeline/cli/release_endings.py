"""How far `up` has followed a release: in a sentence, and as an exit code."""

from dataclasses import dataclass

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli import RELEASE_ENDED_WITHOUT, RELEASE_GOES_ON
from mlops_pipeline.cli.context import Context
from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.delivery.deploying import deployed_ref
from mlops_pipeline.delivery.releases.records import history
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.delivery.releases.telling import how_to_continue


@dataclass(frozen=True)
class Ending:
    """How far the release of a model was followed."""

    model: str
    code: int
    """The exit code; 0 for a promoted version."""
    sentence: str


def ended(context: Context, model: RegisteredModel, *, id: str, candidate: str) -> Ending:
    """Say how a release ended, by its record, or by what serves where there is none."""
    told = f"{model.name}: the release of {candidate[:12]}"
    try:
        found = history(model.spec, context.platform)
        record = next((record for record in found if record.release.id == id), None)
        serving = deployed_ref(model.spec, context.platform)
    except PipelineError as error:
        sentence = f"{told} ended; its record could not be read: {error}"
        return Ending(model.name, RELEASE_GOES_ON, sentence)
    if record is not None:
        outcome, reason = record.decision.outcome.replace("_", " "), record.decision.reason
    else:
        is_promoted = serving is not None and serving.digest == candidate
        outcome, reason = "promoted" if is_promoted else "rolled back", "it has no record"
    code = 0 if outcome == "promoted" else RELEASE_ENDED_WITHOUT
    return Ending(model.name, code, f"{told} was {outcome}: {reason}")


def goes_on(name: str, told: str, release: Release | None) -> Ending:
    """Say that a release has not ended, and how to continue."""
    sentence = f"{told}. To continue, {how_to_continue(name, release)}"
    return Ending(name, RELEASE_GOES_ON, sentence)
