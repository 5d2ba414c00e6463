"""What a container of a Seldon pod does, depending on its arguments and environment.

The operator (1.17) creates three kinds of containers of the prepackaged servers, and one image
implements each of them:

* PREDICTIVE_UNIT_* and the model in the folder of the parameter `model_uri`: SKLEARN_SERVER.
* TF Serving's arguments: TENSORFLOW_SERVER. Under TensorFlow's protocol the container is the
  unit's own, with PREDICTIVE_UNIT_* too. Under Seldon's it is named `tfserving` and has none.
* PREDICTIVE_UNIT_* with the parameter `rest_endpoint` and no model: the unit's container before
  `tfserving`.

operator/controllers/seldondeployment_prepackaged_servers.go
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlops_pipeline.serving import process
from mlops_pipeline.serving.errors import ExitCode
from mlops_pipeline.serving.frameworks import IMPLEMENTATION, TENSORFLOW
from mlops_pipeline.serving.settings import Place, ServerSettings, read_settings

DEFAULTS = {
    "MLSERVER_HOST": "0.0.0.0",
    # Seldon's preStop hook takes 10 of the 20 seconds within which a pod must end.
    "MLOPS_DRAIN_SECONDS": "8",
}


@dataclass(frozen=True)
class TensorFlowArguments:
    """The part of TF Serving's command line that Seldon's operator uses."""

    port: int | None
    """gRPC port."""
    rest_api_port: int | None
    model_name: str | None
    model_base_path: str | None

    @property
    def are_given(self) -> bool:
        """Say whether the container acts as TF Serving."""
        return self.model_base_path is not None

    def as_environment(self) -> dict[str, str]:
        """Return the equivalent variables of Seldon's."""
        said = {
            "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": self.port,
            "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": self.rest_api_port,
            "PREDICTIVE_UNIT_ID": self.model_name,
        }
        return {name: str(value) for name, value in said.items() if value is not None}


def run_pod(
    arguments: TensorFlowArguments, environment: Mapping[str, str], *, started: float
) -> ExitCode:
    """Serve, or forward, until a signal. `started` is the start time of the process, for the log.

    Raises:
        StartError: the container's configuration cannot be used; says why.
    """
    process.end_when_told()
    own = settings_of(arguments, environment)
    from mlops_pipeline.serving.forwarding import target

    if target.is_forwarder(own.parameters) and not arguments.are_given:
        there = target.read_target(own, environment["PREDICTIVE_UNIT_PARAMETERS"])
        from mlops_pipeline.serving.forwarding import run as forwarding

        return forwarding.run(own, there, started=started)
    from mlops_pipeline.serving.run import run

    told = environment.get(IMPLEMENTATION) or None
    implementation = TENSORFLOW.implementation if arguments.are_given else told
    return run(own, implementation=implementation, started=started)


def settings_of(arguments: TensorFlowArguments, environment: Mapping[str, str]) -> ServerSettings:
    """Return the settings of a container with these arguments and this environment.

    Raises:
        StartError: a value is invalid.
    """
    is_own = "PREDICTIVE_UNIT_ID" in environment
    place = Place.BEHIND if arguments.are_given and not is_own else Place.POD
    variables = {**DEFAULTS, **environment, **arguments.as_environment()}
    return read_settings(variables, model=arguments.model_base_path, place=place)
