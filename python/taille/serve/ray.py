"""An artefact on many machines: a Ray Serve application whose replicas answer the Open Inference Protocol over HTTP.

    from ray import serve
    from taille.serve import Settings
    from taille.serve.ray import deployment

    handle = serve.run(deployment("model.safetensors", settings=Settings(max_batch=32), num_replicas=4))
    handle.predict.remote(x).result()       # or: await handle.predict.remote(x)
    # curl localhost:8000/v2/models/model/infer -d '{"inputs": [...]}', as of `taille serve`

Ray routes requests to replicas; each loads the artefact and batches what comes to it with `taille.Runner`. Needs the
extra `[ray-serve]`, and no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from taille.serve.settings import Settings
from taille.serve.sources import Source, read_source

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["Replica", "deployment"]


class Replica:
    """What each process of the application runs; made by `deployment` alone."""

    async def __init__(self, source: Source, settings: Settings):  # type: ignore[misc]
        """Load the artefact; Ray Serve awaits this.

        Raises:
            ValueError: it cannot be read.
        """
        from taille.serve.http_app import HttpApp
        from taille.serve.inference import Inference
        from taille.serve.metrics import Metrics
        from taille.serve.repository import Repository

        self._repository = Repository([source], settings)
        await self._repository.start()
        self._host = self._repository.find(source.name)
        self._app = HttpApp(Inference(self._repository, settings, Metrics(self._repository.hosts)))

    async def predict(self, inputs: Any, *, deadline: float | None = None, priority: int = 0) -> Any:
        """What `CompiledModel.predict` gives, computed in a batch with other requests.

        Args:
            inputs: as for `CompiledModel.predict`.
            deadline: seconds from its arrival at the replica in which the answer is needed.
            priority: of requests that wait in the same replica, higher ones go first.

        Raises:
            What `Runner.submit` and its future raise; Ray wraps it in an error that is of that class too.
        """
        return await self._host.predict(inputs, deadline=deadline, priority=priority)

    async def stats(self) -> dict[str, Any]:
        """Counts of the replica that is asked: see `taille.Runner.stats`."""
        return self._host.stats()

    async def __call__(self, request: Request) -> Response:
        """Answer HTTP as `taille serve` does: inference, metadata, health and `/metrics` (of one replica)."""
        from starlette.responses import Response

        body = await request.body()
        path, prefix = request.scope["path"], request.scope.get("root_path", "").rstrip("/")
        inner = {**request.scope, "path": path.removeprefix(prefix), "root_path": ""}
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(inner, receive, send)
        response = Response(b"".join(part.get("body", b"") for part in sent[1:]), sent[0]["status"])
        response.raw_headers = [(name.lower(), value) for name, value in sent[0]["headers"]]
        return response

    def __del__(self) -> None:
        """End the threads; Ray Serve calls this once the replica's requests are answered."""
        host = getattr(self, "_host", None)  # not there where loading failed
        if host is not None:
            host.close()


def deployment(path: str | Path, *, settings: Settings | None = None, **options: Any) -> Application:
    """A Ray Serve application of one artefact, for `ray.serve.run` or a Serve configuration file.

    Args:
        path: the artefact, as `taille serve` takes it: a file, or "NAME:VERSION=FILE". The file has to be there on this
            machine and, by the same path, on those of the replicas.
        settings: limits of each replica: `max_batch`, `batch_timeout`, `queue_size`, `request_timeout`, `max_body`,
            `threads` (None: as many as the `num_cpus` of its `ray_actor_options`). Addresses and the token are not
            used: Ray Serve listens, and load and unload are refused.
        options: of `ray.serve.deployment`: `num_replicas`, `autoscaling_config`, `ray_actor_options`, ... By default
            its name is that of the model, and `max_ongoing_requests` is `queue_size`, so that batches can form.

    Raises:
        ImportError: Ray Serve is not installed.   FileNotFoundError: there is no such file.
        ValueError: a repository, or a name or version of another form.
    """
    try:
        from ray import serve
    except ImportError:
        raise ImportError("taille.serve.ray needs Ray Serve: pip install 'taille[ray-serve]'") from None
    settings = Settings() if settings is None else settings
    if not isinstance(settings, Settings):
        raise TypeError(f"settings is {type(settings).__name__}; wanted a taille.serve.Settings")
    source = read_source(path)
    if not source.name:
        raise ValueError(f"path is {path}, a repository; wanted one artefact: an application serves one model")
    source = Source(source.path.absolute(), source.name, source.version)
    if settings.token is not None:
        settings = Settings(**{**vars(settings), "token": None})
    chosen = {"name": source.name, "max_ongoing_requests": settings.queue_size, **options}
    return serve.deployment(**chosen)(Replica).bind(source, settings)
