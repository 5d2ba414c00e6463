"""The bare limit: nothing between the wire and scikit-learn that is not needed to answer.

`python -m benchmarks.bare MODEL HTTP_PORT GRPC_PORT` answers every request with the scores of its
rows: REST by a minimal ASGI application on uvicorn, with the event loop and the HTTP parser that
our server uses, gRPC by a generic handler of grpc.aio. It checks nothing and counts nothing.
"""

import os
import sys
from typing import Any

import grpc
import numpy as np
import orjson

from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving.__main__ import LIBRARIES

_HEADERS = [(b"content-type", b"application/json")]


async def _main(model: str, http_port: int, grpc_port: int) -> None:
    import joblib
    import uvicorn

    estimator = joblib.load(model)

    async def answer_http(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        if body:  # A probe has none.
            rows = np.array(orjson.loads(body)["data"]["ndarray"])
            document = {"data": {"ndarray": estimator.predict_proba(rows)}}
            body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        length = (b"content-length", b"%d" % len(body))
        start = {"type": "http.response.start", "status": 200, "headers": [*_HEADERS, length]}
        await send(start)
        await send({"type": "http.response.body", "body": body})

    async def answer_grpc(request: pb.SeldonMessage, _: object) -> pb.SeldonMessage:
        tensor = request.data.tensor
        scores = estimator.predict_proba(np.array(tensor.values).reshape(tensor.shape))
        values = pb.Tensor(shape=scores.shape, values=scores.ravel())
        return pb.SeldonMessage(data=pb.DefaultData(tensor=values))

    grpc_server = await _serve_grpc(answer_grpc, grpc_port)
    config = uvicorn.Config(
        answer_http,
        host="127.0.0.1",
        port=http_port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        date_header=False,
    )
    await uvicorn.Server(config).serve()
    await grpc_server.stop(grace=None)


async def _serve_grpc(answer: Any, port: int) -> grpc.aio.Server:
    handler = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=pb.SeldonMessage.FromString,
        response_serializer=pb.SeldonMessage.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("seldon.protos.Seldon", {"Predict": handler})]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server


if __name__ == "__main__":
    import uvloop

    os.environ.update(LIBRARIES)
    uvloop.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
