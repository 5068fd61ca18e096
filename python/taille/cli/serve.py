"""`taille serve`: artefacts over HTTP and gRPC."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taille.cli.output import clear_errors, err, fail, out, print_json, require

if TYPE_CHECKING:
    from taille.serve.repository import Repository
    from taille.serve.settings import Settings

__all__ = ["serve"]

MODULES = ("starlette", "uvicorn", "httptools", "orjson", "grpc", "prometheus_client")


def serve(
    artefacts: Annotated[
        list[str],
        typer.Argument(help="FILE, NAME=FILE, NAME:VERSION=FILE, or a folder of NAME/VERSION/FILE.safetensors."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine reach 0.0.0.0.")] = (
        "127.0.0.1"
    ),
    http_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="0: any that is free; -1: no gRPC.")] = 8001,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that load and unload want; else TAILLE_SERVE_TOKEN; else read-only."),
    ] = None,
    max_body: Annotated[str, typer.Option(help="Most bytes of one request.")] = "64MiB",
    max_batch: Annotated[
        int | None,
        typer.Option(help="Most samples of one request, and of a batch; default: of `taille tune`, else batch.size."),
    ] = None,
    batch_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that a batch waits for more; default: of `taille tune`, else batch.timeout."),
    ] = None,
    queue_size: Annotated[int, typer.Option(help="Requests that wait for one version of a model.")] = 1024,
    max_connections: Annotated[int, typer.Option(help="Connections at once.")] = 1024,
    request_timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = 30.0,
    read_timeout: Annotated[float, typer.Option(help="Seconds that a client may take to send one.")] = 30.0,
    drain_timeout: Annotated[float, typer.Option(help="Seconds for requests under way when it ends.")] = 30.0,
    threads: Annotated[
        int | None, typer.Option(help="Of one computation; default: of `taille tune`, else all that are granted.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object when it is ready.")] = False,
) -> None:
    """Serve artefacts over the Open Inference Protocol (HTTP and gRPC) until SIGTERM; needs no torch."""
    require("serve", *MODULES)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("taille").setLevel(logging.INFO)
    with clear_errors():
        from taille.serve.bearer import read_token
        from taille.serve.server import serve as run
        from taille.serve.settings import Settings
        from taille.serve.sources import find_sources

        settings = Settings(
            host=host, http_port=http_port, grpc_port=None if grpc_port == -1 else grpc_port,
            token=read_token(token_file), max_body=max_body, max_batch=max_batch, batch_timeout=batch_timeout,
            queue_size=queue_size, max_connections=max_connections, request_timeout=request_timeout,
            read_timeout=read_timeout, drain_timeout=drain_timeout, threads=threads,
        )  # fmt: skip
        drained = run(find_sources(artefacts), settings, lambda at, models: announce(at, models, settings, as_json))
    if not drained:
        raise fail(f"requests were given up: they had no answer {drain_timeout:g} s after the server was asked to end")


def announce(addresses: dict[str, tuple[str, int]], repository: Repository, settings: Settings, as_json: bool) -> None:
    """Say where it is served, and what."""
    models: dict[str, list[str]] = {}
    for model in repository.hosts():
        models.setdefault(model.name, []).append(str(model.version))
    facts: dict[str, Any] = {"models": models, "writable": settings.token is not None}
    for protocol, (address, port) in addresses.items():
        facts[protocol] = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    if as_json:
        print_json(facts)
        return
    for name, versions in models.items():
        out.print(f"{name}, version {', '.join(versions)}", markup=False)
    out.print(f"HTTP  http://{facts['http']}/v2 and /metrics", markup=False)
    if "grpc" in facts:
        out.print(f"gRPC  {facts['grpc']}", markup=False)
    err.print("ends with SIGTERM or Ctrl+C, when every request under way has its answer", markup=False)
