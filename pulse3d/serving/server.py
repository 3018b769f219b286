"""The server of the page: for browsers on this machine alone, and only for pages of its own.

It listens on 127.0.0.1. A request needs the token that is in the page's address, names this server as its
host (or a page elsewhere could reach it through a name of its own, "DNS rebinding"), and comes from no page
of another origin. Nothing from a request becomes part of a path: a job is known by its number, its results
by a fixed list of names.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import shutil
import socketserver
import sys
import time
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pulse3d import files
from pulse3d.errors import InputError
from pulse3d.network.weights_file import Weights
from pulse3d.result import LIMITS_BPM
from pulse3d.serving import messages, work
from pulse3d.serving.turns import Job, Turns
from pulse3d.showing import scales
from pulse3d.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES

HOST = "127.0.0.1"
SILENT_S = 30.0  # of a connection, before it is closed
LET_PASS_S = 5.0  # for what is sent but not wanted
PIECE_BYTES = 2**20
RESULTS = {
    "report.html": "text/html; charset=utf-8",
    "overlay.mp4": "video/mp4",
    "map.png": "image/png",
    "companion.png": "image/png",
    "rates.csv": "text/csv; charset=utf-8",
    "bvp.csv": "text/csv; charset=utf-8",
    "beats.csv": "text/csv; charset=utf-8",
    "regions.csv": "text/csv; charset=utf-8",
    "summary.json": "application/json",
}
PARTS = {
    "page.css": ("pulse3d.showing", "text/css; charset=utf-8"),
    "charts.js": ("pulse3d.showing", "text/javascript; charset=utf-8"),
    "serve.css": ("pulse3d.serving", "text/css; charset=utf-8"),
    "serve.js": ("pulse3d.serving", "text/javascript; charset=utf-8"),
}
# the report has a policy of its own, with which it opens as a file, too
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class RefusedError(Exception):
    """A request that is not answered as it hoped: the HTTP status, and a line that says why."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


