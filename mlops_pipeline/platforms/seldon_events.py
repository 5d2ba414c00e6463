"""Rows of the log of answers as the events of Seldon's request logger.

The data of an event has the format of the row's protocol. It is rebuilt from the row, so masked
columns are not in it.

executor/logger/worker.go of seldon-core 1.17.1
"""

from collections.abc import Iterator, Mapping
from typing import Any

REQUEST = "io.seldon.serving.inference.request"
RESPONSE = "io.seldon.serving.inference.response"
FEEDBACK = "io.seldon.serving.feedback"


def events_of(row: Mapping[str, Any]) -> Iterator[tuple[str, object, dict[str, str]]]:
    """Yield (type, data, attributes) of each event; none for a row without input and output."""
    attributes = {
        "source": f"/seldon/{row['namespace']}/{row['deployment']}/{row['predictor']}",
        "time": row["time"],
        "requestid": row["id"],
        "modelid": row["model"],
        "inferenceservicename": row["deployment"],
        "namespace": row["namespace"],
        "endpoint": row["predictor"],
        "protocol": row["protocol"],
    }
    if row["kind"] == "feedback":
        meta = {"meta": {"puid": row["id"]}}
        data = {"response": meta, "reward": row["reward"], "truth": row["truth"]}
        yield FEEDBACK, data, attributes
    elif row["input"] is not None and row["output"] is not None:
        yield REQUEST, _request(row), attributes
        yield RESPONSE, _response(row), attributes


def _request(row: Mapping[str, Any]) -> object:
    given, columns = row["input"], row["columns"]
    if row["protocol"] == "v2":
        arrays = given if isinstance(given, dict) else {"input": given}
        return {"id": row["id"], "inputs": [_tensor(name, arrays[name]) for name in arrays]}
    if row["protocol"] == "seldon":
        return _message(row, given, columns)
    return {"inputs" if isinstance(given, dict) else "instances": given}


def _response(row: Mapping[str, Any]) -> object:
    output = row["output"]
    arrays = output if isinstance(output, dict) else {"output": output}
    if row["protocol"] == "v2":
        outputs = [_tensor(name, arrays[name]) for name in arrays]
        return {"model_name": row["model"], "id": row["id"], "outputs": outputs}
    first = next(iter(arrays.values()), None)
    if row["protocol"] == "seldon":
        return _message(row, first, None)
    return {"predictions": first} if len(arrays) == 1 else {"outputs": arrays}


def _message(row: Mapping[str, Any], content: object, names: list[str] | None) -> object:
    meta = {"meta": {"puid": row["id"]}}
    if isinstance(content, str):
        return {"strData": content, **meta}
    if isinstance(content, dict):
        return {"jsonData": content, **meta}
    return {"data": {"names": names or [], "ndarray": content}, **meta}


def _tensor(name: str, values: object) -> dict[str, object]:
    shape: list[int] = []
    level = values
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    flat = list(_items(values))
    is_text = any(isinstance(item, str) for item in flat)
    datatype = "BYTES" if is_text else "BOOL" if flat and _are_flags(flat) else "FP64"
    return {"name": name, "shape": shape, "datatype": datatype, "data": flat}


def _are_flags(flat: list[object]) -> bool:
    return all(isinstance(item, bool) for item in flat)


def _items(values: object) -> Iterator[object]:
    if isinstance(values, list):
        for value in values:
            yield from _items(value)
    else:
        yield values
