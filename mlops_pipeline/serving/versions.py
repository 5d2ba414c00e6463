"""The names of the only version of the only model, in every protocol that names versions."""

from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.models import Model


def check(model: Model, name: str, version: str = "") -> None:
    """Require that a request names this model; an empty version is the only one.

    Raises:
        RequestError: it does not; the status is 404.
    """
    if problem := find_problem(model, name, version):
        raise RequestError("NOT_FOUND", problem, status=404)


def find_problem(model: Model, name: str, version: str) -> str | None:
    """Return which model or version there is instead of the requested one, None if it is served."""
    if name != model.name:
        return f"there is no model {name[:80]!r} on this server; the model's name is {model.name!r}"
    if version in ("", *model.version_names):
        return None
    if version in map(str, model.unserved):
        return (
            f"the version {version} of {name!r} is in the artifact, but only the highest one, "
            f"{model.number}, is served; deploy the folder {version} as a model of its own"
        )
    own = " or ".join(map(repr, model.version_names))
    return f"there is no version {version[:80]!r} of {name!r} on this server; its version is {own}"


def no_label(label: str) -> str:
    """Return the sentence for a request that names a version by TF Serving's labels."""
    return (
        f"there is no version with the label {label[:80]!r}: this server has no labels; send "
        "the request without one"
    )
