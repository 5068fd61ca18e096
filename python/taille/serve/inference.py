"""An inference request, whatever protocol it came by: parameters, requested outputs, computing, counting."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from taille.arrays import Array
from taille.serve.metrics import Metrics
from taille.serve.model_host import ModelHost
from taille.serve.refusals import Internal, Invalid, Refusal, hint, shown
from taille.serve.repository import Repository
from taille.serve.settings import Settings

__all__ = ["Answer", "Inference", "Request", "refusal_of"]

log = logging.getLogger(__name__)

MICROSECONDS = 1e-6
# Of other servers' extensions: to compute without them would be a wrong answer in silence.
UNSUPPORTED = {
    "sequence_id", "sequence_start", "sequence_end", "classification", "shared_memory_region",
    "shared_memory_byte_size", "shared_memory_offset",
}  # fmt: skip


@dataclass(slots=True)
class Request:
    """What is asked for.

    Attributes:
        model, version: the version is empty where the client leaves it to the server.
        id: the client's.   inputs: by name.   parameters: of the request.
        outputs: the names that are wanted, in order; None: all.   seconds: that the client waits; None: not said.
    """

    model: str
    version: str
    id: str
    inputs: dict[str, Array]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: list[str] | None = None
    seconds: float | None = None


@dataclass(slots=True)
class Answer:
    """Outputs by name, in the order that was asked for, and the version that computed them."""

    host: ModelHost
    outputs: list[tuple[str, Array]]


class Inference:
    """Answers requests; on the event loop."""

    def __init__(self, repository: Repository, settings: Settings, metrics: Metrics):
        """Answer from these models, within these limits."""
        self.repository = repository
        self.settings = settings
        self.metrics = metrics

    async def answer(self, request: Request) -> Answer:
        """Compute.

        Raises:
            Refusal: of any kind.
        """
        host = self.repository.find(request.model, request.version)
        wanted = self._wanted(host, request.outputs)
        check_parameters(request.parameters, "the request")
        deadline = self._deadline(request)
        most = self.settings.request_timeout
        try:
            arrays = await host.compute(
                request.inputs, deadline=deadline, give_up=most if deadline is None else min(deadline, most),
                priority=priority(request.parameters), request_id=request.id,
            )  # fmt: skip
        except Refusal:
            raise
        except Exception:
            log.exception("model %s version %d failed", host.name, host.version)
            raise Internal(f"model '{host.name}' failed; the server's log says why") from None
        return Answer(host, [(name, arrays[i]) for name, i in wanted])

    def _wanted(self, host: ModelHost, outputs: list[str] | None) -> list[tuple[str, int]]:
        if outputs is None:
            return list(host.output_positions.items())
        wanted = []
        for name in outputs:
            position = host.output_positions.get(name)
            if position is None:
                raise Invalid(
                    f"model '{host.name}' has no output {shown(name)}; {hint(name, host.output_positions)}there are "
                    f"{', '.join(host.output_positions)}"
                )
            wanted.append((name, position))
        if len({name for name, _ in wanted}) < len(wanted):
            raise Invalid("the same output is asked for twice")
        return wanted

    def _deadline(self, request: Request) -> float | None:
        """Seconds that the client waits: as its protocol says, and as the parameter `timeout` (microseconds) does."""
        timeout = request.parameters.get("timeout")
        if not timeout and type(timeout) in (int, NoneType):  # 0: as long as the server allows
            return request.seconds
        if type(timeout) is not int or timeout < 0:
            raise Invalid(f"the parameter timeout is {shown(timeout)}; wanted whole microseconds of at least 0")
        seconds = timeout * MICROSECONDS
        return seconds if request.seconds is None else min(seconds, request.seconds)

    def observe(self, protocol: str, model: str, started: float, refusal: Refusal | None) -> None:
        """Count a request.

        Args:
            protocol: "http" or "grpc".
            model: the name that was asked for; what is not served is counted without a name.
            started: when it was received, by `time.perf_counter`.
            refusal: None where it was answered.
        """
        known = model if self.repository.serves(model) else ""
        self.metrics.observe(protocol, known, time.perf_counter() - started, refusal.reason if refusal else "")


def check_parameters(parameters: Mapping[str, Any], of: str) -> None:
    """Refuse parameters of extensions that this server has not."""
    wrong = UNSUPPORTED.intersection(parameters)
    if wrong:
        raise Invalid(f"{of} has the parameter {min(wrong)}, an extension that this server does not have")


def priority(parameters: Mapping[str, Any]) -> int:
    """How urgent a request is: the protocol's 1 is the most urgent and 0 says nothing; here higher goes first."""
    value = parameters.get("priority", 0)
    if type(value) is not int or not 0 <= value < 2**31:
        raise Invalid(f"the parameter priority is {shown(value)}; wanted a whole number of at least 0")
    return -value


def refusal_of(error: BaseException) -> Refusal:
    """What the client is told of an error: a refusal as it is, anything else without its text."""
    if isinstance(error, Refusal):
        return error
    log.error("a request failed", exc_info=error)
    return Internal("the server failed; its log says why")
