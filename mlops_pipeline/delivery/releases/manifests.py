"""The manifests of a release: two versions side by side, the candidate alone, the stable one alone.

The names of predictors change with their role; their servers stay, because they are called by the
stem (`PREDICTOR_ANNOTATION`) and by what they run.
"""

from dataclasses import dataclass

from mlops_pipeline.clients.errors import ConflictError
from mlops_pipeline.delivery.releases.state import CANDIDATE, FORMER, Release, without_release
from mlops_pipeline.platforms.seldon import Predictor, SeldonDeployment
from mlops_pipeline.platforms.sticky import STICKY_ANNOTATION

_ROOM = 63 - len(CANDIDATE) - 1


@dataclass(frozen=True)
class Versions:
    """The predictors of a deployment during a release, by their roles."""

    candidate: Predictor
    stable: Predictor | None
    """What gets the traffic that was not promoted; after a promotion the former version, as long
    as it is kept."""

    def require_stable(self) -> Predictor:
        """Return the stable version.

        Raises:
            ConflictError: the deployment has none.
        """
        if self.stable is None:
            raise ConflictError(
                "could not change the release: somebody removed the stable version from the "
                "deployment. Run `mlops-pipeline up` or `mlops-pipeline rollback`"
            )
        return self.stable


def candidate_name(name: str) -> str:
    """Return the name of the candidate's predictor beside the one called `name`."""
    return f"{name[:_ROOM]}-{CANDIDATE}"


def former_name(name: str) -> str:
    """Return the name of the replaced version's predictor beside the one called `name`."""
    return f"{name[:_ROOM]}-{FORMER}"


def find_versions(deployment: SeldonDeployment, release: Release) -> Versions | None:
    """Return the predictors by their roles; None if the deployment lacks the candidate."""
    predictors = deployment.spec.predictors
    if release.ended is not None and release.ended.outcome == "promoted":
        main = next((p for p in predictors if not p.name.endswith(f"-{FORMER}")), None)
    else:
        main = next((p for p in predictors if p.name.endswith(f"-{CANDIDATE}")), None)
    if main is None:
        return None
    return Versions(main, next((p for p in predictors if p is not main), None))


def beside(
    there: SeldonDeployment, stable: Predictor, candidate: Predictor, release: Release
) -> SeldonDeployment:
    """Return the deployment in which the candidate has the share of the release's step."""
    share = release.share
    name = candidate_name(stable.name)
    if release.is_shadow:
        pair = (
            stable.model_copy(update={"traffic": 100, "shadow": False}),
            candidate.model_copy(update={"name": name, "traffic": share, "shadow": True}),
        )
    else:
        pair = (
            stable.model_copy(update={"traffic": 100 - share, "shadow": False}),
            candidate.model_copy(update={"name": name, "traffic": share, "shadow": False}),
        )
    sticky = {STICKY_ANNOTATION: release.plan.sticky} if release.plan.sticky else {}
    return _with(without_sticky(there), pair).annotated({**sticky, **release.annotations()})


def promoted(
    there: SeldonDeployment, versions: Versions, release: Release, *, name: str
) -> SeldonDeployment:
    """Return the deployment in which the candidate, now called `name`, has all traffic.

    In the phase `kept`, the former version stays beside it without traffic.
    """
    main = versions.candidate.model_copy(update={"name": name, "traffic": 100, "shadow": False})
    pair: tuple[Predictor, ...] = (main,)
    if release.phase == "kept" and versions.stable is not None:
        former = {"name": former_name(name), "traffic": 0, "shadow": False}
        pair = (versions.stable.model_copy(update=former), main)
    return _with(without_sticky(there), pair).annotated(release.annotations())


def restored(
    there: SeldonDeployment, versions: Versions, release: Release, *, name: str
) -> SeldonDeployment:
    """Return the deployment in which the stable version, called `name`, has all traffic."""
    alone = versions.require_stable().model_copy(
        update={"name": name, "traffic": 100, "shadow": False}
    )
    return _with(without_sticky(there), (alone,)).annotated(release.annotations())


def finished(there: SeldonDeployment, versions: Versions) -> SeldonDeployment:
    """Return the deployment with the promoted version alone, and without the release."""
    return _with(without_release(there), (versions.candidate,))


def without_sticky(deployment: SeldonDeployment) -> SeldonDeployment:
    """Return the deployment without a sticky split."""
    return deployment.annotated({STICKY_ANNOTATION: ""})


def _with(deployment: SeldonDeployment, predictors: tuple[Predictor, ...]) -> SeldonDeployment:
    spec = deployment.spec.model_copy(update={"predictors": predictors})
    return deployment.model_copy(update={"spec": spec})
