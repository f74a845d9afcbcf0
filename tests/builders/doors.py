"""One prediction through each of the prediction doors, and what each answers, in one form.

    doors = Doors(world.http, ask, token)
    for door in DOORS:
        answer = await doors.through(door, Asked("m", {"x": Given("FP32", array)}))

A door that cannot carry what is asked for says so by `carries`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import numpy as np

from builders.grpc_clients import Caller
from maas_gateway.protocols.open_inference.grpc.messages import message_class
from maas_gateway.tensors.datatypes import Datatype

V1_ROWS, V1_COLUMNS = "v1 rows", "v1 columns"
V2_JSON, V2_BINARY, V2_RAW = "v2 JSON", "v2 binary", "v2 raw"
GRPC_RAW, GRPC_CONTENTS, GRPC_STREAM = "gRPC raw", "gRPC contents", "gRPC stream"
DOORS = (V1_ROWS, V1_COLUMNS, V2_JSON, V2_BINARY, V2_RAW, GRPC_RAW, GRPC_CONTENTS, GRPC_STREAM)
OF_V1 = frozenset({V1_ROWS, V1_COLUMNS})
OF_GRPC = frozenset({GRPC_RAW, GRPC_CONTENTS, GRPC_STREAM})

LENGTH = "inference-header-content-length"
_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_KINDS = {"b": bool, "i": int, "u": int, "f": float, "O": str}


@dataclass(frozen=True)
class Given:
    """An input as a client has it; its shape need not be its array's.

    Attributes:
        datatype: by its name.
        array: the values; BYTES are `bytes` objects.
        shape: what the request says, the array's where that is None.
    """

    datatype: str
    array: np.ndarray
    shape: tuple[int, ...] | None = None

    @property
    def said(self) -> list[int]:
        return list(self.array.shape if self.shape is None else self.shape)

    @property
    def raw(self) -> bytes:
        if self.array.dtype != np.object_:
            return self.array.tobytes()
        return b"".join(len(value).to_bytes(4, "little") + value for value in self.array.ravel().tolist())

    @property
    def values(self) -> Any:
        """What JSON holds, nested as the array is."""
        if self.array.dtype != np.object_:
            return self.array.tolist()
        return np.array([value.decode() for value in self.array.ravel()], np.object_).reshape(self.array.shape).tolist()


@dataclass(frozen=True)
class Asked:
    """A prediction asked for."""

    model: str
    inputs: Mapping[str, Given]
    outputs: Sequence[str] = ()
    version: str = ""
    label: str = ""
    request_id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: 200, or the name of gRPC's OK; else that of the refusal.
        outputs: by name.
        datatypes: what the door calls them, empty where it does not say.
        sentence: of a refusal.
        told: headers or trailers of a refusal.
    """

    status: int | str
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    datatypes: Mapping[str, str] = field(default_factory=dict)
    sentence: str = ""
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_given(self) -> bool:
        return self.status in {200, "OK"}


def carries(door: str, asked: Asked) -> bool:
    """Tell whether a door has a form for what is asked for."""
    datatypes = {given.datatype for given in asked.inputs.values()}
    arrays = [given.array for given in asked.inputs.values()]
    is_finite = all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays)
    if door in OF_V1:
        has_rows = len({len(array) for array in arrays}) <= 1
        return not datatypes & {"FP16", "UINT16"} and not asked.outputs and (door == V1_COLUMNS or has_rows)
    if door == V2_JSON:
        return "FP16" not in datatypes and is_finite
    if door == V2_RAW:
        return len(arrays) == 1 and not asked.outputs
    return door != GRPC_CONTENTS or "FP16" not in datatypes


