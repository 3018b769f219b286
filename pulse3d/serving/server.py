"""The server of the page: for browsers on this machine alone, and only for pages of its own.

It listens on 127.0.0.1; `handler` answers requests, `jobs` maps what they bring.
"""

from __future__ import annotations

import html
import secrets
import socketserver
import sys
from http.server import ThreadingHTTPServer
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from typing import Any

from pulse3d.errors import InputError
from pulse3d.network.weights_file import Weights
from pulse3d.result import LIMITS_BPM
from pulse3d.serving.handler import RESULTS, Handler, Site
from pulse3d.serving.jobs import Jobs
from pulse3d.showing import scales

HOST = "127.0.0.1"


class Server(ThreadingHTTPServer):
    """Serves the page and maps what it sends; `serve_forever` runs it, `shutdown` and `close` end it.

    port: 0 for any that is free. max_mb: of an upload. folder, out: as in `jobs.Jobs`. Raises InputError for
    a port that is taken.
    """

    daemon_threads = True

    def __init__(self, port: int, weights: Weights, folder: Path, *, max_mb: int, out: Path | None = None):
        self.token = secrets.token_urlsafe(16)
        self.max_mb = max_mb
        try:
            super().__init__((HOST, port), self._handle)
        except OSError as error:
            raise InputError(
                f"--port={port}: cannot be used ({error.strerror}); give another, or 0 for any that is free"
            ) from None
        self.hosts = [f"{name}:{self.server_address[1]}" for name in (HOST, "localhost")]
        self.jobs = Jobs(weights, folder, out=out)

    def _handle(self, *request: Any) -> Handler:
        return Handler(Site(self.jobs, self.token, self.hosts, self.max_mb, self.page), *request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that leaves."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def server_bind(self) -> None:
        """Binds without asking for the name of the host, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def close(self) -> bool:
        """Ends all work, after `shutdown`, and returns whether it ended."""
        self.server_close()
        return self.jobs.turns.close()

    def page(self) -> str:
        """The page as HTML."""
        text = (resources("pulse3d.serving") / "page" / "serve.html").read_text(encoding="utf-8")
        low, high = LIMITS_BPM
        return Template(text).substitute(
            max_mb=self.max_mb,
            results=" ".join(RESULTS),
            interval=f"{100 * self.jobs.weights.config.readout.interval:.0f} % interval",
            kept=f"Results are kept in {html.escape(str(self.jobs.out))}."
            if self.jobs.out
            else "Results go when the program ends (Ctrl-C): save what you need, or start with --out=FOLDER.",
            window_s=f"{self.jobs.weights.config.clip.duration_s:g}",
            colours=scales.colour_table(scales.RATE_COLOURS).tobytes().hex(),
            low=f"{low:g}",
            high=f"{high:g}",
        )
