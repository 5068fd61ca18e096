"""What the server answers over HTTP: the routes of the Open Inference Protocol, the repository's, and /metrics."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from taille.serve.bearer import check_token
from taille.serve.http_body import (
    Bodies,
    Disconnected,
    Receive,
    Scope,
    Send,
    error_body,
    header,
    send_refusal,
    send_whole,
)
from taille.serve.http_infer import HEADER_LENGTH, encode, parse
from taille.serve.inference import Inference, refusal_of
from taille.serve.refusals import Invalid, Refusal, shown
from taille.serve.repository import command_version
from taille.serve.server_metadata import model_metadata, server_metadata

__all__ = ["HttpApp"]

INFER = "/infer"
MODELS = "/v2/models/"
MOST_COMMAND = 65536  # bytes of the body of load, unload and index

Endpoint = Callable[[HttpRequest], Awaitable[Response]]


class HttpApp:
    """The ASGI application. Infer requests go straight to their handler, the others through starlette's routes."""

    def __init__(self, inference: Inference):
        """Answer with this."""
        self._inference = inference
        self._repository = inference.repository
        self._bodies = Bodies(inference.settings.body_bytes)
        self._commands = Bodies(MOST_COMMAND)
        self._routes = Starlette(routes=self._all_routes(), exception_handlers={HTTPException: not_routed})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope["path"]
        try:
            if scope["method"] == "POST" and path.startswith(MODELS) and path.endswith(INFER):
                await self._infer(path, scope, receive, send)
            else:
                await self._routes(scope, receive, send)
        except Disconnected:
            pass

    async def _infer(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        model, version = split_path(path)
        refusal: Refusal | None = None
        length = 0
        try:
            body = await self._bodies.read(scope, receive)
            length = len(body)
            request, wishes = parse(model, version, body, header(scope, HEADER_LENGTH))
            answer = await self._inference.answer(request)
            headers, content = encode(answer, request, wishes)
        except Disconnected:
            raise
        except Exception as error:
            refusal = refusal_of(error)
        finally:
            self._bodies.release(length)
        self._inference.observe("http", model, started, refusal)
        if refusal is None:
            await send_whole(send, 200, headers, content)
        else:
            await send_refusal(receive, send, refusal)

    def _all_routes(self) -> list[Route]:
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        table: list[tuple[str, str, Endpoint]] = [
            ("GET", "/v2", self._server),
            ("GET", "/v2/health/live", self._live),
            ("GET", "/v2/health/ready", self._ready),
            ("GET", model, self._model),
            ("GET", version, self._model),
            ("GET", model + "/ready", self._model_ready),
            ("GET", version + "/ready", self._model_ready),
            ("POST", "/v2/repository/index", self._index),
            ("POST", "/v2/repository/models/{model}/load", self._load),
            ("POST", "/v2/repository/models/{model}/unload", self._unload),
            ("GET", "/metrics", self._metrics),
        ]
        return [Route(path, refusing(endpoint), methods=[method]) for method, path, endpoint in table]

    async def _server(self, _: HttpRequest) -> Response:
        return json_response(server_metadata())

    async def _live(self, _: HttpRequest) -> Response:
        return json_response({"live": True})

    async def _ready(self, _: HttpRequest) -> Response:
        ready = self._repository.ready and not self._repository.ending
        return json_response({"ready": ready}, 200 if ready else 503)

    async def _model(self, request: HttpRequest) -> Response:
        host = self._repository.find(*named(request))
        return json_response(model_metadata(host, self._repository))

    async def _model_ready(self, request: HttpRequest) -> Response:
        host = self._repository.find(*named(request))
        return json_response({"name": host.name, "ready": True})

    async def _index(self, request: HttpRequest) -> Response:
        ready = (await self._command(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise Invalid(f"'ready' is {shown(ready)}; wanted true or false")
        return json_response(await self._repository.index(ready=ready))

    async def _load(self, request: HttpRequest) -> Response:
        self._check_token(request)
        await self._repository.load(named(request)[0], wanted_version(await self._command(request)))
        return json_response({})

    async def _unload(self, request: HttpRequest) -> Response:
        self._check_token(request)
        await self._repository.unload(named(request)[0], wanted_version(await self._command(request)))
        return json_response({})

    async def _metrics(self, _: HttpRequest) -> Response:
        metrics = self._inference.metrics
        return Response(metrics.text(), headers={"content-type": metrics.content_type})

    def _check_token(self, request: HttpRequest) -> None:
        check_token(self._inference.settings.token, header(request.scope, b"authorization") or b"")

    async def _command(self, request: HttpRequest) -> dict[str, Any]:
        body = await self._commands.read(request.scope, request.receive)
        self._commands.release(len(body))
        try:
            message = orjson.loads(body) if body else {}
        except ValueError as error:
            raise Invalid(f"the body is not JSON: {error}") from None
        if not isinstance(message, dict):
            raise Invalid("the body is not a JSON object")
        return message


def split_path(path: str) -> tuple[str, str]:
    """The model and the version (or nothing) of an infer request's path."""
    name = path[len(MODELS) : -len(INFER)]
    model, between, version = name.partition("/versions/")
    return (model, version) if between and version else (name, "")


def named(request: HttpRequest) -> tuple[str, str]:
    """The model and the version (or nothing) of a path."""
    return request.path_params["model"], request.path_params.get("version", "")


def wanted_version(message: dict[str, Any]) -> str:
    """The version that load or unload is about; nothing: all of them."""
    parameters = message.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Invalid("the parameters are not an object")
    return command_version(parameters)


def json_response(value: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def refusing(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with its errors told as the protocol does."""

    async def answer(request: HttpRequest) -> Response:
        try:
            return await endpoint(request)
        except Disconnected:
            raise
        except Exception as error:
            refusal = refusal_of(error)
            headers = {"www-authenticate": "Bearer"} if refusal.status == 401 else {}
            if refusal.unread:
                headers["connection"] = "close"
            return Response(error_body(refusal.message), refusal.status, headers, media_type="application/json")

    return answer


async def not_routed(request: HttpRequest, error: Exception) -> Response:
    """No such path, or not that method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    allowed = dict(getattr(error, "headers", None) or {})
    text = f"{request.method} {shown(request.url.path)} is not of the protocol"
    return Response(error_body(text), status, allowed, media_type="application/json")
