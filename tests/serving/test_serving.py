"""The page of `launch.serve`: what it does, what it refuses, and how it looks to a browser."""

import base64
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.browsing import open_browser, picture, text, wait
from helpers.configs import replace
from helpers.inputs import encode
from helpers.launching import environment_of, files_up_to, start

import pulse3d
from pulse3d import stream
from pulse3d.errors import InputError
from pulse3d.network import model, weights_file
from pulse3d.network.weights_file import Weights
from pulse3d.serving import handler, messages, server, turns, work
from pulse3d.showing import scales

FPS, SHAPE = 15, (32, 40)
NEWEST = "#videos li:first-child .results a"


def make_frames(seconds=4):
    """Noise that waxes and wanes 90 times a minute."""
    rng, count = np.random.default_rng(0), round(seconds * FPS)
    wave = np.sin(2 * np.pi * 1.5 * np.arange(count) / FPS)[:, None, None, None] * [3, 10, 6]
    noise = rng.normal(128, 20, (1, *SHAPE, 3)) + rng.normal(0, 5, (count, *SHAPE, 3))
    return np.clip(noise + wave, 0, 255).astype(np.uint8)


def toy_params(toy, seed=0):
    return jax.tree.map(lambda x: 4 * x, model.init_params(jax.random.key(seed), toy))


