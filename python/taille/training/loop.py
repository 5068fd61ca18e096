"""What a training loop must put back, and what it must not be interrupted in."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["interrupts_wait", "mode_of", "moments", "restore"]


@contextmanager
def mode_of(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Train mode for fine-tuning; eval mode for distillation: no dropout, running statistics stay. Then as before."""
    before = {m: m.training for m in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for part, mode in before.items():
            part.training = mode


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """An interrupt from the keyboard takes effect at the end of the block; a second one at once.

    A step that is cut in its midst leaves running statistics and weights that belong to no step, from which training
    could not go on to the same result. Python gives such interrupts to the main thread alone.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[Any] = []

    def wait(number: int, frame: Any) -> None:
        came.append(frame)
        if len(came) > 1:
            handler(number, frame)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if len(came) == 1:
            handler(signal.SIGINT, came[0])


def moments(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> dict[str, torch.Tensor]:
    """The optimiser's state as flat tensors."""
    found = {}
    for i, parameter in enumerate(parameters):
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"{i}.{key}"] = value
    return found


def restore(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], tensors: dict[str, torch.Tensor]) -> None:
    """Undo `moments`."""
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        optimizer.state[parameters[int(index)]][key] = value
