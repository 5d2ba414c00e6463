"""The unit's configuration that a forwarder adds to each request to the server behind it.

Seldon's operator gives the unit's name, image and parameters to the unit's own container. With
TENSORFLOW_SERVER under Seldon's protocol, another container loads the model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mlops_pipeline.serving.errors import RequestError, StartError
from mlops_pipeline.serving.settings import Parameter, parse_parameters

HEADER = "x-mlops-unit"
"""The header of a REST request, and the key of a gRPC call's metadata."""


@dataclass(frozen=True)
class UnitConfiguration:
    """The configuration of the answering unit that the model's server does not have."""

    image: str
    predictor: str
    parameters: Mapping[str, Parameter]


def write(*, image: str, predictor: str, parameters: str) -> str:
    """Return the header's value, in ASCII; `parameters` is PREDICTIVE_UNIT_PARAMETERS."""
    return json.dumps({"image": image, "predictor": predictor, "parameters": parameters})


def read(text: str) -> UnitConfiguration:
    """Parse the header's value.

    Raises:
        RequestError: `write` did not write it.
    """
    try:
        said = json.loads(text)
        parameters = parse_parameters(str(said["parameters"]))
        return UnitConfiguration(str(said["image"]), str(said["predictor"]), parameters)
    except (ValueError, TypeError, KeyError, StartError) as error:
        raise RequestError("WRONG_UNIT", f"the header {HEADER} cannot be read: {error}") from error
