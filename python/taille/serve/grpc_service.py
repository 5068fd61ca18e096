"""The protocol's gRPC service, on the same event loop as HTTP."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import numpy as np

from taille.arrays import Array
from taille.serve.bearer import check_token
from taille.serve.inference import Inference, Request, check_parameters, refusal_of
from taille.serve.messages import PACKAGE, message
from taille.serve.refusals import Invalid, NotFound, Refusal, shown
from taille.serve.repository import command_version
from taille.serve.server_metadata import model_metadata, server_metadata
from taille.serve.tensors import PROTOCOL_NAMES, checked, from_bytes, to_bytes

__all__ = ["start_grpc"]

SERVICE = f"{PACKAGE}.GRPCInferenceService"
OVERHEAD = 65536  # bytes of a message beside its tensors
# The field that holds each datatype's numbers; FP16 has none.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip

Context = Any  # grpc.aio.ServicerContext
Method = Callable[[Any, Context], Awaitable[Any]]


async def start_grpc(inference: Inference, host: str, port: int) -> tuple[Any, int]:
    """Start the server; gives it and the port that it listens on.

    Raises:
        OSError: the address cannot be listened on.
    """
    settings = inference.settings
    milliseconds = int(settings.read_timeout * 1000)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.body_bytes + OVERHEAD),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error, as with HTTP
            ("grpc.keepalive_time_ms", milliseconds),  # finds clients that are gone
            ("grpc.keepalive_timeout_ms", milliseconds),
            ("grpc.max_connection_idle_ms", 10 * milliseconds),
        ],
        maximum_concurrent_rpcs=settings.max_connections,
    )
    server.add_generic_rpc_handlers((GrpcService(inference).handler(),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"gRPC cannot listen on {address}: {error}") from None
    await server.start()
    return server, bound


class GrpcService:
    """The methods of the service."""

    def __init__(self, inference: Inference):
        """Answer with this."""
        self._inference = inference
        self._repository = inference.repository

    def handler(self) -> Any:
        """The methods as gRPC takes them."""
        methods: dict[str, Method] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server,
            "ModelMetadata": self._model,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                refusing(method), message(f"{name}Request").FromString, message(f"{name}Response").SerializeToString
            )
            for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def _live(self, _request: Any, _context: Context) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _ready(self, _request: Any, _context: Context) -> Any:
        return message("ServerReadyResponse")(ready=self._repository.ready and not self._repository.ending)

    async def _model_ready(self, request: Any, _context: Context) -> Any:
        try:
            self._repository.find(request.name, request.version)
        except NotFound:
            return message("ModelReadyResponse")(ready=False)
        return message("ModelReadyResponse")(ready=True)

    async def _server(self, _request: Any, _context: Context) -> Any:
        return message("ServerMetadataResponse")(**server_metadata())

    async def _model(self, request: Any, _context: Context) -> Any:
        host = self._repository.find(request.name, request.version)
        return message("ModelMetadataResponse")(**model_metadata(host, self._repository))

    async def _infer(self, wire: Any, context: Context) -> Any:
        started = time.perf_counter()
        try:
            request = read_request(wire, context.time_remaining())
            answer = await self._inference.answer(request)
            response = RESPONSE(model_name=answer.host.name, model_version=str(answer.host.version), id=request.id)
            for name, array in answer.outputs:
                datatype = PROTOCOL_NAMES[str(array.dtype)]
                response.outputs.add(name=name, datatype=datatype, shape=array.shape)
                response.raw_output_contents.append(bytes(to_bytes(array)))
        except Exception as error:
            refusal = refusal_of(error)
            self._inference.observe("grpc", wire.model_name, started, refusal)
            raise refusal from None
        self._inference.observe("grpc", wire.model_name, started, None)
        return response

    async def _index(self, request: Any, _context: Context) -> Any:
        models = await self._repository.index(ready=request.ready)
        return message("RepositoryIndexResponse")(models=models)

    async def _load(self, request: Any, context: Context) -> Any:
        self._check_token(context)
        await self._repository.load(request.model_name, command_version(values(request.parameters)))
        return message("RepositoryModelLoadResponse")()

    async def _unload(self, request: Any, context: Context) -> Any:
        self._check_token(context)
        await self._repository.unload(request.model_name, command_version(values(request.parameters)))
        return message("RepositoryModelUnloadResponse")()

    def _check_token(self, context: Context) -> None:
        given = next((value for key, value in context.invocation_metadata() if key == "authorization"), "")
        check_token(self._inference.settings.token, given if isinstance(given, bytes) else given.encode())


RESPONSE = message("ModelInferResponse")


def refusing(method: Method) -> Method:
    """The method, with its errors told as gRPC's status."""

    async def answer(request: Any, context: Context) -> Any:
        try:
            return await method(request, context)
        except Exception as error:
            refusal: Refusal = refusal_of(error)
        return await context.abort(grpc.StatusCode[refusal.code], refusal.message)

    return answer


def values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name, as Python's values."""
    return {
        name: getattr(value, choice) if (choice := value.WhichOneof("parameter_choice")) else None
        for name, value in parameters.items()
    }


def read_request(wire: Any, seconds: float | None) -> Request:
    """What a message asks for.

    Args:
        wire: a ModelInferRequest.
        seconds: that its client waits; None: not said.

    Raises:
        Invalid: it is malformed.
    """
    raw = wire.raw_input_contents
    if raw and len(raw) != len(wire.inputs):
        raise Invalid(f"raw_input_contents has {len(raw)} tensors for {len(wire.inputs)} inputs")
    inputs: dict[str, Array] = {}
    for position, tensor in enumerate(wire.inputs):
        if tensor.name in inputs:
            raise Invalid(f"input {shown(tensor.name)} is there twice")
        if tensor.parameters:
            check_parameters(values(tensor.parameters), f"input {shown(tensor.name)}")
        if not raw:
            inputs[tensor.name] = from_contents(tensor)
        elif tensor.HasField("contents"):
            raise Invalid(f"input {shown(tensor.name)} has contents, and the request has raw_input_contents")
        else:
            inputs[tensor.name] = from_bytes(tensor.name, tensor.datatype, list(tensor.shape), raw[position])
    for output in wire.outputs:
        if output.parameters:
            check_parameters(values(output.parameters), f"output {shown(output.name)}")
    names = [output.name for output in wire.outputs] or None
    parameters = values(wire.parameters) if wire.parameters else {}
    return Request(wire.model_name, wire.model_version, wire.id, inputs, parameters, names, seconds)


def from_contents(tensor: Any) -> Array:
    """The array of numbers in the field of their type."""
    shape = list(tensor.shape)
    dtype, count = checked(tensor.name, tensor.datatype, shape)
    field = CONTENTS.get(tensor.datatype)
    if field is None:
        raise Invalid(f"input {shown(tensor.name)}: {tensor.datatype} has no contents; send it in raw_input_contents")
    if any(other.name != field for other, _ in tensor.contents.ListFields()):
        raise Invalid(f"input {shown(tensor.name)} is {tensor.datatype}, which goes into {field} alone")
    numbers = getattr(tensor.contents, field)
    if len(numbers) != count:
        raise Invalid(f"input {shown(tensor.name)} has {len(numbers)} elements; shape {shape} takes {count}")
    try:
        array: Array = np.array(numbers, dtype).reshape(shape)
    except OverflowError:
        raise Invalid(f"input {shown(tensor.name)} has numbers out of the range of {tensor.datatype}") from None
    return array
