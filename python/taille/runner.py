"""Requests from any thread, put together into batches: `Runner`. Needs no torch."""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import os
import weakref
from collections.abc import Generator
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any

from taille.compiled import CompiledModel, load
from taille.config import InferenceConfig, resolve
from taille.models import BaseMLModel, check_model
from taille.runner_choice import RunnerChoice, stored_choice

if TYPE_CHECKING:
    from taille import _native

__all__ = ["Runner", "RunnerFuture"]

log = logging.getLogger(__name__)


class RunnerFuture(Future[Any]):
    """The answer to one request, as `concurrent.futures.Future`; it can be awaited too.

    Attributes:
        request_id: the name of the request: what `submit` was given, else one that no other request of the runner has.
    """

    def __init__(self, runner: Runner, request_id: str | None):
        """For `Runner.submit` alone."""
        super().__init__()
        self._batcher = runner._batcher
        self._model = runner.model
        self._runner_name = runner.name
        self._request_id = request_id
        self._tensors = False
        self._number = 0

    @property
    def request_id(self) -> str:
        """The name of the request."""
        return f"{self._runner_name}-{self._number}" if self._request_id is None else self._request_id

    def result(self, timeout: float | None = None) -> Any:
        """What `CompiledModel.predict` gives for these inputs alone.

        A thread that waits here runs the batch itself where no other has begun to, which saves waking one.

        Args:
            timeout: seconds to wait at most; None: however long it takes. A batch that this thread runs is finished.

        Raises:
            ValueError: what `predict` raises for these inputs, such as an id outside an embedding.
            taille.DeadlineError: its deadline could no longer be met when its turn came.
            TimeoutError: it was not done within `timeout`.
            concurrent.futures.CancelledError: it was cancelled.
            taille.ClosedError: the process was forked after `submit`, so the answer comes in the parent only.
        """
        self._help()
        return self._model.arrange(super().result(timeout), self._tensors)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise, or None."""
        self._help()
        return super().exception(timeout)

    def _help(self) -> None:
        while not self.done() and self._batcher.help(self._number):
            pass

    def cancel(self) -> bool:
        """Take the request out of the queue; False where its batch has begun or it is done."""
        return self.cancelled() if self.done() else self._batcher.cancel(self._number)

    def running(self) -> bool:
        """Whether its batch has begun and it is not done."""
        return not self.done() and not self._batcher.waits(self._number) and not self.done()

    def set_cancelled(self) -> None:
        """For the batcher alone: the request has left the queue."""
        super().cancel()
        self.set_running_or_notify_cancel()  # tells concurrent.futures.wait

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self).__await__()


# Those that may have threads when the interpreter ends: a thread must not want its lock then.
_batchers: weakref.WeakSet[_native.Batcher] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for batcher in list(_batchers):
        if not batcher.closed:  # as it is in a child of fork(), which has no threads to end
            batcher.close(0.0)


class Runner:
    """Answers requests that come one by one, from any number of threads, by running them together.

    Requests whose inputs agree in all dimensions but the first form a batch; nothing is padded, and every request gets
    what `predict` gives for it alone, to the bit. Models that fix the first dimension, or mix samples along it, run one
    request at a time; `why` says so.

    A request that comes alone runs at once. Otherwise a batch closes when it is full, when its oldest request has
    waited `timeout`, when waiting longer threatens a deadline, and when another request is not expected soon enough to
    be worth the wait, which is learned from how often requests come and what batches cost.

    A response cache of the model (`taille.setup_caching`) is not asked: every request is computed.

    The runner is closed at the end of a `with` block, or by `close`. It is pickled by the path of its model. A child of
    `os.fork` must make its own: every call there raises `taille.ClosedError`.

    What is not given is what `taille.InferenceOptimizer` found best for this model on this CPU, where the artefact
    holds that (`choice`); else the batch settings of the TOML file, the environment (`TAILLE_BATCH_SIZE`) or
    `INFERENCE_CONFIG`, and threads as said below.

    Args:
        model: what `load` or `compile_model` gave. Its packed weights are shared, and it can be used beside the runner.
        streams: how many batches run at the same time; None: as many as the granted threads allow, or 1 where `threads`
            is None too.
        threads: how many threads one batch uses; None: those of the model, or what is left for each of `streams`. More
            than the model has means that its weights are packed once more. Streams and threads go together: where one
            is given, or the model was loaded with `threads`, neither is that of the artefact.
        max_batch: samples in a batch at most. A request with more of them runs by itself.
        timeout: seconds that a request waits for others at most while a stream is free.
        max_latency: seconds from `submit` to the answer that batches aim at for requests without a deadline.
        queue_size: how many requests may wait.

    Attributes:
        max_batch, timeout, max_latency, streams: what is in force.
        choice: what the artefact holds for this CPU, or None.

    Raises:
        TypeError: `model` is not compiled.
        ValueError: an argument is out of its range, or a setting of the TOML file or the environment is none.
    """

    def __init__(
        self,
        model: BaseMLModel,
        *,
        streams: int | None = None,
        threads: int | None = None,
        max_batch: int | None = None,
        timeout: float | None = None,
        max_latency: float | None = None,
        queue_size: int = 1024,
    ):
        """Start the workers, which sleep until there is work."""
        from taille import _native

        compiled = check_model(model, "taille.Runner")
        if not isinstance(compiled, CompiledModel):
            raise TypeError(f"{type(model).__name__} cannot serve; wanted a CompiledModel: taille.compile_model(model)")
        counts = {"streams": streams, "threads": threads, "max_batch": max_batch, "queue_size": queue_size}
        for name, count in counts.items():
            if count is not None:
                _check_count(name, count)
        for name, seconds in {"timeout": timeout, "max_latency": max_latency}.items():
            if seconds is not None:
                _check_seconds(name, seconds, least=0.0)
        self._options = {**counts, "timeout": timeout, "max_latency": max_latency}
        self.model = compiled
        self.name = os.urandom(6).hex()
        self.choice = stored_choice(compiled)
        if self.choice is not None and streams is None and threads is None and not compiled.fixed_threads:
            streams, threads = self.choice.streams, self.choice.threads
        self.streams, wanted = _share_out(streams, threads, compiled.threads)
        batch = resolve(InferenceConfig).batch
        chosen = self.choice or RunnerChoice(self.streams, wanted, batch.size, batch.timeout, batch.max_latency)
        self.max_batch = chosen.max_batch if max_batch is None else max_batch
        self.timeout = chosen.timeout if timeout is None else timeout
        self.max_latency = chosen.max_latency if max_latency is None else max_latency
        native = compiled.native if wanted <= compiled.threads else _native.Model(compiled.graph, wanted)
        most = min(self.max_batch, compiled.most_samples or self.max_batch)
        self._batcher = _native.Batcher(native, self.streams, wanted, most, self.timeout, self.max_latency, queue_size)
        _batchers.add(self._batcher)
        log.debug("%r: %s", self, "as stored for this CPU" if self.choice else "nothing is stored for this CPU")
        if self.why:
            log.info("requests of %r run one by one: %s", compiled, self.why)

    def submit(
        self,
        inputs: Any,
        *,
        deadline: float | None = None,
        priority: int = 0,
        request_id: str | None = None,
    ) -> RunnerFuture:
        """Queue a request. Safe from any thread; does not wait.

        Args:
            inputs: as for `CompiledModel.predict`. They must not change before the future is done.
            deadline: seconds from now in which the answer is needed; None: `max_latency` is aimed at, and the request
                is answered however late.
            priority: of requests that wait at the same moment, higher ones go first. So that none waits for ever,
                those that have waited longer than `max_latency` go first for up to an eighth of the time.
            request_id: a name for the request; None: a new one.

        Raises:
            TypeError, ValueError: the inputs do not fit the model, or an argument is out of its range.
            taille.QueueFullError: `queue_size` requests are waiting.
            taille.DeadlineError: from what waits, runs and was learned of the cost, it would come too late.
            taille.ClosedError: `drain` or `close` was called, or this process was forked off the runner's.
        """
        if deadline is not None:
            _check_seconds("deadline", deadline)
        if type(priority) is not int or not -(2**31) <= priority < 2**31:
            raise TypeError(f"priority is {priority!r}; wanted an int of 32 bits")
        if request_id is not None and not isinstance(request_id, str):
            raise TypeError(f"request_id is {type(request_id).__name__}; wanted a str or None")
        future = RunnerFuture(self, request_id)
        number = self._batcher.submit_again(inputs, future, deadline, priority)
        if number is None:
            arrays, future._tensors = self.model.bind(inputs)
            number = self._batcher.submit(arrays, future, deadline, priority)
        future._number = number
        return future

    def predict(self, inputs: Any, *, deadline: float | None = None, priority: int = 0) -> Any:
        """`submit` and wait for the result."""
        return self.submit(inputs, deadline=deadline, priority=priority).result()

    def stats(self) -> dict[str, Any]:
        """Counts since the runner was made; once drained, submitted = completed + failed + cancelled + expired.

        `submitted`: accepted; `completed`; `failed`: the model raised; `cancelled`; `expired`: accepted, and given up
        when the deadline could no longer be met; `refused_full`, `refused_deadline`: not accepted. `batches`, `samples`
        (in batches) and `batch_sizes` (samples -> batches); `queue_depth` and `queue_peak` (requests that wait now, and
        waited at most); `in_flight` (accepted and not done). `latency_p50`, `_p90`, `_p99`, `_mean`: seconds from
        `submit` until the answer was there, off by 6 % at most, 0 before the first; `latencies`: their histogram, as
        (upper bound in seconds, count).
        """
        return self._batcher.stats()

    @property
    def threads(self) -> int:
        """How many threads one batch uses."""
        return self._batcher.threads

    @property
    def why(self) -> str:
        """Why requests run one by one; empty where they are put together."""
        return self._batcher.why

    @property
    def closed(self) -> bool:
        """Whether new requests are refused."""
        return self._batcher.closed

    def drain(self, timeout: float | None = None) -> bool:
        """Refuse new requests from now on, and wait until all others are answered; False after `timeout` seconds."""
        if timeout is not None:
            _check_seconds("timeout", timeout, least=0.0)
        return self._batcher.drain(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Drain, for `timeout` seconds at most; then cancel what still waits, and end the threads.

        `timeout=0` cancels at once; what runs is finished in any case. May be called again.
        """
        if timeout is not None:
            _check_seconds("timeout", timeout, least=0.0)
        self._batcher.close(timeout)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.model.path is None:
            raise TypeError("a runner is pickled by the path of its model, and this model has none: save it first")
        threads = self.model.threads if self.model.fixed_threads else None
        return _restore, (str(self.model.path), threads, self._options)

    def __repr__(self) -> str:
        batches = f"batches of {self.max_batch}, {1e3 * self.timeout:g} ms"
        return f"<Runner of {self.model!r}: {self.streams} x {self.threads} threads, {batches}>"


def _restore(path: str, threads: int | None, options: dict[str, Any]) -> Runner:
    return Runner(load(path, threads=threads), **options)


def _share_out(streams: int | None, threads: int | None, of_model: int) -> tuple[int, int]:
    """Streams and threads of each, where one or both are not given."""
    from taille import _native

    granted = _native.granted_threads()[0]
    if streams is None:
        streams = 1 if threads is None else max(1, granted // threads)
    elif threads is None:
        threads = of_model if streams == 1 else max(1, granted // streams)
    threads = of_model if threads is None else threads
    if streams * threads > max(granted, of_model):
        log.warning("%d streams of %d threads are more than the %d threads granted", streams, threads, granted)
    return streams, threads


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {type(value).__name__}; wanted an int")
    if value < 1:
        raise ValueError(f"{name} is {value}; wanted at least 1")


def _check_seconds(name: str, value: Any, least: float | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {type(value).__name__}; wanted a number of seconds")
    if not math.isfinite(value) or (value <= 0 if least is None else value < least):
        raise ValueError(f"{name} is {value}; wanted a number of seconds {'above 0' if least is None else 'from 0 on'}")
