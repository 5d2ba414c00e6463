"""What passes between assets: small references, never bytes."""

from dataclasses import dataclass

MODELS_BUCKET = "models"
"""The bucket of artifacts."""


@dataclass(frozen=True)
class DatasetRef:
    """One immutable snapshot of a dataset."""

    name: str
    uri: str
    """`s3://datasets/<model>/<digest>`"""
    digest: str
    """SHA-256 of its data.npz."""


@dataclass(frozen=True)
class ModelRef:
    """One immutable artifact."""

    name: str
    uri: str
    """`s3://models/<model>/<digest>`: the `modelUri` of its deployments."""
    digest: str
    """The artifact's digest (see `serving.artifact`)."""


@dataclass(frozen=True)
class DeploymentRef:
    """One artifact that answers at one URL."""

    name: str
    namespace: str
    url: str
    """`http://<gateway>/seldon/<namespace>/<name>`"""
    model: ModelRef

    @property
    def digest(self) -> str:
        """The digest that answers: the artifact's."""
        return self.model.digest


Reference = DatasetRef | ModelRef | DeploymentRef
"""What passes between assets, and what a verdict is about; each has a digest."""
