"""The jobs of the page: videos that were uploaded and sessions of a webcam, and what becomes of them."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from pulse3d import files
from pulse3d.network.weights_file import Weights
from pulse3d.serving import work
from pulse3d.serving.turns import Job, Turns


class Jobs:
    """Takes jobs, which run one after the other, and knows their results.

    folder: for what goes with the program: uploads, and results unless `out` is given, into which they are
    numbered. results, webcams: by the numbers of jobs, the folders of those that ran, the sessions that do.
    """

    def __init__(self, weights: Weights, folder: Path, *, out: Path | None):
        self.weights, self.folder, self.out = weights, folder, out
        self.turns = Turns()
        self.turns.add("the network", lambda job: work.warm_up(weights))
        self.results = dict[int, Path]()
        self.webcams = dict[int, work.Webcam]()

    def done(self) -> list[Job]:
        """The videos that are mapped and whose results are there, in the order in which they came."""
        jobs = (self.turns.get(number) for number in sorted(self.results))
        return [job for job in jobs if job is not None and job.state == "done"]

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
