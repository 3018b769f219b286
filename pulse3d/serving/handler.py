"""Answers the requests of the page: who may ask, for what, and how it is said.

A request needs the token that is in the page's address, names the server as its host (or a page elsewhere
could reach it through a name of its own, "DNS rebinding"), and comes from no page of another origin. Nothing
from a request becomes part of a path: a job is known by its number, its results by a fixed list of names.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib.resources import files as resources
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from pulse3d.errors import InputError
from pulse3d.serving import messages
from pulse3d.serving.jobs import Jobs
from pulse3d.serving.turns import Job
from pulse3d.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES

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
    "map.npz": "application/octet-stream",
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


class Site(NamedTuple):
    """What the handlers of all connections share: the jobs, who may ask, and the page.

    token: in the address of the page. hosts: the names of the server. max_mb: of an upload. page: makes it.
    """

    jobs: Jobs
    token: str
    hosts: list[str]
    max_mb: int
    page: Callable[[], str]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pulse3d", ""
    timeout = SILENT_S

    def __init__(self, site: Site, *request: Any):
        self.site, self.jobs = site, site.jobs
        super().__init__(*request)

    def do_GET(self) -> None:
        """Answers what a browser asks for."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Answers what a browser sends."""
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
        if self.headers.get("Host") not in self.site.hosts:
            raise RefusedError(HTTPStatus.FORBIDDEN, f"this server is {self.site.hosts[0]} and no other")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in [f"http://{host}" for host in self.site.hosts]:
            raise RefusedError(HTTPStatus.FORBIDDEN, "this server answers only its own page")
        try:
            target = urlsplit(self.path)
        except ValueError:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "there is no such page") from None
        token, _, rest = target.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.site.token.encode()):
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
        job = self.jobs.turns.get(int(number))
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
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.site.page().encode(), policy)

    def _get_part(self, name: str) -> None:
        if name not in PARTS:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")
        room, kind = PARTS[name]
        self._send(HTTPStatus.OK, kind, (resources(room) / "page" / name).read_bytes())

    def _get_done(self) -> None:
        done = [messages.of_job(job, self.jobs.turns) for job in self.jobs.done()]
        self._send_json({"done": [said | {"window": None} for said in done]})

    def _get_job(self, number: str) -> None:
        self._send_json(messages.of_job(self._job(number), self.jobs.turns))

    def _get_result(self, number: str, name: str) -> None:
        folder = self.jobs.results.get(int(number))
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
        name = _shown_name(self._query("name"))
        self._require_up_to(
            self.site.max_mb * 10**6,
            f"{name}: {self._left / 1e6:.0f} MB, but at most {self.site.max_mb} MB are taken; cut it, or"
            " start with a larger --max_mb",
        )
        if not self._left:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name}: is empty; choose a video")
        # FFmpeg goes by the suffix where the content leaves a choice
        suffix = next((s for s in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES) if name.lower().endswith(s)), "")
        path = self.jobs.folder / f"{secrets.token_hex(8)}{suffix}"
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
        self._get_job(str(self.jobs.add_upload(name, path).number))

    def _post_webcam(self) -> None:
        self._require_up_to(0, "the webcam's first message holds no frames")
        width, height = self._query("width"), self._query("height")
        if not re.fullmatch(r"[0-9]{1,5} [0-9]{1,5}", f"{width} {height}"):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "webcam: give its width and height in pixels")
        self._get_job(str(self.jobs.add_webcam(int(width), int(height)).number))

    def _post_frames(self, number: str) -> None:
        job, webcam = self._job(number), self.jobs.webcams.get(int(number))
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
        if "text/html" in self.headers.get("Accept", ""):  # a person who typed the address
            self._send(status, "text/plain; charset=utf-8", f"pulse3d: {message}\n".encode())
        else:
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
    ("GET", r"", Handler._get_page),
    ("GET", r"([a-z]+\.[a-z]+)", Handler._get_part),
    ("GET", r"jobs", Handler._get_done),
    ("GET", r"jobs/(\d{1,9})", Handler._get_job),
    ("GET", r"results/(\d{1,9})/([a-z0-9.]+)", Handler._get_result),
    ("POST", r"uploads", Handler._post_upload),
    ("POST", r"webcams", Handler._post_webcam),
    ("POST", r"webcams/(\d{1,9})", Handler._post_frames),
    ("POST", r"jobs/(\d{1,9})/stop", Handler._post_stop),
)


def _shown_name(name: str) -> str:
    """A file's name as it is shown, without folders; "video" if there is none."""
    last = re.split(r"[/\\]", name)[-1].strip()[:100]
    return last if last.strip(".") else "video"
