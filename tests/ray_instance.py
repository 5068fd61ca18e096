"""A Ray instance on this machine, for the tests that need one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from support import missing

try:
    import ray
except ImportError:
    missing("Ray is not installed (pip install 'taille[ray]')")

STORE = 80 << 20  # bytes; the least that Ray takes is 75 MiB


@contextlib.contextmanager
def ray_instance() -> Iterator[None]:
    """Two workers, without a dashboard."""
    for tries_left in (2, 1, 0):
        try:
            ray.init(num_cpus=2, include_dashboard=False, object_store_memory=STORE, log_to_driver=False)
            break
        except Exception:  # Ray gives its own processes seconds to start, which a busy machine does not
            ray.shutdown()
            if not tries_left:
                raise
    try:
        yield
    finally:
        ray.shutdown()
