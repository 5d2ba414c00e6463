"""The owners of a cluster's SeldonDeployments."""

from mlops_pipeline.clients.kubernetes import SELDON_DEPLOYMENT, KubernetesApi
from mlops_pipeline.platforms.kubernetes.objects.endings import is_lasting
from mlops_pipeline.platforms.kubernetes.objects.ownership import is_mine


def foreign_deployments(api: KubernetesApi) -> tuple[str, ...]:
    """Name those that somebody else created: `SeldonDeployment team/model`."""
    return tuple(
        f"SeldonDeployment {found['metadata']['namespace']}/{found['metadata']['name']}"
        for found in api.list(SELDON_DEPLOYMENT)
        if not is_mine(api, found) and is_lasting(found)
    )