class Client:
    """Talks to a server as its page does, unless told otherwise."""

    def __init__(self, url):
        self.url = url
        self.host, self.token = re.fullmatch(r"http://(.*)/(.*)/", url).groups()

    def __call__(self, path, body=None, *, prefix=None, headers=None, drop=()):
        """(status, bytes) of a request: POST if it has a body, else GET."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        known = {"Host": self.host, "Origin": f"http://{self.host}"} | (headers or {})
        if body is not None and "Content-Length" not in drop:
            known.setdefault("Content-Length", str(len(body)))
        connection.putrequest(
            "GET" if body is None else "POST", f"{prefix or f'/{self.token}'}/{path}", skip_host=True
        )
        for name, value in known.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def json(self, *arguments, **options):
        status, body = self(*arguments, **options)
        assert status == 200, body
        return json.loads(body)

    def ended(self, number):
        """The status of a job when it has ended."""
        return wait(lambda: (said := self.json(f"jobs/{number}"))["state"] in turns.FINISHED and said)


@pytest.fixture(scope="module")
def weights(toy):
    return Weights(toy_params(toy), toy, {}, "toy")


@pytest.fixture(scope="module")
def page(weights, tmp_path_factory):
    """A server that takes videos of 1 MB."""
    made = server.Server(0, weights, tmp_path_factory.mktemp("serving"), max_mb=1)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.close()


@pytest.fixture(scope="module")
def client(page):
    return Client(page.url)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "me.mkv"
    return encode(path, make_frames(), times_s=np.arange(60) / FPS, codec="libx264")


def uploads(page):
    """The videos that a server keeps."""
    return [path for path in page.jobs.folder.iterdir() if path.is_file()]


@pytest.fixture(scope="module")
def uploaded(client, clip):
    """The status of a video that was mapped."""
    return client.ended(client.json("uploads?name=me%20%26%20you.mkv", clip.read_bytes())["number"])


def test_a_video_becomes_the_results_that_the_library_gives(client, page, weights, clip, uploaded):
    assert (uploaded["state"], uploaded["name"], uploaded["error"]) == ("done", "me & you.mkv", "")
    assert uploaded["share"] == 1
    found = {name: client(f"results/{uploaded['number']}/{name}") for name in handler.RESULTS}
    assert {status for status, _ in found.values()} == {200}
    expected = pulse3d.map_video(clip, weights)
    assert found["rates.csv"][1] == (expected.folder / "rates.csv").read_bytes()
    assert json.loads(found["summary.json"][1])["video"] == "me & you.mkv"
    assert found["overlay.mp4"][1][4:8] == b"ftyp"
    assert b"<title>me &amp; you.mkv</title>" in found["report.html"][1]
    assert not any(str(page.jobs.folder).encode() in body for _, body in found.values())
    assert uploads(page) == [], "it is gone"


def test_at_the_end_the_rates_are_those_of_the_result_and_the_map_that_of_the_last_window(
    clip, weights, uploaded
):
    windows = list(stream.map_stream(pulse3d.open_video(clip).frames(), weights))
    found, window_s = pulse3d.map_video(clip, weights), weights.config.clip.duration_s
    time_s, rate_bpm, low_bpm, high_bpm = np.array(uploaded["rates"], float).T
    np.testing.assert_allclose(time_s, found.time_s + window_s / 2, atol=1e-3)
    for told, expected in (
        (rate_bpm, found.pulse_rate_bpm),
        (low_bpm, found.low_bpm),
        (high_bpm, found.high_bpm),
    ):
        np.testing.assert_allclose(told, expected, atol=1e-3)
    assert np.isfinite(rate_bpm).any()
    told, last = uploaded["window"], windows[-1]
    rgba = np.frombuffer(base64.b64decode(told["map"]["rgba"]), np.uint8)
    np.testing.assert_array_equal(rgba, messages.colour_places(last).ravel())
    assert (told["map"]["rows"], told["map"]["cols"]) == last.rate_bpm.shape


def test_the_readings_from_all_windows_replace_those_from_the_windows_so_far(toy, clip, tmp_path):
    """Of a method that follows the rate, the two differ."""
    config = replace(toy, readout={"method": "tracked_votes"})
    followed = Weights(toy_params(toy), config, {}, "toy")
    job, window_s = turns.Job(0, "me.mkv"), config.clip.duration_s
    work.map_upload(job, clip, tmp_path, followed)
    windows = stream.map_stream(pulse3d.open_video(clip).frames(), followed)
    running = np.array([messages.rate_of(window, window_s=window_s) for window in windows], float)
    told, final = np.array(job.status.rates, float), pulse3d.Result.load(tmp_path)
    np.testing.assert_allclose(told[:, 1:3].T, [final.pulse_rate_bpm, final.low_bpm], atol=1e-3)
    assert abs(told - running).max() > 0.1


def test_rates_are_colours_and_confidence_is_opacity(weights):
    [window, *_] = stream.map_stream(((i / FPS, image) for i, image in enumerate(make_frames())), weights)
    rates, sure = np.array([[30.0, 40, 90, 140, 200, np.nan]]), np.array([[1, 0.5, 1, 1, 0, 1]])
    rgba = messages.colour_places(window._replace(rate_bpm=rates, confidence=sure))
    table = scales.colour_table("viridis")
    np.testing.assert_array_equal(rgba[0, :5, :3], table[[0, 0, 128, 255, 255]])
    np.testing.assert_allclose(
        rgba[0, :, 3], 255 * messages.OPACITY * np.array([1, 0.5, 1, 1, 0, 0]), atol=0.5
    )


def test_bad_videos_get_one_line_with_their_own_name(client, page, tmp_path):
    short = encode(tmp_path / "s.mkv", make_frames(0.8), times_s=np.arange(12) / FPS, codec="libx264")
    for name, data, words in (
        ("bad.mkv", b"no video", "a text file, not a video"),
        ("bad.mkv", short.read_bytes(), "one window needs 1.6 s"),
        ("bad.jpg", b"\xff\xd8\xff", "a picture, not a video"),
    ):
        said = client.ended(client.json(f"uploads?name={name}", data)["number"])
        assert said["state"] == "failed"
        assert said["error"].startswith(f"{name}: ")
        assert words in said["error"]
        assert str(page.jobs.folder) not in said["error"]
        assert client(f"results/{said['number']}/summary.json")[0] == 404
        assert said["number"] not in page.jobs.results
    assert uploads(page) == []
    kept = {path for path in (page.jobs.folder / "results").glob("*") if path.is_dir()}
    assert kept == set(page.jobs.results.values()), "what failed leaves no folder"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("../../etc/passwd.mp4", "passwd.mp4"), ("C:\\me.mp4", "me.mp4"), ("..", "video"), ("", "video")],
)
def test_a_name_is_no_path(client, page, name, shown):
    before = sorted(path for path in page.jobs.folder.parent.rglob("*"))
    said = client.json(f"uploads?name={name.replace('/', '%2F').replace(chr(92), '%5C')}", b"no video")
    assert said["name"] == shown
    client.ended(said["number"])
    after = [path for path in page.jobs.folder.parent.rglob("*") if path not in before]
    assert all(path.parent == page.jobs.folder / "results" and path.name.isdigit() for path in after)


@pytest.mark.parametrize(
    ("path", "options", "status", "words"),
    [
        ("", {"headers": {"Host": "evil.example"}}, 403, "no other"),
        ("", {"headers": {"Host": "127.0.0.1:1"}}, 403, "no other"),
        ("", {"headers": {"Host": None}}, 403, "no other"),
        ("", {"headers": {"Origin": "http://evil.example"}}, 403, "its own page"),
        ("", {"headers": {"Origin": "null"}}, 403, "its own page"),
        ("uploads", {"body": b"x", "headers": {"Origin": "https://evil.example"}}, 403, "its own page"),
        ("", {"prefix": "/wrong"}, 403, "the whole address"),
        ("uploads", {"body": b"x", "prefix": "/wrong"}, 403, "the whole address"),
        ("uploads", {"body": b"x", "drop": ["Content-Length"]}, 411, "Content-Length"),
        ("uploads", {"body": b"x", "headers": {"Content-Length": "-1"}}, 411, "Content-Length"),
        ("uploads", {"body": b""}, 400, "is empty"),
        ("jobs/99", {}, 404, "no such job"),
        ("jobs/-1", {}, 404, "no such page"),
        ("results/0/summary.json", {}, 404, "no such result"),
        ("results/{done}/map.mat", {}, 404, "no such result"),
        ("results/{done}/../1/summary.json", {}, 404, "no such page"),
        ("results/{done}/..%2fsummary.json", {}, 404, "no such page"),
        ("results/{done}//etc/passwd", {}, 404, "no such page"),
        ("server.py", {}, 404, "no such page"),
        ("webcams?width=320&height=9000", {"body": b""}, 400, "1 to 320 px"),
        ("webcams?width=a&height=1", {"body": b""}, 400, "in pixels"),
    ],
)  # fmt: skip
def test_refused(client, uploaded, path, options, status, words):
    path = path.format(done=uploaded["number"])
    code, body = client(path, options.get("body"), **{k: v for k, v in options.items() if k != "body"})
    assert code == status
    assert words in json.loads(body)["error"]


def test_a_person_is_refused_in_words(client):
    status, body = client("", prefix="/wrong", headers={"Accept": "text/html,*/*", "Origin": None})
    assert (status, body) == (403, b"pulse3d: open the whole address that the program printed\n")


def test_what_was_mapped_is_listed_for_a_page_that_comes_later(client, page, uploaded):
    listed = client.json("jobs")["done"]
    assert [said["number"] for said in listed] == sorted(page.jobs.results)
    [again] = [said for said in listed if said["number"] == uploaded["number"]]
    assert again == uploaded | {"window": None}


def test_its_other_name_and_requests_of_no_page_are_answered(client):
    port = client.host.split(":")[1]
    own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert client("", headers=own)[0] == 200
    assert client("", headers={"Origin": None})[0] == 200


def test_an_address_that_is_none_is_refused(client):
    with socket.create_connection(client.host.split(":"), timeout=60) as connection:
        connection.sendall(f"GET http://[bad HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("error", "told"), [(BrokenPipeError, False), (TimeoutError, False), (ZeroDivisionError, True)]
)
def test_a_browser_that_leaves_is_no_error(page, capfd, error, told):
    try:
        raise error
    except error:
        page.handle_error(None, (server.HOST, 1))
    assert ("Traceback" in capfd.readouterr().err) == told


def test_what_is_missing_or_assumed_is_told(page):
    summary = {"notes": ["a.mkv has no frame rate"], "lost": ["a.mkv: it ends after 2.0 of 4.0 s"]}
    said = messages.of_job(turns.Job(0, "a.mkv", turns.Status("done", summary=summary)), page.jobs.turns)
    assert said["warnings"] == [f"note: {summary['notes'][0]}", f"warning: {summary['lost'][0]}"]


def test_a_video_that_is_too_large_is_refused_before_it_is_kept(client, page):
    status, body = client("uploads?name=big.mp4", bytes(3_000_000))
    assert status == 413
    said = "big.mp4: 3 MB, but at most 1 MB are taken; cut it, or start with a larger --max_mb"
    assert json.loads(body)["error"] == said
    assert uploads(page) == []


def test_an_upload_that_breaks_off_leaves_nothing(client, page):
    connection = http.client.HTTPConnection(client.host, timeout=60)
    headers = {"Content-Length": "1000", "Host": client.host}
    connection.request("POST", f"/{client.token}/uploads?name=a.mp4", b"half", headers)
    connection.sock.shutdown(1)
    answer = connection.getresponse()
    assert (answer.status, "broke off" in json.loads(answer.read())["error"]) == (400, True)
    connection.close()
    assert uploads(page) == []


def test_an_upload_for_which_there_is_no_room_is_said_and_leaves_nothing(client, page):
    with files_up_to(1000):
        status, body = client("uploads?name=a.mp4", bytes(100_000))
    assert (status, json.loads(body)["error"]) == (507, "a.mp4: cannot be kept (File too large); make room")
    assert uploads(page) == []


def batch(frames, first=0):
    """Frames as the page sends them, FPS a second."""
    rgba = np.concatenate([frames, np.full((*frames.shape[:-1], 1), 255, np.uint8)], -1)
    times_s = (first + np.arange(len(frames))) / FPS
    return b"".join(np.float64(t).tobytes() + image.tobytes() for t, image in zip(times_s, rgba, strict=True))


def open_webcam(client):
    return client.json(f"webcams?width={SHAPE[1]}&height={SHAPE[0]}", b"")["number"]


def test_the_frames_of_a_webcam_become_the_windows_of_a_stream(client, page, weights):
    frames, number = make_frames(8), open_webcam(client)
    wait(lambda: client.json(f"jobs/{number}")["state"] == "mapping")
    for first in range(0, len(frames), 30):
        said = client.json(f"webcams/{number}", batch(frames[first : first + 30], first))
    windows = stream.map_stream(((i / FPS, image) for i, image in enumerate(frames)), weights)
    expected = [messages.rate_of(window, window_s=weights.config.clip.duration_s) for window in windows]
    said = wait(lambda: len((s := client.json(f"jobs/{number}"))["rates"]) == len(expected) and s)
    assert [tuple(row) for row in said["rates"]] == expected
    assert said["window"]["enough_video"]
    client.json(f"jobs/{number}/stop", b"")
    assert client.ended(number)["state"] == "stopped"
    assert page.jobs.webcams == {}
    assert client.json(f"webcams/{number}", bytes(10**7))["state"] == "stopped", "what comes late is let pass"


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "no whole frames"), (b"123", "no whole frames"), (None, "without a time")]
)
def test_what_is_no_batch_of_frames_is_refused(data, words):
    data = np.float64(np.nan).tobytes() + bytes(32 * 40 * 4) if data is None else data
    with pytest.raises(InputError, match=words):
        work.read_batch(data, SHAPE)


def test_a_webcam_that_is_silent_ends(client, monkeypatch):
    monkeypatch.setattr(work, "SILENT_S", 0.5)
    assert client.ended(open_webcam(client))["state"] == "done"


def test_one_at_a_time_and_the_others_are_told(client, clip):
    """A webcam has its turn until it stops; of two videos behind it, one is stopped before its turn."""
    webcam = open_webcam(client)
    wait(lambda: client.json(f"jobs/{webcam}")["state"] == "mapping")
    first, second = (client.json(f"uploads?name={name}.mkv", clip.read_bytes())["number"] for name in "ab")
    time.sleep(0.3)
    waiting = [client.json(f"jobs/{number}") for number in (first, second)]
    assert [said["state"] for said in waiting] == ["waiting", "waiting"]
    assert [said["before"] for said in waiting] == [["the webcam"], ["the webcam", "a.mkv"]]
    assert client.json(f"jobs/{first}/stop", b"")["state"] == "stopped", "at once"
    assert client.json(f"jobs/{second}")["before"] == ["the webcam"]
    client.json(f"jobs/{webcam}/stop", b"")
    assert client.ended(first)["state"] == "stopped"
    assert client.ended(second)["state"] == "done"


def test_a_port_that_is_taken_is_named(page, weights, tmp_path):
    port = page.server_address[1]
    with pytest.raises(InputError, match=f"--port={port}: cannot be used .*give another"):
        server.Server(port, weights, tmp_path, max_mb=1)


def test_a_fault_of_the_program_is_said_and_the_next_job_runs(client, clip, monkeypatch, capfd):
    def fail(*arguments, **options):
        raise ZeroDivisionError("by\nzero")

    with monkeypatch.context() as patched:
        patched.setattr(work, "make_mapper", fail)
        said = client.ended(client.json("uploads?name=a.mkv", clip.read_bytes())["number"])
    assert (said["state"], said["error"]) == ("failed", "a.mkv: ZeroDivisionError, by; the terminal has more")
    assert "Traceback" in capfd.readouterr().err
    assert client.ended(open_and_stop(client))["state"] == "stopped"


def open_and_stop(client):
    number = open_webcam(client)
    client.json(f"jobs/{number}/stop", b"")
    return number


def test_the_end_stops_the_job_that_runs_and_those_that_wait():
    def work_on(job):
        while True:
            job.tell()
            time.sleep(0.01)

    line = turns.Turns()
    jobs = [line.add(name, work_on) for name in "ab"]
    wait(lambda: jobs[0].status.state == "mapping")
    assert line.close()
    assert [job.status.state for job in jobs] == ["stopped", "stopped"]


# A job that cannot be stopped, as while it compiles.
STUCK = """
import concurrent.futures, time
from launch import common, serve
from pulse3d.serving import turns, work
turns.LEAVE_S = 0.1
work.warm_up = lambda weights: concurrent.futures.ThreadPoolExecutor().submit(time.sleep, 600).result()
common.run(serve.main)
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_program_though_its_job_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = subprocess.Popen(
        [sys.executable, "-c", STUCK, "--port=0", "--weights=green"],
        env=environment_of("serve"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stdout.readline().startswith("open ")
        program.send_signal(signal.SIGINT)
        assert program.communicate(timeout=60) == ("", "")
    finally:
        program.kill()
    assert program.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_program_takes_its_flags_and_ctrl_c_leaves_only_what_out_keeps(toy, clip, tmp_path, monkeypatch):
    temporary, out = tmp_path / "tmp", tmp_path / "out"
    temporary.mkdir()
    (out / "1").mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(temporary))
    weights_file.save_weights(tmp_path / "second.npz", toy_params(toy, 1), toy, {})
    flags = (f"--weights={tmp_path / 'second.npz'}", "--set=map.centre=window", "--max_mb=1", f"--out={out}")
    program = start("serve", "--port=0", *flags)
    try:
        client = Client(re.search(r"http://\S+", program.stdout.readline())[0])
        assert b'data-max-mb="1"' in client("")[1]
        said = client.ended(client.json("uploads?name=a.mkv", clip.read_bytes())["number"])
        assert (said["summary"]["weights"], said["summary"]["centre"]) == ("second", "window")
        assert {path.name for path in out.iterdir()} == {"1", "2"}, "what was there stays"
        open_webcam(client)  # which goes on until the end
        client.json("uploads?name=b.mkv", clip.read_bytes())
        assert list(temporary.iterdir())
        program.send_signal(signal.SIGINT)
        printed, err = program.communicate(timeout=60)
    finally:
        program.kill()
    assert (program.returncode, printed, err) == (0, "", "")
    assert list(temporary.iterdir()) == []
    assert json.loads((out / "2" / "summary.json").read_text())["video"] == "a.mkv"
    assert {path.name for path in out.iterdir()} == {"1", "2"}, "jobs that were stopped leave no folder"


@pytest.fixture(scope="module")
def browser():
    with open_browser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as driver:
        yield driver


def show(browser, page):
    browser.get(page.url)
    assert browser.execute_script("return document.body.dataset.ready")
    assert "Not a medical device" in browser.execute_script("return document.body.innerText")


@pytest.mark.slow
def test_a_video_that_is_chosen_or_dropped_ends_in_a_rate(browser, page, clip):
    show(browser, page)
    browser.find_element("id", "file").send_keys(str(clip))
    done = wait(lambda: re.search(r"([\d.]+ bpm) median", text(browser, "headline")))
    assert done[1] in text(browser, "videos")
    parts = "return [...document.querySelectorAll('#bar > *')].map(one => one.getBoundingClientRect().top)"
    assert np.ptp(browser.execute_script(parts)) < 12, "the colour bar stands between its numbers"
    links = [link.get_attribute("href") for link in browser.find_elements("css selector", NEWEST)]
    assert [Path(link).name for link in links] == list(handler.RESULTS)
    drop = (
        "const data = new DataTransfer();"
        "data.items.add(new File([Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0))], arguments[1]));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true}))"
    )
    browser.execute_script(drop, base64.b64encode(clip.read_bytes()).decode(), "<b>dropped</b>.mkv")
    wait(lambda: text(browser, "videos").startswith("<b>dropped</b>.mkv"))
    wait(lambda: len(browser.find_elements("css selector", NEWEST)) == len(handler.RESULTS))
    browser.execute_script(drop, base64.b64encode(b"no video").decode(), "bad.mp4")
    wait(lambda: "bad.mp4: a text file, not a video" in text(browser, "videos"))
    browser.execute_script(drop, base64.b64encode(bytes(1_500_000)).decode(), "big.mp4")
    wait(lambda: "big.mp4: 2 MB, but at most 1 MB" in text(browser, "videos"))
    assert browser.get_log("browser") == []
    final = "return [shown.status.rates.map(row => row[1]), document.getElementById('rate').data.at(-1).y]"
    told, drawn = browser.execute_script(final)
    assert told == drawn
    assert "Results go when the program ends" in text(browser, "choose-panel")
    show(browser, page)
    wait(lambda: text(browser, "videos").count("summary.json") >= 2)
    browser.get(links[0])
    wait(lambda: browser.execute_script("return document.body.dataset.ready"))
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_a_webcam_is_mapped_and_its_map_lies_over_the_picture(browser, page):
    show(browser, page)
    browser.find_element("id", "webcam").click()
    wait(lambda: re.search(r"\d bpm \(|no pulse in", text(browser, "headline")))
    assert browser.execute_script("return shown.status.window.map.frame_px") == [320, 240]
    places = np.array(browser.execute_script("return document.getElementById('rate').data.at(-1).x"))
    assert len(places) >= 1
    assert picture(browser, "map").std() > 10, "the picture of the camera"
    assert text(browser, "webcam") == "Stop the webcam"
    browser.find_element("id", "webcam").click()
    assert text(browser, "webcam") == "Use the webcam"
    wait(lambda: page.jobs.webcams == {})
    [left, right, bottom, top] = browser.execute_script("return shown.status.window.map.extent_px")
    browser.execute_script(
        "const map = shown.picture.getContext('2d'); map.fillStyle = 'red'; map.fillRect(0, 0, 999, 999)"
    )
    wait(lambda: (picture(browser, "map")[360, 480] == [255, 0, 0]).all())
    red = (picture(browser, "map") == [255, 0, 0]).all(-1)  # 3 px for one of the camera's
    np.testing.assert_allclose(red.mean(), (right - left) * (bottom - top) / (320 * 240), atol=0.01)
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_what_cannot_be_read_is_said_and_a_page_that_is_left_stops_its_videos(
    browser, page, client, clip, tmp_path
):
    show(browser, page)
    gone = tmp_path / "gone.mkv"
    gone.write_bytes(clip.read_bytes())
    browser.execute_script(
        "document.body.append(Object.assign(document.createElement('input'), {type: 'file', id: 'other'}))"
    )
    browser.find_element("id", "other").send_keys(str(gone))
    size = browser.execute_script("return document.getElementById('other').files[0].size")
    assert size == gone.stat().st_size  # which the browser looks up when it is asked for first
    gone.unlink()
    browser.execute_script("mapFile(document.getElementById('other').files[0])")
    wait(lambda: "gone.mkv: cannot be read; is it a folder?" in text(browser, "videos"))
    webcam = open_webcam(client)  # so that the video waits
    browser.find_element("id", "file").send_keys(str(clip))
    wait(lambda: "waiting for the webcam" in text(browser, "videos"))
    browser.get("about:blank")
    assert client.ended(webcam + 1)["state"] == "stopped"
    client.json(f"jobs/{webcam}/stop", b"")
