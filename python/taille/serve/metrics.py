"""What Prometheus is told: requests, their time, refusals, and the state of every version that is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from taille.serve.model_host import ModelHost

__all__ = ["Metrics"]

BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The metrics of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, hosts: Callable[[], Iterable[ModelHost]]):
        """Count, and ask `hosts` for what is loaded whenever the metrics are read."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._seconds = Histogram(
            "taille_request_seconds", "Seconds from the first byte read to the answer, of answered requests.",
            ("protocol", "model"), buckets=BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._refused = Counter(
            "taille_refused_requests", "Requests that were not answered, by the reason.",
            ("protocol", "model", "reason"), registry=self._registry,
        )  # fmt: skip
        self._children: dict[tuple[str, str], Histogram] = {}
        self._registry.register(Loaded(hosts))

    def observe(self, protocol: str, model: str, seconds: float, refused: str) -> None:
        """Count one request: its seconds, or the reason it was refused for."""
        if refused:
            self._refused.labels(protocol, model, refused).inc()
            return
        child = self._children.get((protocol, model))
        if child is None:
            child = self._children.setdefault((protocol, model), self._seconds.labels(protocol, model))
        child.observe(seconds)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)


class Loaded(Collector):
    """Gauges of the loaded versions, read when they are asked for."""

    def __init__(self, hosts: Callable[[], Iterable[ModelHost]]):
        """Ask this for the versions."""
        self._hosts = hosts

    def collect(self) -> Iterable[Metric]:
        """The gauges and counters of all versions."""
        labels = ("model", "version")
        loaded = GaugeMetricFamily("taille_model_loaded", "1 for each version that is loaded.", labels=labels)
        under_way = GaugeMetricFamily("taille_requests_under_way", "Requests without an answer yet.", labels=labels)
        of_runner: dict[str, Metric] = {
            "queue_depth": GaugeMetricFamily("taille_queue_depth", "Requests that wait for a batch.", labels=labels),
            "batches": CounterMetricFamily("taille_batches", "Batches since the version was loaded.", labels=labels),
            "samples": CounterMetricFamily("taille_samples", "Samples in those batches.", labels=labels),
        }
        for host in self._hosts():
            pair = (host.name, str(host.version))
            loaded.add_metric(pair, 1)
            under_way.add_metric(pair, host.owed)
            stats = host.stats()
            for key, family in of_runner.items():
                family.add_metric(pair, stats[key])  # type: ignore[attr-defined] # Metric has none, its kinds do
        return (loaded, under_way, *of_runner.values())
