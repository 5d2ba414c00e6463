"""What a forwarder is told of its unit and says with each request to the server behind it.

Seldon's operator gives the unit's name, image and parameters to the unit's own container; with
TENSORFLOW_SERVER under Seldon's protocol, that is not the one that loads the model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mlops_pipeline.serving.errors import RequestError, StartError
from mlops_pipeline.serving.settings import Parameter, parse_parameters

HEADER = "x-mlops-unit"
"""Of a REST request, and the key of a gRPC call's metadata."""


@dataclass(frozen=True)
class Told:
    """The unit that answers, as far as the model's server is not told."""

    image: str
    predictor: str
    parameters: Mapping[str, Parameter]


def write(*, image: str, predictor: str, parameters: str) -> str:
    """Return the header's value, in ASCII; `parameters` is as PREDICTIVE_UNIT_PARAMETERS."""
    return json.dumps({"image": image, "predictor": predictor, "parameters": parameters})


def read(text: str) -> Told:
    """Read the header's value.

    Raises:
        RequestError: it is not what `write` writes.
    """
    try:
        said = json.loads(text)
        parameters = parse_parameters(str(said["parameters"]))
        return Told(str(said["image"]), str(said["predictor"]), parameters)
    except (ValueError, TypeError, KeyError, StartError) as error:
        raise RequestError("WRONG_UNIT", f"the header {HEADER} cannot be read: {error}") from error
