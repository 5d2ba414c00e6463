"""Which other versions may answer for a deployment, because a release is in progress."""

from mlops_pipeline.delivery.references import DeploymentRef
from mlops_pipeline.delivery.releases.state import find_release
from mlops_pipeline.platforms.platform import Platform


def digests_beside(deployment: DeploymentRef, platform: Platform) -> tuple[str, ...]:
    """Return the digests of the versions that share the traffic with the deployed artifact now.

    Empty without a release, after its end, and if nobody gets the candidate's answers (shadow).

    Raises:
        IntegrityError: the state of the release on the deployment is damaged.
        UnavailableError: the platform does not answer.
    """
    found = platform.deployments.find(deployment.name, namespace=deployment.namespace)
    release = find_release(found)
    if release is None or release.ended is not None or release.is_shadow:
        return ()
    pair = (release.candidate, release.stable)
    if deployment.digest not in pair:
        return ()
    return tuple(digest for digest in pair if digest != deployment.digest)
