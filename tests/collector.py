"""Real OTLP endpoints of traces and metrics on loopback, over HTTP and over gRPC, built on the protocol's own messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

CODES = {400: grpc.StatusCode.INVALID_ARGUMENT, 503: grpc.StatusCode.UNAVAILABLE, 401: grpc.StatusCode.UNAUTHENTICATED}

TRACES, METRICS = ExportTraceServiceRequest, ExportMetricsServiceRequest
SERVICES = {
    TRACES: "opentelemetry.proto.collector.trace.v1.TraceService",
    METRICS: "opentelemetry.proto.collector.metrics.v1.MetricsService",
}


class Collector:
    """Receives spans. `status` other than 200 refuses them, `refusals` of that so many times only; `rejected` are not taken of
    each request; while `stalled`, nobody is answered. headers: those of each request; sizes: bytes of each, as sent."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.sizes: list[int] = []
        self.status, self.refusals, self.rejected, self.retry_after = 200, 1_000_000, 0, ""
        self.stalled = threading.Event()
        self.let_go = threading.Event()
        self.url = ""

    def spans(self) -> list[Any]:
        return [span for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for span in ss.spans]

    def raw(self) -> bytes:
        return b"".join(request.SerializeToString() for request in self.requests)

    def asked(self) -> int:
        """The status of the next answer."""
        if self.stalled.is_set():
            self.let_go.wait()
        if self.status != 200 and self.refusals:
            self.refusals -= 1
            return self.status
        return 200

    def taken(self) -> ExportTraceServiceResponse:
        answer = ExportTraceServiceResponse()
        if self.rejected:
            answer.partial_success.rejected_spans = self.rejected
            answer.partial_success.error_message = "too old"
        return answer


@contextmanager
def collector(kind: Any = TRACES) -> Iterator[Collector]:
    """An HTTP collector that listens while the block runs. kind: the message it receives."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            found.headers.append({name.lower(): value for name, value in self.headers.items()})
            found.sizes.append(len(data))
            if self.headers.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            status = found.asked()
            if status == 200:
                found.requests.append(kind.FromString(data))
            body = found.taken().SerializeToString()
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            if found.retry_after:
                self.send_header("retry-after", found.retry_after)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            pass  # a client that gave up on us

    server = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}{'/v1/traces' if kind is TRACES else '/v1/metrics'}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield found
    finally:
        found.let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_collector(chain: tuple[Path, Path] | None = None, kind: Any = TRACES) -> Iterator[Collector]:
    """A gRPC collector. chain: files of key and certificate, where it speaks TLS. kind: as of `collector`."""
    found = Collector()

    def export(request: Any, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        found.headers.append({name: str(value) for name, value in context.invocation_metadata()})
        status = found.asked()
        if status != 200:
            context.abort(CODES[status], "refused")
        found.requests.append(request)
        return found.taken()

    server = grpc.server(ThreadPoolExecutor(4))
    called = grpc.unary_unary_rpc_method_handler(export, kind.FromString, ExportTraceServiceResponse.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICES[kind], {"Export": called}),))
    if chain is not None:
        key, certificate = (file.read_bytes() for file in chain)
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
        found.url = f"grpcs://localhost:{port}"
    else:
        found.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield found
    finally:
        found.let_go.set()
        server.stop(None).wait()


def attributes(span: Any) -> dict[str, Any]:
    """A span's or event's attributes as plain values."""
    found = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found
