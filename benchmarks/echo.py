"""What grpcio's server allows: `python -m benchmarks.echo HTTP_PORT GRPC_PORT`.

Every gRPC call is answered with the same bytes, by the same kind of handler and with the same
options as our model server. The HTTP port says that it runs.
"""

import asyncio
import os
import sys
from typing import Any

import grpc

from mlops_pipeline.serving import inference_pb2 as v2
from mlops_pipeline.serving.__main__ import LIBRARIES
from mlops_pipeline.serving.grpc_port import bound_server

_ANSWER = v2.ModelInferResponse(model_name="mnist-model", raw_output_contents=[bytes(40)])
_READY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def _main(http_port: int, grpc_port: int) -> None:
    answer: bytes = _ANSWER.SerializeToString()

    async def call(_: object, context: Any) -> bytes:
        await context.read()
        return answer

    async def ready(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_READY)
        await writer.drain()
        writer.close()

    service = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService",
        {"ModelInfer": grpc.stream_unary_rpc_method_handler(call)},
    )
    server, _ = bound_server([service], host="127.0.0.1", port=grpc_port, max_message_bytes=1 << 24)
    await server.start()
    http = await asyncio.start_server(ready, "127.0.0.1", http_port)
    await http.serve_forever()


if __name__ == "__main__":
    import uvloop

    os.environ.update(LIBRARIES)
    uvloop.run(_main(int(sys.argv[1]), int(sys.argv[2])))
