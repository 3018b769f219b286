"""Jobs that take turns: one runs, the others wait in the order in which they came."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pulse3d.errors import InputError, first_line

LEAVE_S = 10.0  # that a job has to end when the program does
FINISHED = ("done", "failed", "stopped")


class Stopped(Exception):
    """The job was stopped."""


@dataclass(frozen=True)
class Status:
    """How a job is getting on.

    state: "waiting", "mapping", "drawing" or one of FINISHED. share: of the mapping that is done, 0...1.
    window: the newest window, as in `messages.of_window`. rates: (time in s, rate, low, high) of the windows
    so far, the rates in bpm or None. summary: of the result, as in summary.json. error: why it failed.
    """

    state: str = "waiting"
    share: float = 0.0
    window: dict[str, Any] | None = None
    rates: tuple[tuple[float | None, ...], ...] = ()
    summary: dict[str, Any] | None = None
    error: str = ""


@dataclass
class Job:
    """A piece of work: what it is called, and its status, which only the work itself changes."""

    number: int
    name: str
    status: Status = Status()
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def state(self) -> str:
        """The state of the status; "stopped" as soon as a job that waits is stopped."""
        stopped = self.status.state == "waiting" and self.stop.is_set()
        return "stopped" if stopped else self.status.state

    def tell(self, **changes: Any) -> None:
        """Changes fields of the status; raises Stopped if nobody wants the job any more."""
        if self.stop.is_set():
            raise Stopped
        self.status = replace(self.status, **changes)


class Turns:
    """Runs jobs on a thread of its own, one at a time."""

    def __init__(self) -> None:
        self._jobs = list[Job]()
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[Job, Callable[[Job], None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, name: str, work: Callable[[Job], None]) -> Job:
        """Puts a job at the end; `work` gets it when its turn comes, and may raise InputError.

        A job that was stopped before still gets its turn, so that its work can tidy up.
        """
        with self._lock:
            job = Job(len(self._jobs), name)
            self._jobs.append(job)
            self._waiting.put((job, work))
        return job

    def get(self, number: int) -> Job | None:
        """The job of that number, if there is one."""
        return self._jobs[number] if 0 <= number < len(self._jobs) else None

    def before(self, job: Job) -> list[Job]:
        """The jobs that come first: one that runs, and those that wait longer and still shall."""
        return [other for other in self._jobs[: job.number] if other.state not in FINISHED]

    def close(self) -> bool:
        """Stops all jobs, waits for the one that runs, but not for long, and returns whether it ended."""
        for job in list(self._jobs):
            job.stop.set()
        self._waiting.put(None)
        self._thread.join(LEAVE_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while turn := self._waiting.get():
            job, work = turn
            if not job.stop.is_set():
                job.status = replace(job.status, state="mapping")
            end: dict[str, Any] = {"state": "done"}
            try:
                work(job)
            except Stopped:
                end = {"state": "stopped"}
            except InputError as error:
                end = {"state": "failed", "error": str(error)}
            except Exception as error:
                traceback.print_exception(error, file=sys.stderr)
                said = f"{job.name}: {type(error).__name__}, {first_line(error)}; the terminal has more"
                end = {"state": "failed", "error": said}
            job.status = replace(job.status, **end)
            del turn, work  # which may hold frames
