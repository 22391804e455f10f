"""The two ways on which spans and metrics go to an OTLP endpoint: HTTP with protobuf bodies, and gRPC.

Both carry the same bytes (`otlp`) and read the same answer, in which an endpoint may say that it took only a part. After which
refusals it may be asked again is the protocol's to say (OTLP 1.x, «failures»). Neither looks at proxies or certificates of the
environment: what is spoken to is what gateway.yaml says.
"""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import urllib3
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from gateway.audit.delivery import Answer, Endpoint, Sender
from gateway.errors import ConfigError, Place, Problem
from gateway.values import SECOND

if TYPE_CHECKING:
    import grpc

LONGEST_ANSWER: Final = 2**16
LONGEST_TOLD: Final = 200
RETRY_INFO: Final = "google.rpc.retryinfo-bin"
LATER: Final = frozenset({429, 502, 503, 504})
LATER_CODES: Final = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
Framed = Callable[[Sequence[bytes]], bytes]


class Signal(NamedTuple):
    """What is sent. key: where gateway.yaml says so; path: of a URL that has none; export: the method of gRPC."""

    key: str
    path: str
    export: str


TRACES: Final = Signal("audit.otlp", "/v1/traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export")
METRICS: Final = Signal("metrics.otlp", "/v1/metrics", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")


def sender_of(endpoint: Endpoint, signal: Signal, framed: Framed) -> Sender:
    """The way to an endpoint; framed: makes one request of what is sent. Raises ConfigError where a package is missing."""
    return (GrpcSender if endpoint.url.startswith("grpc") else HttpSender)(endpoint, signal, framed)


class HttpSender:
    """OTLP/HTTP. A URL without a path means the usual one."""

    def __init__(self, endpoint: Endpoint, signal: Signal, framed: Framed) -> None:
        parts = urlsplit(endpoint.url)
        self.where = endpoint.url if parts.path.strip("/") else endpoint.url.rstrip("/") + signal.path
        self._framed, self._gzip = framed, endpoint.gzip
        self._timeout = urllib3.Timeout(total=endpoint.timeout / SECOND)
        coding = {"content-encoding": "gzip"} if endpoint.gzip else {}
        self._headers = {"user-agent": "sluicegate", **endpoint.headers, "content-type": "application/x-protobuf", **coding}
        believed = str(endpoint.ca_file) if endpoint.ca_file is not None else None  # None: the system's
        self._pool = urllib3.PoolManager(1, maxsize=1, ca_certs=believed)

    def send(self, spans: Sequence[bytes]) -> Answer:
        body = self._framed(spans)
        try:
            found = self._pool.request(
                "POST", self.where, body=gzip.compress(body, 1) if self._gzip else body, headers=self._headers,
                timeout=self._timeout, retries=False, redirect=False, preload_content=False,
            )  # fmt: skip
            said = found.read(LONGEST_ANSWER)
        except urllib3.exceptions.HTTPError as error:
            return Answer(False, f"{self.where} does not answer: {type(error).__name__}", later=True)
        found.drain_conn()
        found.release_conn()
        if found.status == 200:
            return _taken(said, self.where)
        problem = f"{self.where} answers {found.status}"
        return Answer(False, problem, later=found.status in LATER, after=_seconds(found.headers.get("retry-after")))

    def close(self) -> None:
        self._pool.clear()


class GrpcSender:
    """OTLP/gRPC."""

    def __init__(self, endpoint: Endpoint, signal: Signal, framed: Framed) -> None:
        try:
            import grpc  # an extra: large, and only needed here
        except ModuleNotFoundError:
            problem = Problem(Place(signal.key), "needs the grpcio package", "install sluicegate[grpc], or use http://…:4318")
            raise ConfigError([problem]) from None
        target = urlsplit(endpoint.url).netloc
        compression = grpc.Compression.Gzip if endpoint.gzip else grpc.Compression.NoCompression
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", LONGEST_ANSWER)]
        if endpoint.url.startswith("grpcs"):
            roots = endpoint.ca_file.read_bytes() if endpoint.ca_file is not None else None
            self._channel: grpc.Channel = grpc.secure_channel(
                target, grpc.ssl_channel_credentials(roots), options=options, compression=compression
            )
        else:
            self._channel = grpc.insecure_channel(target, options=options, compression=compression)
        self.where = endpoint.url
        self._refused: type[Exception] = grpc.RpcError
        self._framed, self._timeout = framed, endpoint.timeout / SECOND
        self._metadata = [(name.lower(), value) for name, value in endpoint.headers.items()]
        self._export: Any = self._channel.unary_unary(signal.export)

    def send(self, spans: Sequence[bytes]) -> Answer:
        try:
            said = self._export(self._framed(spans), timeout=self._timeout, metadata=self._metadata)
        except self._refused as error:
            code, trailers = error.code().name, dict(error.trailing_metadata() or ())  # type: ignore[attr-defined]
            later = code in LATER_CODES or (code == "RESOURCE_EXHAUSTED" and RETRY_INFO in trailers)
            return Answer(False, f"{self.where} answers {code}", later)
        return _taken(said, self.where)

    def close(self) -> None:
        self._channel.close()


def _taken(said: bytes, where: str) -> Answer:
    """What an endpoint says that took a request: of it, maybe not all. Of metrics it is told by the same fields."""
    with contextlib.suppress(DecodeError):  # whatever it is, the request was taken
        partial = ExportTraceServiceResponse.FromString(said).partial_success
        if partial.rejected_spans > 0:
            return Answer(
                True, f"{where} took only a part: {partial.error_message[:LONGEST_TOLD]}", rejected=partial.rejected_spans
            )
    return Answer(True)


def _seconds(said: str | None) -> float:
    """Of a `Retry-After`, the form in seconds; 0 for another or none."""
    return float(said) if said is not None and said.isdecimal() and len(said) < 6 else 0.0
