"""The infer request over HTTP: JSON with numbers in it, or JSON followed by the tensors' bytes, both ways.

This is the hot path, so it is plain ASGI, and bytes of the body become arrays without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from taille.arrays import Array
from taille.serve.inference import Answer, Request, check_parameters
from taille.serve.refusals import Invalid, shown
from taille.serve.tensors import PROTOCOL_NAMES, from_bytes, from_numbers, to_bytes

__all__ = ["HEADER_LENGTH", "Wishes", "encode", "parse"]

HEADER_LENGTH = b"inference-header-content-length"
OPTIONS = orjson.OPT_SERIALIZE_NUMPY
JSON = (b"content-type", b"application/json")
BYTES = (b"content-type", b"application/octet-stream")

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Wishes:
    """How outputs are to be encoded: as bytes by default or not, and those that were asked for by name."""

    as_bytes: bool
    by_name: dict[str, bool]


def parse(model: str, version: str, body: bytes, json_length: bytes | None) -> tuple[Request, Wishes]:
    """Read a request.

    Args:
        model: of the path.
        version: of the path, or nothing.
        body: all of it.
        json_length: the header `Inference-Header-Content-Length`: bytes of JSON, after which tensors follow.

    Raises:
        Invalid: it is malformed; the message says where.
    """
    rest = memoryview(body)
    if json_length is not None:
        length = int(json_length) if json_length.isdigit() and len(json_length) < 20 else -1
        if not 0 <= length <= len(body):
            raise Invalid(
                f"Inference-Header-Content-Length is {shown(json_length.decode('latin-1'))}; the body has {len(body)} "
                f"bytes"
            )
        body, rest = body[:length], rest[length:]
    else:
        rest = rest[len(body) :]
    try:
        message = orjson.loads(body)
    except ValueError as error:
        raise Invalid(f"the body is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise Invalid("the body is not a JSON object")
    inputs = read_inputs(listed(message, "inputs"), rest)
    parameters = parameters_of(message, "the request")
    identifier = message.get("id", "")
    if not isinstance(identifier, str):
        raise Invalid("the id is not a string")
    names, wishes = read_outputs(message, bool(parameters.get("binary_data_output", False)))
    return Request(model, version, identifier, inputs, parameters, names), wishes


def listed(message: dict[str, Any], key: str) -> list[Any]:
    """A list of objects with names, of the request."""
    values = message.get(key)
    if not isinstance(values, list) or not all(
        isinstance(value, dict) and isinstance(value.get("name"), str) for value in values
    ):
        raise Invalid(f"'{key}' has to be a list of objects, each with a 'name'")
    return values


def parameters_of(message: Mapping[str, Any], of: str) -> Mapping[str, Any]:
    """The parameters of a request, an input or an output."""
    parameters = message.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise Invalid(f"the parameters of {of} are not an object")
    return parameters


def read_inputs(values: list[Any], rest: memoryview) -> dict[str, Array]:
    """The arrays by name; those that come as bytes take theirs from `rest`, in order."""
    arrays: dict[str, Array] = {}
    for value in values:
        name = value["name"]
        if name in arrays:
            raise Invalid(f"input {shown(name)} is there twice")
        parameters = parameters_of(value, f"input {shown(name)}")
        size = parameters.get("binary_data_size")
        datatype, shape = value.get("datatype"), value.get("shape")
        if size is None:
            check_parameters(parameters, f"input {shown(name)}")
            arrays[name] = from_numbers(name, datatype, shape, value.get("data"))
            continue
        if "data" in value:
            raise Invalid(f"input {shown(name)} has both data and binary_data_size")
        if type(size) is not int or not 0 <= size <= len(rest):
            raise Invalid(
                f"input {shown(name)} has binary_data_size {shown(size)}; {len(rest)} bytes are left of the body"
            )
        if not isinstance(shape, list):
            raise Invalid(f"input {shown(name)} has no list as its shape")
        arrays[name] = from_bytes(name, datatype, shape, rest[:size])
        rest = rest[size:]
    if len(rest):
        raise Invalid(f"{len(rest)} bytes follow the last tensor")
    return arrays


def read_outputs(message: dict[str, Any], as_bytes: bool) -> tuple[list[str] | None, Wishes]:
    """The names of the outputs that are wanted (None: all), and how each is to be encoded."""
    if not message.get("outputs"):  # absent and empty say the same
        return None, Wishes(as_bytes, {})
    names, by_name = [], {}
    for value in listed(message, "outputs"):
        name = value["name"]
        parameters = parameters_of(value, f"output {shown(name)}")
        check_parameters(parameters, f"output {shown(name)}")
        names.append(name)
        by_name[name] = bool(parameters.get("binary_data", as_bytes))
    return names, Wishes(as_bytes, by_name)


def encode(answer: Answer, request: Request, wishes: Wishes) -> tuple[Headers, bytes]:
    """The headers and the body of an answer."""
    outputs: list[dict[str, Any]] = []
    tail: list[bytes | memoryview] = []
    for name, array in answer.outputs:
        output: dict[str, Any] = {"name": name, "datatype": PROTOCOL_NAMES[str(array.dtype)], "shape": array.shape}
        if wishes.by_name.get(name, wishes.as_bytes):
            data = to_bytes(array)
            output["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            output["data"] = array.reshape(-1)
        outputs.append(output)
    message: dict[str, Any] = {"model_name": answer.host.name, "model_version": str(answer.host.version)}
    if request.id:
        message["id"] = request.id
    message["outputs"] = outputs
    body = orjson.dumps(message, option=OPTIONS)
    if not tail:
        return [JSON, (b"content-length", b"%d" % len(body))], body
    length = b"%d" % len(body)
    body = b"".join((body, *tail))
    return [BYTES, (HEADER_LENGTH, length), (b"content-length", b"%d" % len(body))], body
