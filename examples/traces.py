"""See traces without a collector: receives OTLP over HTTP and prints each trace as a tree. `python examples/traces.py 4318`

Then in gateway.yaml: `audit: {otlp: "http://127.0.0.1:4318"}`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

KINDS = {1: "internal", 2: "server", 3: "client"}


def plain(value: Any) -> str:
    kind = value.WhichOneof("value")
    return ", ".join(map(plain, value.array_value.values)) if kind == "array_value" else str(getattr(value, kind))


def told(branch: Tree, attributes: Any) -> None:
    for pair in attributes:
        branch.add(f"[dim]{escape(pair.key)}[/] {escape(plain(pair.value))}")


def trees(request: ExportTraceServiceRequest) -> list[Tree]:
    """The spans of a request below those that they belong to."""
    spans = [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
    below, known = defaultdict(list), {span.span_id for span in spans}
    for span in spans:
        below[span.parent_span_id if span.parent_span_id in known else b""].append(span)

    def grown(span: Any) -> Tree:
        took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        tree = Tree(f"[bold]{escape(span.name)}[/] {KINDS.get(span.kind, '')} {took:.2f} ms")
        told(tree, span.attributes)
        for event in span.events:
            told(tree.add(f"[yellow]{escape(event.name)}[/]"), event.attributes)
        for child in below[span.span_id]:
            tree.add(grown(child))
        return tree

    return [grown(span) for span in below[b""]]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        for tree in trees(ExportTraceServiceRequest.FromString(body)):
            Console(soft_wrap=True).print(tree)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        """Nothing but traces is printed."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
