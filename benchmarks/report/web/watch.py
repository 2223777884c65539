"""The command `watch`: the report's page over HTTP on the loopback address, for the time that a suite runs.

    python -m benchmarks watch demo --port 8765

The server reads only: it answers GET and HEAD of two paths, and only to requests whose Host is a name of the loopback
address, so that no site can reach it under a name of its own (DNS rebinding). Imports no torch.
"""

from __future__ import annotations

import errno
import json
import re
import signal
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from benchmarks.report.web.live import Pages
from pretrain.common.errors import InputError

if TYPE_CHECKING:
    from benchmarks.arguments import WatchArguments

ADDRESS = "127.0.0.1"
HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)  # ssh may forward another port to ours
IDLE = 10.0  # seconds after which a silent connection is closed
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",  # beside the page's own, which cannot say this
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def watch(arguments: WatchArguments) -> int:
    """Serve the page until Ctrl-C; 0. InputError for a port that cannot be had."""
    with server_of(Pages(arguments.runs, pictures=not arguments.without_images), arguments.port) as server:
        print(f"http://{ADDRESS}:{server.server_port}/", flush=True)
        print("follows the records; Ctrl-C ends it", file=sys.stderr)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt as stopped:
            if getattr(stopped, "status", 128 + signal.SIGINT) != 128 + signal.SIGINT:
                raise
            print("\nended", file=sys.stderr)
    return 0


def server_of(pages: Pages, port: int) -> ThreadingHTTPServer:
    """A server of ``pages`` that listens on the loopback address; port 0 is any free one. InputError."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: give 1 to 65535, or 0 for any free one")
    try:
        return Server(pages, port)
    except OSError as error:
        reason = "it is taken" if error.errno == errno.EADDRINUSE else str(error.strerror).lower()
        raise InputError(f"--port {port}: {reason}: give another one, or 0 for any free one") from None


class Server(ThreadingHTTPServer):
    """A thread per connection; they end with the process."""

    daemon_threads = True

    def __init__(self, pages: Pages, port: int) -> None:
        self.pages = pages
        super().__init__((ADDRESS, port), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing for a browser that has gone away; else a traceback, as it is a fault of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """``/``, the page, and ``/version``, JSON of the page's version and of an error if there is no newer one."""

    server: Server
    timeout = IDLE
    server_version, sys_version = "watch", ""

    def parse_request(self) -> bool:
        """Whether the request may be answered; else the refusal is sent."""
        if not super().parse_request():
            return False
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not HOST.fullmatch(hosts[0].strip()):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"this server answers to localhost only\n")
            return False
        if self.command not in ("GET", "HEAD"):
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, b"this server reads only\n", Allow="GET, HEAD")
            return False
        return True

    def do_GET(self) -> None:
        """Answer with the page, its version, or 404."""
        pages = self.server.pages
        if self.path == "/":
            made = pages.newest()
            tag = f'"{made.version}"'
            if self.headers.get("If-None-Match") == tag:
                self._send(HTTPStatus.NOT_MODIFIED, b"", ETag=tag)
            else:
                self._send(HTTPStatus.OK, made.text, "text/html", ETag=tag)
        elif self.path == "/version":
            made = pages.newest()
            answer = {"version": made.version, "error": "" if made.waits else pages.error}
            self._send(HTTPStatus.OK, json.dumps(answer).encode(), "application/json")
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is only the page, at /\n")

    do_HEAD = do_GET

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **headers}.items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a browser asks every two seconds."""
