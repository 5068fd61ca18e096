"""One version of a model that is loaded: it computes, and knows how many requests it still owes an answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from taille.arrays import Array, Limits, check_arrays, name_inputs
from taille.compiled import CompiledModel, load
from taille.serve.refusals import Invalid, Late, Overloaded, Refusal
from taille.serve.settings import Settings

__all__ = ["ModelHost"]


class ModelHost:
    """A loaded version. Everything but loading and `close` happens on the server's event loop, so nothing is locked.

    Attributes:
        name, version: of the model.   model: what computes.   fingerprint: of the file it was read from.
        output_positions: of each output by name.   owed: requests that have no answer yet.
    """

    def __init__(self, name: str, version: int, path: Path, settings: Settings):
        """Read the artefact.

        Raises:
            taille.ArtefactError, OSError: it cannot be read.
        """
        self.name = name
        self.version = version
        self.fingerprint = fingerprint(path)
        self.model: CompiledModel = load(path, threads=settings.threads)
        self.owed = 0
        self._settings = settings
        self._limits: Limits = self.model.metadata.get("limits") or {}
        self._batched = [s.name for s in self.model.input_spec if s.shape and isinstance(s.shape[0], str)]
        self.output_positions = {s.name: i for i, s in enumerate(self.model.output_spec)}
        self._structure = self.model.graph.output_structure
        self._pool = ThreadPoolExecutor(2, f"taille-{name}")
        self._idle = asyncio.Event()

    async def compute(self, inputs: dict[str, Array], *, seconds: float, priority: int, request_id: str) -> list[Array]:
        """The model's outputs, in its order.

        Args:
            inputs: by name.
            seconds: until the answer is of no use.
            priority: higher goes first.
            request_id: the client's name of the request.

        Raises:
            Invalid: the inputs do not fit the model.   Overloaded: the queue is full.   Late: no answer came in time.
        """
        self.check(inputs)
        if self.owed >= self._settings.queue_size:
            raise Overloaded(f"{self.owed} requests wait for model '{self.name}'; try again later")
        self.owed += 1
        try:
            return self._in_order(await within(self._pool.submit(self.model.predict, inputs), seconds))
        except (TypeError, ValueError) as error:
            raise Invalid(str(error)) from None
        finally:
            self.owed -= 1
            if not self.owed:
                self._idle.set()

    def check(self, inputs: dict[str, Array]) -> None:
        """Raise Invalid unless these inputs fit the model and the largest batch."""
        try:
            named = name_inputs(inputs, [s.name for s in self.model.input_spec])
            check_arrays(named, self.model.input_spec, self._limits)
        except (TypeError, ValueError) as error:
            raise Invalid(f"model '{self.name}': {error}") from None
        for name in self._batched:
            if len(inputs[name]) > self._settings.max_batch:
                raise Invalid(
                    f"input '{name}' has {len(inputs[name])} samples; this server takes at most "
                    f"{self._settings.max_batch} in one request"
                )

    def _in_order(self, outputs: Any) -> list[Array]:
        if self._structure == "dict":
            return [outputs[name] for name in self.output_positions]
        return list(outputs) if self._structure == "tuple" else [outputs]

    async def drained(self, seconds: float) -> bool:
        """Wait until no request is owed an answer; whether that came in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.owed:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), max(end - loop.time(), 0.001))
            except asyncio.TimeoutError:
                return False
        return True

    def close(self) -> None:
        """Let go of the model; blocks until what is being computed is done."""
        self._pool.shutdown(wait=True, cancel_futures=True)


async def within(future: Future[Any], seconds: float) -> Any:
    """What a future of another thread gives, or Late; cheaper than `wrap_future` and `wait_for`, and one timer."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[Any] = loop.create_future()

    def settle(outcome: BaseException | None, value: Any) -> None:
        if waiter.done():
            return
        if outcome is None:
            waiter.set_result(value)
        else:
            waiter.set_exception(outcome)

    def done(finished: Future[Any]) -> None:
        if finished.cancelled():
            return
        error = finished.exception()
        loop.call_soon_threadsafe(settle, error, None if error else finished.result())

    future.add_done_callback(done)
    late: Refusal = Late(f"no answer within {seconds:g} s")
    timer = loop.call_later(seconds, settle, late, None)
    try:
        return await waiter
    finally:
        timer.cancel()
        future.cancel()  # nothing where it is done


def fingerprint(path: Path) -> tuple[int, int, int]:
    """What differs when a file was written anew."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