class Server(ThreadingHTTPServer):
    """Serves the page and maps what it sends; `serve_forever` runs it, `shutdown` and `close` end it.

    port: 0 for any that is free. max_mb: of an upload. folder: for what goes with the program: uploads, and
    results unless `out` is given, into which they are numbered. Raises InputError for a port that is taken.
    """

    daemon_threads = True

    def __init__(self, port: int, weights: Weights, folder: Path, *, max_mb: int, out: Path | None = None):
        self.token = secrets.token_urlsafe(16)
        self.weights, self.folder, self.out, self.max_mb = weights, folder, out, max_mb
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise InputError(
                f"--port={port}: cannot be used ({error.strerror}); give another, or 0 for any that is free"
            ) from None
        self.hosts = [f"{name}:{self.server_address[1]}" for name in (HOST, "localhost")]
        self.turns = Turns()
        self.turns.add("the network", lambda job: work.warm_up(weights))
        self.results = dict[int, Path]()  # by the numbers of jobs
        self.webcams = dict[int, work.Webcam]()

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
        return self.turns.close()

    def page(self) -> str:
        """The page as HTML."""
        text = (resources("pulse3d.serving") / "page" / "serve.html").read_text(encoding="utf-8")
        low, high = LIMITS_BPM
        return Template(text).substitute(
            max_mb=self.max_mb,
            results=" ".join(RESULTS),
            window_s=f"{self.weights.config.clip.duration_s:g}",
            colours=scales.colour_table(scales.RATE_COLOURS).tobytes().hex(),
            low=f"{low:g}",
            high=f"{high:g}",
        )

    def add_upload(self, name: str, path: Path) -> Job:
        """The job that maps an uploaded file, which is deleted when it is done."""

        def run(job: Job) -> None:
            try:
                job.tell()  # raises Stopped before there is a folder
                folder = self._results_folder(job)
                try:
                    work.map_upload(job, path, folder, self.weights)
                except BaseException:
                    del self.results[job.number]
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
            finally:
                path.unlink(missing_ok=True)

        return self.turns.add(name, run)

    def add_webcam(self, width: int, height: int) -> Job:
        """The job that maps the frames of a webcam."""
        webcam = work.Webcam(height, width, self.weights)

        def run(job: Job) -> None:
            self.webcams[job.number] = webcam
            try:
                webcam.run(job)
            finally:
                del self.webcams[job.number]

        return self.turns.add("the webcam", run)

    def _results_folder(self, job: Job) -> Path:
        """A new folder for the results of a job."""
        for number in itertools.count(1):
            path = (self.out or self.folder / "results") / str(number)
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                continue
            except OSError as error:
                raise files.cannot_write(path, error) from None
        self.results[job.number] = path
        return path


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pulse3d", ""
    timeout = SILENT_S

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""

    def _answer(self, method: str) -> None:
        self._left = 0  # bytes of the request that are not read yet
        try:
            self._left = self._length() if method == "POST" else 0
            self._find(method)()
        except RefusedError as error:
            self._refuse(error.status, str(error))
        except InputError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _find(self, method: str) -> Any:
        """What answers this request; raises RefusedError."""
        if self.headers.get("Host") not in self.server.hosts:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"this server is {self.server.hosts[0]} and no other")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in [f"http://{host}" for host in self.server.hosts]:
            raise RefusedError(HTTPStatus.FORBIDDEN, "this server answers only its own page")
        try:
            target = urlsplit(self.path)
        except ValueError:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "there is no such page") from None
        token, _, rest = target.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise RefusedError(HTTPStatus.FORBIDDEN, "open the whole address that the program printed")
        for known, pattern, answer in _ROUTES:
            if known == method and (match := re.fullmatch(pattern, rest, re.ASCII)):
                return partial(answer, self, *match.groups())
        raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _length(self) -> int:
        """The length of the request's body; raises RefusedError if it is not given."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,15}", length) or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what follows cannot be told from another request
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "a request needs a Content-Length")
        return int(length)

    def _query(self, name: str) -> str:
        """A value from the address; empty if it is not there."""
        return parse_qs(urlsplit(self.path).query).get(name, [""])[0]

    def _job(self, number: str) -> Job:
        job = self.server.turns.get(int(number))
        if job is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such job")
        return job

    def _read(self, size: int) -> bytes:
        """The next bytes of the body; raises RefusedError where it breaks off."""
        data = self.rfile.read1(min(size, self._left))
        self._left -= len(data)
        if not data:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the upload broke off; send it again")
        return data

    def _require_up_to(self, size: int, message: str) -> None:
        if self._left > size:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)

    # what a request asks for

    def _get_page(self) -> None:
        policy = {"Content-Security-Policy": POLICY}
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page().encode(), policy)

    def _get_part(self, name: str) -> None:
        if name not in PARTS:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")
        room, kind = PARTS[name]
        self._send(HTTPStatus.OK, kind, (resources(room) / "page" / name).read_bytes())

    def _get_job(self, number: str) -> None:
        self._send_json(messages.of_job(self._job(number), self.server.turns))

    def _get_result(self, number: str, name: str) -> None:
        folder = self.server.results.get(int(number))
        if folder is None or self._job(number).status.state != "done" or name not in RESULTS:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such result")
        path = folder / name
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                self._send_head(HTTPStatus.OK, RESULTS[name], size)
                shutil.copyfileobj(file, self.wfile)
        except FileNotFoundError:
            raise RefusedError(HTTPStatus.NOT_FOUND, "this result is no longer there") from None

    def _post_upload(self) -> None:
        server, name = self.server, _shown_name(self._query("name"))
        self._require_up_to(
            server.max_mb * 10**6,
            f"{name}: {self._left / 1e6:.0f} MB, but at most {server.max_mb} MB are taken; cut it, or start"
            " with a larger --max_mb",
        )
        if not self._left:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name}: is empty; choose a video")
        # FFmpeg goes by the suffix where the content leaves a choice
        suffix = next((s for s in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES) if name.lower().endswith(s)), "")
        path = server.folder / f"{secrets.token_hex(8)}{suffix}"
        try:
            with path.open("xb") as file:
                while self._left:
                    file.write(self._read(PIECE_BYTES))
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
                raise RefusedError(
                    HTTPStatus.INSUFFICIENT_STORAGE, f"{name}: cannot be kept ({error.strerror}); make room"
                ) from None
            raise
        self._get_job(str(server.add_upload(name, path).number))

    def _post_webcam(self) -> None:
        self._require_up_to(0, "the webcam's first message holds no frames")
        width, height = self._query("width"), self._query("height")
        if not re.fullmatch(r"[0-9]{1,5} [0-9]{1,5}", f"{width} {height}"):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "webcam: give its width and height in pixels")
        self._get_job(str(self.server.add_webcam(int(width), int(height)).number))

    def _post_frames(self, number: str) -> None:
        job, webcam = self._job(number), self.server.webcams.get(int(number))
        if webcam is not None:
            self._require_up_to(webcam.max_bytes, "webcam: too many frames at once; send them sooner")
            pieces = list[bytes]()
            while self._left:
                pieces.append(self._read(self._left))
            if job.status.state == "mapping":  # until then they are of no use
                webcam.put(b"".join(pieces))
        if self._left:  # of a webcam that has ended
            self._let_pass()
        self._get_job(number)

    def _post_stop(self, number: str) -> None:
        self._job(number).stop.set()
        self._get_job(number)

    # how it is answered

    def _send_json(self, values: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, "application/json", json.dumps(values, allow_nan=False).encode())

    def _send(
        self, status: HTTPStatus, kind: str, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self._send_head(status, kind, len(body), headers)
        self.wfile.write(body)

    def _send_head(
        self, status: HTTPStatus, kind: str, length: int, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        known = {
            "Content-Type": kind,
            "Content-Length": str(length),
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }
        if self._left or self.close_connection:
            known["Connection"] = "close"
            self.close_connection = True
        for name, value in {**known, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._send_json({"error": message}, status)
        self._let_pass()

    def _let_pass(self) -> None:
        """Reads what is left of the request: a browser reads an answer only when it has sent all."""
        deadline = time.monotonic() + LET_PASS_S
        while self._left and time.monotonic() < deadline:
            data = self.rfile.read1(min(PIECE_BYTES, self._left))
            if not data:
                break
            self._left -= len(data)


_ROUTES = (
    ("GET", r"", _Handler._get_page),
    ("GET", r"([a-z]+\.[a-z]+)", _Handler._get_part),
    ("GET", r"jobs/(\d{1,9})", _Handler._get_job),
    ("GET", r"results/(\d{1,9})/([a-z0-9.]+)", _Handler._get_result),
    ("POST", r"uploads", _Handler._post_upload),
    ("POST", r"webcams", _Handler._post_webcam),
    ("POST", r"webcams/(\d{1,9})", _Handler._post_frames),
    ("POST", r"jobs/(\d{1,9})/stop", _Handler._post_stop),
)


def _shown_name(name: str) -> str:
    """A file's name as it is shown, without folders; "video" if there is none."""
    last = re.split(r"[/\\]", name)[-1].strip()[:100]
    return last if last.strip(".") else "video"
