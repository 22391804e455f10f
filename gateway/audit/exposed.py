"""Where metrics go: a Prometheus endpoint on a listener of its own, and OTLP, both from the one table in `metrics`.

Neither is on by default. The endpoint answers every path of its listener in Prometheus' text formats, in a thread; it has no
authentication, so it belongs on loopback or an inner network. OTLP is sent every few seconds from a thread of its own; what the
endpoint does not take is counted (`sluice.metrics.exports`) and lost: the next one tells the same counts, being sums.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from gateway.audit.delivery import Answer
from gateway.audit.delivery import Endpoint as To
from gateway.audit.metrics import INSTRUMENTS, Instrument, Kind, Source, Value
from gateway.errors import ConfigError, Place, Problem
from gateway.incidents import report
from gateway.tally import Histogram
from gateway.values import SECOND

SCOPE: Final = "sluicegate"
_SUFFIXES: Final = {"s": "_seconds", "By": "_bytes", "1": "", "{token}": ""}


def prometheus_name(row: Instrument) -> str:
    """The name of a metric in Prometheus' text, without the `_total` that it writes itself."""
    return row.name.replace(".", "_") + _SUFFIXES.get(row.unit, "")


class Scraped:
    """The table as a collector of `prometheus_client`. source: what the rows read, as it is now."""

    def __init__(self, source: Callable[[], Source]) -> None:
        self._source = source

    def collect(self) -> Iterator[Any]:
        source = self._source()
        for row in INSTRUMENTS:
            yield _family(row, row.read(source))


def _family(row: Instrument, points: Iterable[tuple[tuple[str, ...], Value]]) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    families = {Kind.COUNTER: CounterMetricFamily, Kind.GAUGE: GaugeMetricFamily, Kind.HISTOGRAM: HistogramMetricFamily}
    family: Any = families[row.kind](prometheus_name(row), row.meaning, labels=[name.replace(".", "_") for name in row.labels])
    for labels, value in points:
        if isinstance(value, Histogram):
            family.add_metric(list(labels), _buckets(value), value.total)
        else:
            family.add_metric(list(labels), value)
    return family


def _buckets(found: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts, as Prometheus has them."""
    total, told = 0, list[tuple[str, float]]()
    for bound, count in zip([*map(str, found.bounds), "+Inf"], list(found.counts), strict=True):
        total += count
        told.append((bound, total))
    return told


class Endpoint:
    """A listener that answers Prometheus. Raises ConfigError where it cannot listen there."""

    def __init__(self, host: str, port: int, source: Callable[[], Source]) -> None:
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry(auto_describe=False)
        registry.register(Scraped(source))
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            mend = "name a free address, such as 127.0.0.1:9464"
            problem = Problem(Place("metrics.listen"), f"cannot listen on {host}:{port}: {error.strerror}", mend)
            raise ConfigError([problem]) from None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Exporter:
    """Sends the table to an OTLP endpoint every so many seconds. resource: attributes besides `service.name`."""

    def __init__(
        self, endpoint: To, every: float, source: Callable[[], Source], resource: dict[str, str] | None = None
    ) -> None:
        from opentelemetry.sdk.resources import Resource

        from gateway.audit.senders import METRICS, sender_of

        self._resource = Resource.create({"service.name": SCOPE, **(resource or {})})
        self._sender = sender_of(endpoint, METRICS, b"".join)
        self._source, self._every, self._ends = source, every, endpoint.timeout / SECOND + 1
        self._began = time.time_ns()
        self.counts = {"delivered": 0, "lost": 0}
        self._problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluice-metrics", daemon=True)
        self._thread.start()

    def send(self) -> None:
        """Send everything as it is now."""
        from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

        try:
            told = encode_metrics(otlp(self._source(), self._began, self._resource)).SerializeToString()
            answer = self._sender.send([told])
        except Exception as error:  # third-party code on a thread of its own: a loss is counted, and the next one is tried
            answer = Answer(False, type(error).__name__)
            report("metrics.lost", "metrics could not be sent", error=error)
        if answer.problem and answer.problem != self._problem:
            report("metrics.lost", answer.problem)
        self._problem = answer.problem
        self.counts["delivered" if answer.taken else "lost"] += 1

    def close(self) -> None:
        """Send once more, and end."""
        self._stop.set()
        self._thread.join(2 * self._ends)
        self._sender.close()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.send()
        self.send()


def otlp(source: Source, began: int, resource: Any) -> Any:
    """The table as OTLP's data model. began: when counting began, in nanoseconds since 1970."""
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    now = time.time_ns()
    metrics = [_metric(row, list(row.read(source)), began, now) for row in INSTRUMENTS]
    scope = ScopeMetrics(InstrumentationScope(SCOPE), [one for one in metrics if one is not None], "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(row: Instrument, points: list[tuple[tuple[str, ...], Value]], began: int, now: int) -> Any:
    from opentelemetry.sdk.metrics import export as sdk

    if not points:
        return None
    told: list[Any] = []
    for labels, value in points:
        attributes = dict(zip(row.labels, labels, strict=True))
        if isinstance(value, Histogram):
            counts = list(value.counts)
            least, most = value.least, value.most
            told.append(
                sdk.HistogramDataPoint(attributes, began, now, sum(counts), value.total, counts, value.bounds, least, most)
            )
        else:
            told.append(sdk.NumberDataPoint(attributes, began, now, value))
    cumulative = sdk.AggregationTemporality.CUMULATIVE
    if row.kind is Kind.HISTOGRAM:
        return sdk.Metric(row.name, row.meaning, row.unit, sdk.Histogram(told, cumulative))
    data = sdk.Gauge(told) if row.kind is Kind.GAUGE else sdk.Sum(told, cumulative, True)
    return sdk.Metric(row.name, row.meaning, row.unit, data)
