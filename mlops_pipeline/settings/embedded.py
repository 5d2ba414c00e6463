"""The settings of the embedded platform."""

from pydantic import Field

from mlops_pipeline.settings.fields import Bytes, Port, Seconds, Table


class EmbeddedSettings(Table):
    """The embedded platform. If a preferred port is in use, the next free one is used."""

    gateway_port: Port = Field(8080, description="Port of the gateway (Envoy), on 127.0.0.1.")
    object_store_port: Port = Field(8333, description="Port of S3 (SeaweedFS), on 127.0.0.1.")
    model_port: Port = Field(9000, description="First port for model servers, on 127.0.0.1.")
    ready_timeout: Seconds = Field(
        90.0, description="Timeout in seconds for a process to become ready."
    )
    drain_timeout: Seconds = Field(
        15.0, description="Seconds that a replaced model server has to finish its requests."
    )
    max_body_bytes: Bytes = Field(
        16 << 20, description="Maximum size of a request to a model server, in bytes."
    )
