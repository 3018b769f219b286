"""The page: what it holds, and how it behaves in a browser."""

import dataclasses
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from pulse3d import files, report
from pulse3d.errors import InputError
from pulse3d.result import Result

AXIS = np.arange(40.0, 201.0, 2.0)


def make_result(folder, *, windows=6, rows=4, cols=5, name="me.mp4", pulse=True, noise=False):
    """Places of 16 px on a frame of 160 x 120 px; place (1, 2) beats at 90 bpm, the others at 70."""
    rng = np.random.default_rng(0)
    rate = np.full((windows, rows, cols), 70.0 if pulse else np.nan)
    rate[:, 1, 2] = 90.0 if pulse else np.nan
    confidence = np.where(np.isfinite(rate), 0.6, 0.0)
    with files.NpzStream(folder / "map.npz") as store:
        for window in range(windows):
            near = np.nan_to_num(rate[window])[..., None]
            shares = np.exp(-0.5 * ((AXIS - near) / 3) ** 2) * pulse
            shares = rng.dirichlet(np.ones(len(AXIS)), (rows, cols)) if noise else shares / 4
            store.append(probability=shares.astype(np.float16))
    reading = np.full(windows, 71.0 if pulse else np.nan)
    summary = {
        "video": name, "frame_width_px": 160, "frame_height_px": 120, "video_duration_s": 16.0,
        "stride_px": 16, "weights": "default", "window_s": 10.0, "step_s": 1.0, "windows": windows,
        "windows_with_pulse": windows * pulse, "pulse_rate_median_bpm": 71.0 if pulse else None,
    }  # fmt: skip
    return Result(
        frame=rng.integers(0, 255, (120, 160, 3)).astype(np.uint8),
        time_s=5.0 + np.arange(windows),
        pulse_rate_bpm=reading, low_bpm=reading - 5, high_bpm=reading + 6,
        pulse_confidence=np.linspace(0.5, 0.9, windows) * pulse, equation_8_bpm=reading,
        rate_bpm=rate, confidence=confidence, no_pulse=1 - confidence,
        amplitude_percent=0.1 + 0 * rate, snr_db=0 * rate - 3,
        row_px=40.0 + 16 * np.arange(rows), col_px=48.0 + 16 * np.arange(cols),
        rate_axis_bpm=AXIS, summary=summary, folder=folder,
    )  # fmt: skip


def test_page_stays_small_for_a_long_video_and_says_what_it_left_out(tmp_path):
    found = make_result(tmp_path, windows=900, rows=24, cols=32, noise=True)
    page = report.make_page(found)
    assert len(page) < 8_000_000
    assert "maps of" in report._note(found, np.arange(0, 900, 10), 1)
    assert report._note(found, np.arange(900), 1) == ""


def test_very_many_places_are_thinned(tmp_path):
    found = make_result(tmp_path, windows=2, rows=220, cols=300)
    path = tmp_path / "report.html"
    report.write_report(found, path)
    assert path.stat().st_size < 8_000_000


def test_page_loads_nothing_and_text_from_outside_is_no_markup(tmp_path):
    page = report.make_page(make_result(tmp_path, name="</title><script>alert(1)</script>.mp4"))
    assert "<script>alert" not in page
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page)
    assert tags
    assert not [tag for tag in tags if "src=" in tag or "href=" in tag]


