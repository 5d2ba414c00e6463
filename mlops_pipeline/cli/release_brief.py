"""A release in progress, in one sentence: a part of `status`."""

from pydantic import BaseModel

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.releasing import releases_of
from mlops_pipeline.clients.errors import IntegrityError, PipelineError
from mlops_pipeline.delivery.releases.driver import Progress
from mlops_pipeline.delivery.releases.telling import tell


class ReleaseBrief(BaseModel):
    """A release in progress: `share` is the percent of the requests that its candidate gets."""

    id: str
    candidate: str
    share: int
    sentence: str


def find_brief(context: Context, model: RegisteredModel, *, has_store: bool) -> ReleaseBrief | None:
    """Return the release in progress, or None. Without a store, its evidence is not read."""
    releases = releases_of(context, model, "status")
    try:
        found = releases.find()
    except IntegrityError as error:
        return ReleaseBrief(id="", candidate="", share=0, sentence=str(error))
    except PipelineError:
        return None  # The layers say what does not answer.
    if found is None:
        return None
    sentence = tell(Progress(found), model.name)
    try:
        if has_store:
            sentence = tell(releases.look(), model.name)
    except PipelineError as error:
        sentence = f"{sentence}; its evidence is unknown: {error}"
    return ReleaseBrief(
        id=found.id, candidate=found.candidate, share=found.share, sentence=sentence
    )
