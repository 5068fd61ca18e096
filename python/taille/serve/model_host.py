"""One version of a model that is loaded: it computes, and knows how many requests it still owes an answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from taille.arrays import Array
from taille.compiled import CompiledModel, load
from taille.config import InferenceConfig, resolve
from taille.errors import ClosedError, DeadlineError, QueueFullError
from taille.runner import Runner
from taille.serve.refusals import Invalid, Late, Overloaded
from taille.serve.settings import Settings

__all__ = ["ModelHost", "fingerprint"]


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
        self.output_positions = {s.name: i for i, s in enumerate(self.model.output_spec)}
        self.owed = 0
        self._batched = [s.name for s in self.model.input_spec if s.shape and isinstance(s.shape[0], str)]
        self._structure = self.model.graph.output_structure
        self._runner = Runner(
            self.model, max_batch=settings.max_batch, timeout=settings.batch_timeout, queue_size=settings.queue_size
        )
        self._most = settings.max_batch or max(self._runner.max_batch, resolve(InferenceConfig).batch.size)
        self._idle = asyncio.Event()

    async def compute(
        self, inputs: dict[str, Array], *, deadline: float | None, give_up: float, priority: int, request_id: str
    ) -> list[Array]:
        """The model's outputs, in its order.

        Args:
            inputs: by name.
            deadline: seconds in which the client wants the answer, which batches are made for; None: it did not say.
            give_up: seconds until the answer is not waited for.
            priority: higher goes first.
            request_id: the client's name of the request, or nothing.

        Raises:
            Invalid: the inputs do not fit the model.   Overloaded: the queue is full.   Late: no answer came in time.
        """
        if give_up <= 0:
            raise Late("the time for this request is over")
        self._check_samples(inputs)
        try:
            future = self._runner.submit(inputs, deadline=deadline, priority=priority, request_id=request_id or None)
        except (TypeError, ValueError) as error:
            raise Invalid(f"model '{self.name}': {error}") from None
        except DeadlineError as error:
            raise Late(str(error)) from None
        except (QueueFullError, ClosedError) as error:
            raise Overloaded(f"model '{self.name}': {error}; try again later") from None
        self.owed += 1
        try:
            return self._in_order(await within(future, give_up))
        except DeadlineError as error:
            raise Late(str(error)) from None
        except ValueError as error:  # such as an id outside an embedding
            raise Invalid(f"model '{self.name}': {error}") from None
        finally:
            self.owed -= 1
            if not self.owed:
                self._idle.set()

    async def predict(self, inputs: Any, *, deadline: float | None, priority: int) -> Any:
        """What `CompiledModel.predict` gives, of a caller in this process; errors are those of the runner."""
        return await self._runner.submit(inputs, deadline=deadline, priority=priority)

    def _check_samples(self, inputs: dict[str, Array]) -> None:
        for name in self._batched:
            array = inputs.get(name)
            if array is not None and array.ndim and len(array) > self._most:
                raise Invalid(
                    f"input '{name}' has {len(array)} samples; this server takes at most {self._most} in one request"
                )

    def stats(self) -> dict[str, Any]:
        """Counts of the runner: see `taille.Runner.stats`."""
        return self._runner.stats()

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
        self._runner.close(0)


async def within(future: Future[Any], seconds: float) -> Any:
    """What a future of another thread gives, or Late; cheaper than `wrap_future` with `wait_for`, and one timer."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[Any] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if waiter.done():
            return
        if error is not None:
            waiter.set_exception(error)
        elif future.cancelled():
            waiter.set_exception(Overloaded("the model is being unloaded"))
        elif (raised := future.exception()) is not None:
            waiter.set_exception(raised)
        else:
            waiter.set_result(future.result())

    future.add_done_callback(lambda _: loop.call_soon_threadsafe(settle, None))
    timer = loop.call_later(seconds, settle, Late(f"no answer within {seconds:g} s"))
    try:
        return await waiter
    finally:
        timer.cancel()
        if not future.done():
            future.cancel()


def fingerprint(path: Path) -> tuple[int, int, int]:
    """What differs when a file was written anew."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
