"""Serving artefacts over the Open Inference Protocol, version 2: HTTP and gRPC in one process, without torch.

`server` runs both on one event loop; `http_app` and `http_infer` answer HTTP, `http_protocol` guards it against slow
clients; `grpc_service` answers gRPC with the messages of `messages`; `inference` is what both share; `repository` holds
the versions of the models, and `model_host` computes. Needs the extra `[serve]`.
"""

from taille.serve.settings import Settings
from taille.serve.sources import Source, find_sources

__all__ = ["Settings", "Source", "find_sources"]
