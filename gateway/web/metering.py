"""A process's metrics: what the table reads of it, and the endpoint and exporter that its settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.audit.exposed import Endpoint, Exporter
from gateway.audit.metrics import Source
from gateway.values import SECOND

if TYPE_CHECKING:
    from gateway.web.app import Process


class Metering:
    """Tells metrics where the settings say. With several workers, worker n listens n - 1 ports further, and sends its number.

    Raises ConfigError where the endpoint cannot listen.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        settings, number = process.assembly.config.metrics, process.seat.number if process.seat is not None else 1
        self._exporter: Exporter | None = None
        self._endpoint: Endpoint | None = None
        if settings.listen is not None:
            host, port = settings.listen
            self._endpoint = Endpoint(host, port + number - 1, self.source)
        if settings.otlp:
            instance = {"service.instance.id": str(number)} if process.seat is not None else {}
            self._exporter = Exporter(settings.otlp, settings.every / SECOND, self.source, instance)

    def source(self) -> Source:
        """What the table reads, as it is now."""
        process = self._process
        gate, counts = process.gate, self._exporter.counts if self._exporter is not None else {}
        trips = getattr(gate.state, "latency", None)  # state in memory makes no trips
        return Source(process.assembly.counted, gate.dependencies, process.health(), gate.judged, trips, counts)

    def close(self) -> None:
        """End both, having sent what there is to send. Blocks for some seconds at most."""
        if self._endpoint is not None:
            self._endpoint.close()
        if self._exporter is not None:
            self._exporter.close()
