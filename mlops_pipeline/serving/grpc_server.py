"""gRPC: V2's service and Seldon's, on one port."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from mlserver.grpc.dataplane_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from mlserver.grpc.server import GRPCServer
from mlserver.grpc.servicers import InferenceServicer

from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.settings import ServerSettings


class ModelGRPCServer(GRPCServer):  # type: ignore[misc]
    """MLServer's gRPC server, bound before the model loads."""

    def __init__(self, *arguments: Any, own: ServerSettings) -> None:
        super().__init__(*arguments)
        self._own = own

    async def bind(self) -> None:
        """Take the port.

        Raises:
            StartError: another process has it.
        """
        self._server = grpc.aio.server(
            ThreadPoolExecutor(1),
            options=[*self._get_options(), ("grpc.so_reuseport", 0)],
        )
        add_GRPCInferenceServiceServicer_to_server(
            InferenceServicer(self._data_plane, self._model_repository_handlers), self._server
        )
        address = f"{self._own.host}:{self._own.grpc_port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartError(
                f"gRPC cannot listen on {address}; is another process there?", code=ExitCode.PORT
            ) from error

    async def start(self) -> None:
        """Serve until stopped."""
        await self._server.start()
        await self._server.wait_for_termination()

    async def stop(self, sig: int | None = None) -> None:
        """Refuse new calls and finish those in flight."""
        await self._server.stop(grace=self._own.drain_seconds)

    def serve_model(self, unit: Unit) -> None:
        """Answer with the model from now on."""
