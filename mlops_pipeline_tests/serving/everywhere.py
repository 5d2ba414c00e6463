"""The same rows, asked of a model by every protocol that a server speaks."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from mlops_pipeline.serving import inference_pb2 as v2_pb
from mlops_pipeline.serving import seldon_pb2 as pb
from mlops_pipeline.serving import tensor_proto
from mlops_pipeline.serving import tensorflow_pb2 as tf_pb
from mlops_pipeline.serving import tensorflow_serving_pb2 as tfs_pb
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.messages import Answer, Request
from mlops_pipeline.serving.models import Model
from mlops_pipeline.serving.protocols.seldon import Unit
from mlops_pipeline.serving.scores import DTYPES
from mlops_pipeline_tests.serving.at_once import (
    seldon,
    seldon_grpc,
    tensorflow,
    tensorflow_grpc,
    v2,
    v2_grpc,
)

Rows = list[Any]


def read(answer: Answer) -> Any:
    assert answer.status == 200
    return json.loads(answer.body)


def request_of(document: object) -> Request:
    return Request(json.dumps(document).encode(), b"application/json")


def answers(
    model: Model, rows: Rows, *, datatype: str = "FP64", refusals: bool = False
) -> dict[str, Any]:
    """Return protocol → answer to the rows as nested lists, of the model's first default output.

    None is a missing value: null in JSON, NaN elsewhere.
    With `refusals` the sentence of a refusal is an answer too.
    """
    unit = Unit(model, "image:1")
    asking: Mapping[str, Callable[[Unit, Rows, str], Any]] = {
        "seldon ndarray": _ndarray,
        "seldon tensor": _tensor,
        "seldon jsonData": _json_data,
        "seldon gRPC ndarray": _grpc_ndarray,
        "seldon gRPC tensor": _grpc_tensor,
        "V2": _v2,
        "V2 gRPC": _v2_grpc,
        "V2 gRPC raw": _v2_grpc_raw,
        "tftensor": _tftensor,
        "tftensor gRPC": _grpc_tftensor,
        "TF gRPC": _tf_grpc,
        "TF rows": _tf_rows,
        "TF columns": _tf_columns,
    }
    found = {}
    for name, ask in asking.items():
        try:
            found[name] = ask(unit, rows, datatype)
        except RequestError as error:
            if not refusals:
                raise
            found[name] = error.sentence
    return found


def answers_by_name(
    model: Model, inputs: Mapping[str, tuple[str, list[int], list[Any]]]
) -> dict[str, Any]:
    """Return protocol → answer to inputs by name: input → datatype, shape, values of its rows.

    The sentence of a refusal is an answer too.
    """
    unit = Unit(model, "image:1")
    columns: Any = {name: values for name, (_, _, values) in inputs.items()}
    rows: list[Any] = [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ]
    tensors = [
        {"name": name, "datatype": kind, "shape": shape, "data": values}
        for name, (kind, shape, values) in inputs.items()
    ]
    if len(inputs) == 1:
        ((columns, rows),) = ((values, values) for values in columns.values())
    asking: Mapping[str, Callable[[], Any]] = {
        "V2": lambda: v2.infer(model, request_of({"inputs": tensors})),
        "TF rows": lambda: tensorflow.predict(model, request_of({"instances": rows})),
        "TF columns": lambda: tensorflow.predict(model, request_of({"inputs": columns})),
        "seldon jsonData": lambda: seldon.predictions(
            unit, request_of({"jsonData": {"instances": rows}})
        ),
        "one input less": lambda: v2.infer(model, request_of({"inputs": tensors[1:]})),
        "seldon ndarray": lambda: seldon.predictions(
            unit, request_of({"data": {"ndarray": [[1.0, 2.0]]}})
        ),
    }
    found = {}
    for name, ask in asking.items():
        try:
            found[name] = read(ask())
        except RequestError as error:
            found[name] = error.sentence
    found["TF gRPC"] = _tf_grpc_by_name(model, inputs)
    return found


def _tf_grpc_by_name(
    model: Model, inputs: Mapping[str, tuple[str, list[int], list[Any]]]
) -> list[Any]:
    import numpy as np

    request = tfs_pb.PredictRequest(model_spec={"name": model.name})
    for name, (kind, shape, values) in inputs.items():
        array = np.array(values, DTYPES.get(kind, object)).reshape(shape)
        tensor_proto.write(request.inputs[name], array)
    (scores,) = tensorflow_grpc.predict(model, request).outputs.values()
    answer: list[Any] = _listed(scores)
    return answer


def _shape(rows: Any) -> list[int]:
    return [len(rows), *_shape(rows[0])] if isinstance(rows, list) else []


def flat(rows: Any) -> list[Any]:
    return [value for row in rows for value in flat(row)] if isinstance(rows, list) else [rows]


def _floats(rows: Rows) -> list[Any]:
    return [math.nan if value is None else value for value in flat(rows)]


def nested(values: list[Any], shape: list[int]) -> Any:
    """Return values in row-major order as nested lists of that shape."""
    if len(shape) <= 1:
        return values
    step = len(values) // shape[0]
    return [nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _data(data: Mapping[str, Any]) -> Any:
    assert data["names"] == [] or len(data["names"]) == len(
        (data.get("ndarray") or nested(data["tensor"]["values"], data["tensor"]["shape"]))[0]
    )
    if "ndarray" in data:
        return data["ndarray"]
    return nested(data["tensor"]["values"], data["tensor"]["shape"])


def _ndarray(unit: Unit, rows: Rows, _: str) -> Any:
    return _data(read(seldon.predictions(unit, request_of({"data": {"ndarray": rows}})))["data"])


def _tensor(unit: Unit, rows: Rows, _: str) -> Any:
    tensor = {"shape": _shape(rows), "values": flat(rows)}
    return _data(read(seldon.predictions(unit, request_of({"data": {"tensor": tensor}})))["data"])


def _json_data(unit: Unit, rows: Rows, _: str) -> Any:
    document = {"jsonData": {"instances": rows}}
    return read(seldon.predictions(unit, request_of(document)))["jsonData"]["predictions"]


def _grpc_ndarray(unit: Unit, rows: Rows, _: str) -> Any:
    message = pb.SeldonMessage()
    message.data.ndarray.extend(rows)
    return _plain(seldon_grpc.predict(unit, message).data)


def _grpc_tensor(unit: Unit, rows: Rows, _: str) -> Any:
    tensor = pb.Tensor(shape=_shape(rows), values=_floats(rows))
    message = pb.SeldonMessage(data=pb.DefaultData(tensor=tensor))
    return _plain(seldon_grpc.predict(unit, message).data)


def _plain(data: pb.DefaultData) -> Any:
    if data.WhichOneof("data_oneof") == "tensor":
        return nested(list(data.tensor.values), list(data.tensor.shape))
    return seldon_grpc._rows(data.ndarray)


def _array(rows: Rows, datatype: str) -> Any:
    import numpy as np

    return np.array(_floats(rows), DTYPES[datatype]).reshape(_shape(rows))


def _listed(tensor: tf_pb.TensorProto) -> Any:
    if tensor.dtype == tf_pb.DT_STRING:
        texts = [text.decode() for text in tensor.string_val]
        return nested(texts, [dim.size for dim in tensor.tensor_shape.dim])
    return tensor_proto.read(tensor, where="the answer").tolist()


def _tftensor(unit: Unit, rows: Rows, datatype: str) -> Any:
    tensor = tensor_proto.to_json(_array(rows, datatype))
    data = read(seldon.predictions(unit, request_of({"data": {"tftensor": tensor}})))["data"]
    if "ndarray" in data:
        return data["ndarray"]
    return _listed(tensor_proto.from_json(data["tftensor"], where="the answer"))


def _grpc_tftensor(unit: Unit, rows: Rows, datatype: str) -> Any:
    message = pb.SeldonMessage()
    tensor_proto.write(message.data.tftensor, _array(rows, datatype))
    data = seldon_grpc.predict(unit, message).data
    is_tensor = data.WhichOneof("data_oneof") == "tftensor"
    return _listed(data.tftensor) if is_tensor else seldon_grpc._rows(data.ndarray)


def _tf_grpc(unit: Unit, rows: Rows, datatype: str) -> Any:
    request = tfs_pb.PredictRequest(model_spec={"name": unit.model.name})
    signature = unit.model.default
    tensor_proto.write(request.inputs[signature.input], _array(rows, datatype))
    response = tensorflow_grpc.predict(unit.model, request)
    return _listed(response.outputs[signature.default_outputs[0]])


def _v2(unit: Unit, rows: Rows, datatype: str) -> Any:
    tensor = {"shape": _shape(rows), "datatype": datatype, "data": flat(rows)}
    output = read(v2.infer(unit.model, request_of({"inputs": [tensor]})))["outputs"][0]
    return nested(output["data"], output["shape"])


def _request(unit: Unit, rows: Rows, datatype: str) -> v2_pb.ModelInferRequest:
    request = v2_pb.ModelInferRequest(model_name=unit.model.name)
    request.inputs.add(datatype=datatype, shape=_shape(rows))
    return request


def _v2_grpc(unit: Unit, rows: Rows, datatype: str) -> Any:
    request = _request(unit, rows, datatype)
    getattr(request.inputs[0].contents, v2_grpc._CONTENTS[datatype]).extend(_floats(rows))
    return _v2_answer(v2_grpc.infer(unit.model, request))


def _v2_grpc_raw(unit: Unit, rows: Rows, datatype: str) -> Any:
    import numpy as np

    request = _request(unit, rows, datatype)
    request.raw_input_contents.append(np.array(_floats(rows), DTYPES[datatype]).tobytes())
    return _v2_answer(v2_grpc.infer(unit.model, request))


def _v2_answer(response: v2_pb.ModelInferResponse) -> Any:
    output = response.outputs[0]
    if response.raw_output_contents:
        values = _from_raw(response.raw_output_contents[0], output.datatype)
    else:
        values = list(getattr(output.contents, v2_grpc._CONTENTS[output.datatype]))
    if output.datatype == "BYTES":
        values = [value.decode() for value in values]
    return nested(values, list(output.shape))


def _from_raw(content: bytes, datatype: str) -> list[Any]:
    import numpy as np

    if datatype != "BYTES":
        values: list[Any] = np.frombuffer(content, DTYPES[datatype]).tolist()
        return values
    strings = []
    while content:
        size = int.from_bytes(content[:4], "little")
        strings.append(content[4 : 4 + size])
        content = content[4 + size :]
    return strings


def _tf_rows(unit: Unit, rows: Rows, _: str) -> Any:
    return _first(
        read(tensorflow.predict(unit.model, request_of({"instances": rows})))["predictions"]
    )


def _tf_columns(unit: Unit, rows: Rows, _: str) -> Any:
    outputs = read(tensorflow.predict(unit.model, request_of({"inputs": rows})))["outputs"]
    return outputs[min(outputs)] if isinstance(outputs, dict) else outputs


def _first(predictions: Any) -> Any:
    """Return the first output of predictions that are objects with several."""
    if isinstance(predictions[0], dict):
        return [row[min(row)] for row in predictions]
    return predictions