def test_failed_page_leaves_nothing(tmp_path):
    found = dataclasses.replace(make_result(tmp_path), folder=tmp_path / "missing")
    with pytest.raises(InputError, match="not a folder of results"):
        report.write_report(found, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("text", ["", "time,rate\n", "time,rate\na,b\n", "only one column\n1\n"])
def test_a_table_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(InputError, match=r"truth\.csv"):
        report.read_truth(tmp_path / "truth.csv")


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, which .ci/run installs."""
    chromium, service = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (chromium and service):
        assert not os.environ.get("PULSE3D_BROWSER"), "chromium and chromedriver are missing"
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(service))
    yield driver
    driver.quit()


def wait(condition):
    deadline = time.time() + 60
    while not (value := condition()):
        assert time.time() < deadline
        time.sleep(0.05)
    return value


def show(browser, page: Path, width=1366, height=768):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    wait(lambda: browser.execute_script("return document.body.dataset.ready"))
    assert browser.get_log("browser") == []


def text(browser, name):
    return browser.execute_script(f"return document.getElementById('{name}').textContent")


def press(browser, name, key):
    browser.execute_script(
        "const target = arguments[0] ? document.getElementById(arguments[0]) : document.body; target.focus();"
        "target.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[1], bubbles: true}))", name, key
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    truth = report.Truth(np.array([5.0, 10.0]), np.array([70.0, np.nan]))
    report.write_report(make_result(folder, name="me & <b>you.mp4"), folder / "report.html", truth=truth)
    return folder / "report.html"


def test_page_opens_and_says_what_was_found(browser, page):
    show(browser, page)
    assert text(browser, "name") == "me & <b>you.mp4"
    assert "71.0 bpm" in text(browser, "headline")
    assert "6 of 6 windows" in text(browser, "headline")
    assert text(browser, "clock") == "10.0 s: 71 bpm (66 to 77)", "starts at the surest window"
    assert "NaN" not in browser.execute_script("return document.body.innerText")
    names = browser.execute_script("return document.getElementById('rate').data.map(trace => trace.name)")
    assert names[-2:] == ["truth", "pulse rate"]


def test_slider_and_play_go_through_the_windows(browser, page):
    show(browser, page)
    browser.execute_script(
        "const s = document.getElementById('time'); s.value = 2; s.dispatchEvent(new Event('input'))"
    )
    assert text(browser, "clock").startswith("7.0 s")
    browser.execute_script("document.getElementById('play').click()")
    assert text(browser, "play") == "Pause"
    wait(lambda: text(browser, "clock").startswith("10.0 s"))
    wait(lambda: text(browser, "play") == "Play")


def test_click_on_a_place_shows_its_rates(browser, page):
    show(browser, page)
    browser.execute_script("""
        const canvas = document.getElementById('map'), box = canvas.getBoundingClientRect();
        const [w, h] = [box.width / 160, box.height / 120];
        const at = (x, y) => ({clientX: box.left + x * w, clientY: box.top + y * h});
        canvas.dispatchEvent(new MouseEvent('click', at(80, 56)));
        canvas.dispatchEvent(new MouseEvent('mousemove', at(80, 56)));
    """)
    assert text(browser, "place-title") == "Place at 80, 56 px: 90 bpm, confidence 0.60"
    assert text(browser, "tip") == "90 bpm"
    shares = browser.execute_script("return Array.from(document.getElementById('spectrum').data[0].y)")
    assert AXIS[int(np.argmax(shares))] == 90
    votes = browser.execute_script("return Array.from(document.getElementById('votes').data[0].y)")
    assert (sum(votes), votes[int(np.argmax(AXIS == 70))]) == (20, 19)


def test_every_layer_has_its_own_scale_and_paints(browser, page):
    show(browser, page)
    seen = set()
    for layer in ("rate", "confidence", "deviation", "amplitude", "snr"):
        browser.execute_script(f"document.querySelector('input[value={layer}]').click()")
        picture = browser.execute_script("return document.getElementById('map').toDataURL()")
        seen.add((text(browser, "bar-label"), text(browser, "bar-low"), picture))
    assert len(seen) == 5
    assert "Not a map of perfusion" in browser.execute_script(
        "document.querySelector('input[value=amplitude]').click();"
        "return document.getElementById('layer-note').textContent"
    )


def test_keyboard_alone_will_do(browser, page):
    show(browser, page)
    press(browser, None, "ArrowLeft")
    assert text(browser, "clock").startswith("9.0 s")
    before = text(browser, "place-title")
    for key in ("ArrowDown", "ArrowRight"):
        press(browser, "stage", key)
    assert text(browser, "place-title") != before
    assert text(browser, "clock").startswith("9.0 s")
    press(browser, None, " ")
    assert text(browser, "play") == "Pause"
    press(browser, None, " ")
    assert text(browser, "play") == "Play"


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844)])
def test_page_fits_screens_of_every_size(browser, page, width, height):
    show(browser, page, width, height)
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    narrow = browser.execute_script(
        "return [...document.querySelectorAll('section')].map(s => s.getBoundingClientRect().width)"
    )
    assert min(narrow) > 300


def test_page_without_a_pulse_says_so(browser, tmp_path):
    report.write_report(make_result(tmp_path, pulse=False, windows=1), tmp_path / "report.html")
    show(browser, tmp_path / "report.html")
    assert text(browser, "headline") == "No pulse found"
    assert "no pulse" in text(browser, "place-title")
    words = browser.execute_script("return document.body.innerText")
    assert not re.search(r"NaN|undefined|null", words)