@dataclass(frozen=True)
class Doors:
    """The doors of one gateway, for one caller.

    Attributes:
        http: a client of it.
        grpc: a caller of its gRPC port.
        token: the caller's, empty for none.
        datatypes: of the outputs, by model and name, for a door that does not tell them.
    """

    http: httpx.AsyncClient
    grpc: Caller
    token: str
    datatypes: Mapping[str, str]

    async def through(self, door: str, asked: Asked) -> Answer:
        """Ask at a door."""
        if door in OF_V1:
            return await self._v1(door, asked)
        if door in OF_GRPC:
            return await self._grpc(door, asked)
        return await self._v2(door, asked)

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    async def _v1(self, door: str, asked: Asked) -> Answer:
        columns = {name: given.values for name, given in asked.inputs.items()}
        if door == V1_COLUMNS:
            body: dict[str, Any] = {"inputs": columns}
        else:
            rows = zip(*columns.values(), strict=True)
            body = {"instances": [dict(zip(columns, row, strict=True)) for row in rows]}
        path = f"/v1/models/{asked.model}{_which(asked)}:predict"
        answer = await self.http.post(path, content=json.dumps(body), headers=self._headers)
        if answer.status_code != 200:
            return _refused(answer)
        key = "outputs" if door == V1_COLUMNS else "predictions"
        found = answer.json()[key]
        if len(self.datatypes) == 1:
            named = {next(iter(self.datatypes)): found}
        elif door == V1_COLUMNS:
            named = found
        else:
            named = {name: [row[name] for row in found] for name in self.datatypes}
        return Answer(200, {name: _array(value, self.datatypes[name]) for name, value in named.items()})

    async def _v2(self, door: str, asked: Asked) -> Answer:
        entries: list[dict[str, Any]] = []
        pieces: list[bytes] = []
        for name, given in asked.inputs.items():
            entry: dict[str, Any] = {"name": name, "datatype": given.datatype, "shape": given.said}
            if door == V2_JSON:
                entry["data"] = given.values
            else:
                entry["parameters"] = {"binary_data_size": len(given.raw)}
                pieces.append(given.raw)
            entries.append(entry)
        is_binary = door != V2_JSON
        body: dict[str, Any] = {"inputs": entries, "parameters": {**asked.parameters, "binary_data_output": is_binary}}
        if asked.outputs:
            body["outputs"] = [{"name": name} for name in asked.outputs]
        if asked.request_id:
            body["id"] = asked.request_id
        text = json.dumps(body).encode()
        headers = self._headers
        if door == V2_RAW:
            text = b""
            (given,) = asked.inputs.values()
            pieces = [given.array.ravel()[0]] if given.datatype == "BYTES" else pieces
        if is_binary:
            headers[LENGTH] = str(len(text))
        path = f"/v2/models/{asked.model}{_which(asked)}/infer"
        answer = await self.http.post(path, content=b"".join((text, *pieces)), headers=headers)
        return _read(answer) if answer.status_code == 200 else _refused(answer)

    async def _grpc(self, door: str, asked: Asked) -> Answer:
        version = asked.version or asked.label
        message = message_class("inference.ModelInferRequest")(
            model_name=asked.model, model_version=version, id=asked.request_id
        )
        for name, value in asked.parameters.items():
            message.parameters[name].int64_param = value
        for name, given in asked.inputs.items():
            tensor = message.inputs.add(name=name, datatype=given.datatype, shape=given.said)
            if door == GRPC_CONTENTS:
                getattr(tensor.contents, _FIELDS[given.datatype]).extend(given.array.ravel().tolist())
            else:
                message.raw_input_contents.append(given.raw)
        for name in asked.outputs:
            message.outputs.add(name=name)
        metadata = tuple(self._headers.items())
        try:
            if door != GRPC_STREAM:
                sent = message.SerializeToString()
                return _told(await self.grpc("ModelInfer", sent, metadata=metadata))
            stream = self.grpc.stream(metadata)
            await stream.write(message.SerializeToString())
            await stream.done_writing()
            (answer,) = [each async for each in stream]
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().name, sentence=error.details(), told=dict(error.trailing_metadata()))
        return Answer("", sentence=answer.error_message) if answer.error_message else _told(answer.infer_response)


def _which(asked: Asked) -> str:
    if asked.version:
        return f"/versions/{asked.version}"
    return f"/labels/{asked.label}" if asked.label else ""


def _refused(answer: httpx.Response) -> Answer:
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert told["request_id"] == answer.headers["x-request-id"]
    return Answer(answer.status_code, sentence=told["error"], told=dict(answer.headers))


def _read(answer: httpx.Response) -> Answer:
    """Read an answer of the second version, with raw bytes behind it or without."""
    n_json = int(answer.headers.get(LENGTH, len(answer.content)))
    document, raw = json.loads(answer.content[:n_json]), answer.content[n_json:]
    outputs, datatypes = {}, {}
    for output in document["outputs"]:
        name, datatype = output["name"], output["datatype"]
        datatypes[name] = datatype
        if "data" in output:
            array = _array(output["data"], datatype)
        else:
            n_bytes = output["parameters"]["binary_data_size"]
            array, raw = _from_raw(raw[:n_bytes], datatype), raw[n_bytes:]
        outputs[name] = array.reshape(output["shape"])
    assert not raw
    return Answer(200, outputs, datatypes)


def _told(message: Any) -> Answer:
    contents = zip(message.outputs, message.raw_output_contents, strict=True)
    outputs = {each.name: _from_raw(raw, each.datatype).reshape(list(each.shape)) for each, raw in contents}
    return Answer("OK", outputs, {each.name: each.datatype for each in message.outputs})


def _array(value: Any, datatype: str) -> np.ndarray:
    """Return JSON as an array, once its values are of JSON's type for the datatype."""
    dtype = Datatype(datatype).numpy
    objects = np.array(value, np.object_)
    assert {type(element) for element in objects.ravel().tolist()} <= {_KINDS[dtype.kind]}, value
    if dtype != np.object_:
        return objects.astype(dtype)
    return np.array([text.encode() for text in objects.ravel()], np.object_).reshape(objects.shape)


def _from_raw(raw: bytes, datatype: str) -> np.ndarray:
    if datatype != "BYTES":
        return np.frombuffer(raw, Datatype(datatype).numpy)
    found = []
    while raw:
        n_bytes = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + n_bytes])
        raw = raw[4 + n_bytes :]
    return np.array(found, np.object_)
