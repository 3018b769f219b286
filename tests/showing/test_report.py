"""The page: what it holds, and how it behaves in a browser."""

import base64
import dataclasses
import gzip
import io
import json
import os
import re
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from helpers.browsing import open_browser, picture, text, wait
from helpers.results import AXIS, make_result
from PIL import Image

from pulse3d import video
from pulse3d.errors import InputError
from pulse3d.reading.readout import Reading
from pulse3d.reading.regions import Region
from pulse3d.showing import outputs, report
from pulse3d.showing.truth import Truth

LAYERS = ("rate", "confidence", "deviation", "amplitude", "snr", "phase")


def header(page):
    """What the page's block of data says of itself."""
    block = re.search(r'id="data">([^<]*)<', page)[1]
    data = gzip.decompress(base64.b64decode(block))
    return json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])


@pytest.mark.slow
def test_a_long_video_stays_small_and_the_page_says_what_it_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MAX_BYTES", 500_000)
    # noise: nothing compresses worse
    data = report.make_page(make_result(tmp_path, windows=900, noise=True))
    said = header(data)
    assert len(re.search(r'id="data">([^<]*)<', data)[1]) <= 500_000
    shown = said["windows"]
    assert 150 < len(shown) < 900
    assert (shown[0], shown[-1]) == (0, 899)
    assert np.ptp(np.diff(shown)) <= 1, "evenly spaced"
    assert f"maps of {len(shown)} of 900 windows" in said["note"]
    assert len(said["rate"]["rate_bpm"]) == 900, "the rate over time is whole"


def test_what_a_page_holds_beside_its_maps_is_below_four_megabytes():
    page = Path(report.__file__).parent / "page"
    own = sum(path.stat().st_size for path in page.iterdir() if path.is_file())
    assert report.MAX_BYTES + own + outputs.FILM_BYTES * 4 / 3 < 8_000_000


def test_places_have_their_rates_between_those_of_the_axis_too(tmp_path):
    found = make_result(tmp_path)
    found = dataclasses.replace(found, rate_bpm=found.rate_bpm + 0.37)
    maps = report._quantised_maps(found, np.zeros_like(found.rate_bpm), np.arange(6), 1)
    stored = maps.arrays["place_rate"]
    known = stored != report.NO_RATE
    np.testing.assert_array_equal(known, np.isfinite(found.rate_bpm))
    np.testing.assert_allclose(stored[known] / report.RATE_STEPS, found.rate_bpm[known], atol=0.006)


def test_a_short_video_is_whole(tmp_path):
    said = header(report.make_page(make_result(tmp_path)))
    assert (said["windows"], said["note"]) == (list(range(6)), "")


def test_places_that_stand_for_those_around_them_stay_where_they_are(tmp_path, monkeypatch):
    found = make_result(tmp_path)
    monkeypatch.setattr(report, "MAX_VALUES", 10 * 20 * len(AXIS) // 4)
    said = header(report.make_page(found))
    assert "one in 2 of the rows" in said["note"]
    left, right, bottom, top = said["extent_px"]
    for near, far, centres, whole in (
        (left, right, "col_px", found.col_px),
        (top, bottom, "row_px", found.row_px),
    ):
        np.testing.assert_allclose(said[centres], whole[::2])
        edges = np.linspace(near, far, len(said[centres]) + 1)
        np.testing.assert_allclose((edges[1:] + edges[:-1]) / 2, said[centres])


@pytest.mark.parametrize("amplitude", [0.0, np.nan])
def test_a_scale_has_a_width_whatever_is_on_it(tmp_path, amplitude):
    found = make_result(tmp_path)
    found = dataclasses.replace(found, amplitude_percent=np.full_like(found.rate_bpm, amplitude))
    scale = header(report.make_page(found))["scales"]["amplitude"]
    assert scale["low"] < scale["high"]


def test_a_file_name_that_is_no_text_is_written(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")  # latin-1, read as UTF-8
    report.write_report(make_result(tmp_path, name=name), tmp_path / "report.html")
    assert b"<title>caf?.mp4</title>" in (tmp_path / "report.html").read_bytes()


def test_page_loads_nothing_and_text_from_outside_is_no_markup(tmp_path):
    page = report.make_page(make_result(tmp_path, name="</title><script>alert(1)</script>.mp4"))
    assert "<script>alert" not in page
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page)
    assert tags
    assert not [tag for tag in tags if "src=" in tag or "href=" in tag]
    assert "default-src 'none'" in page, "and the browser holds it to that"


def test_failed_page_leaves_nothing(tmp_path):
    found = dataclasses.replace(make_result(tmp_path), folder=tmp_path / "missing")
    with pytest.raises(InputError, match="not a folder of results"):
        report.write_report(found, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.fixture(scope="module")
def browser():
    with open_browser() as driver:
        yield driver


def show(browser, page: Path, width=1366, height=768):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    wait(lambda: browser.execute_script("return document.body.dataset.ready"))
    assert browser.get_log("browser") == []


def press(browser, *names):
    """Presses keys, as a hand does; returns the focused element's id, or else its value."""
    from selenium.webdriver import ActionChains, Keys

    ActionChains(browser).send_keys(*(getattr(Keys, name) for name in names)).perform()
    return browser.execute_script("return document.activeElement.id || document.activeElement.value")


def click(browser, name, across, down=0.5):
    """Clicks on an element, at shares of its width and height, as a hand does."""
    from selenium.webdriver import ActionChains

    element = browser.find_element("id", name)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    x, y = (
        round((share - 0.5) * element.size[side]) for share, side in ((across, "width"), (down, "height"))
    )
    ActionChains(browser).move_to_element_with_offset(element, x, y).click().perform()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    truth = Truth(np.array([5.0, 10.0]), np.array([70.0, np.nan]))
    report.write_report(make_result(folder, name="me & <b>you.mp4"), folder / "report.html", truth=truth)
    return folder / "report.html"


@pytest.mark.slow
def test_page_opens_and_says_what_was_found(browser, page):
    show(browser, page)
    assert text(browser, "name") == "me & <b>you.mp4"
    assert "71.0 bpm" in text(browser, "headline")
    assert "6 of 6 windows" in text(browser, "headline")
    assert text(browser, "clock") == "10.0 s: 71 bpm (66 to 77)", "starts at the surest window"
    assert "NaN" not in browser.execute_script("return document.body.innerText")
    names = browser.execute_script("return document.getElementById('rate').data.map(trace => trace.name)")
    assert names[-2:] == ["truth", "pulse rate"]


@pytest.mark.slow
def test_slider_and_play_go_through_the_windows(browser, page):
    show(browser, page)
    browser.execute_script(
        "const s = document.getElementById('time'); s.value = 2; s.dispatchEvent(new Event('input'))"
    )
    assert text(browser, "clock").startswith("7.0 s")
    click(browser, "play", 0.5)
    assert text(browser, "play") == "Pause"
    wait(lambda: text(browser, "clock").startswith("10.0 s"))
    wait(lambda: text(browser, "play") == "Play")


def test_click_on_a_place_shows_its_rates(browser, page):
    show(browser, page)
    place_over_time = "return Array.from(document.getElementById('place-rate').data.at(-1).y)"
    assert browser.execute_script(place_over_time) == [70] * 6
    # the picture of 160 x 120 px is fitted into the canvas
    width, height = browser.find_element("id", "map").size.values()
    scale = min(width / 160, height / 120)
    click(browser, "map", 0.5, 0.5 + (56 - 60) * scale / height)
    assert browser.execute_script(place_over_time) == [90] * 6
    assert text(browser, "place-title") == "Place at 80, 56 px: 90 bpm, confidence 0.60"
    assert text(browser, "tip") == "90 bpm"
    shares = browser.execute_script("return Array.from(document.getElementById('spectrum').data[0].y)")
    assert AXIS[int(np.argmax(shares))] == 90
    votes = browser.execute_script("return Array.from(document.getElementById('votes').data[0].y)")
    assert (sum(votes), votes[int(np.argmax(AXIS == 70))]) == (20, 19)


def test_every_layer_has_its_own_scale_and_paints(browser, page):
    show(browser, page)
    seen = set()
    for layer in LAYERS:
        browser.execute_script(f"document.querySelector('input[value={layer}]').click()")
        picture = browser.execute_script("return document.getElementById('map').toDataURL()")
        ticks = browser.execute_script(
            "return [...document.getElementById('bar-ticks').children].map(tick => tick.textContent)"
        )
        scale = header(page.read_text())["scales"][layer]
        numbers = [float(tick.replace("\u2212", "-")) for tick in ticks]
        np.testing.assert_allclose([numbers[0], numbers[-1]], [scale["low"], scale["high"]], atol=0.05)
        assert (np.diff(numbers) > 0).all()
        assert len(numbers) > 2
        seen.add((text(browser, "bar-label"), *ticks, picture))
    assert len(seen) == len(LAYERS)
    assert "Not a map of perfusion" in browser.execute_script(
        "document.querySelector('input[value=amplitude]').click();"
        "return document.getElementById('layer-note').textContent"
    )


@pytest.mark.slow
def test_colours_of_bar_and_map_are_those_of_the_scale(browser, tmp_path):
    """Over a black frame what is seen is the colour of the scale, four fifths opaque."""
    found = make_result(tmp_path)
    found = dataclasses.replace(found, frame=np.zeros_like(found.frame))
    report.write_report(found, tmp_path / "report.html")
    show(browser, tmp_path / "report.html")
    scales = header((tmp_path / "report.html").read_text())["scales"]
    browser.execute_script("const fade = document.getElementById('fade'); if (fade.checked) fade.click()")
    # of places (1, 2) and (0, 0), which beat at 90 and 70 bpm; the pulse rate is 71
    for layer, colours, values in (
        ("rate", "viridis", (90, 70)),
        ("confidence", "cividis", (0.6, 0.6)),
        ("deviation", "RdBu_r", (19, -1)),
        ("amplitude", "magma", (0.1, 0.1)),
        ("snr", "cividis", (-3, -3)),
        ("phase", "twilight_shifted", (None, 0)),
    ):
        browser.execute_script(f"document.querySelector('input[value={layer}]').click()")
        table = np.round(255 * matplotlib.colormaps[colours](np.linspace(0, 1, 256))[:, :3])
        bar = picture(browser, "bar-colours")[0]
        np.testing.assert_allclose(bar, table, atol=1)
        low, high = scales[layer]["low"], scales[layer]["high"]
        painted = picture(browser, "map")
        for (x, y), value in zip(((80, 56), (48, 40)), values, strict=True):
            # 8 px of the canvas for one of the video
            expected = 0.8 * table[round(255 * (value - low) / (high - low))] if value is not None else 0
            np.testing.assert_allclose(painted[8 * y, 8 * x], expected, atol=4, err_msg=layer)


def test_keyboard_alone_will_do(browser, page):
    show(browser, page)
    press(browser, "ARROW_LEFT")
    assert text(browser, "clock").startswith("9.0 s")
    assert press(browser, "TAB") == "rate"
    assert press(browser, "ARROW_RIGHT") == "confidence", "arrows choose among the layers"
    assert text(browser, "bar-label").startswith("confidence")
    # the confidence is not faded by itself
    assert [press(browser, "TAB") for _ in range(3)] == ["threshold", "opacity", "stage"]
    before = text(browser, "place-title")
    press(browser, "ARROW_UP", "ARROW_LEFT", "ARROW_DOWN", "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_DOWN")
    assert text(browser, "place-title") != before
    assert text(browser, "clock").startswith("9.0 s"), "arrows move the place"
    assert press(browser, "TAB") == "play"
    press(browser, "SPACE")
    assert text(browser, "play") == "Pause"
    press(browser, "SPACE")
    assert text(browser, "play") == "Play"
    assert press(browser, "TAB") == "time"
    press(browser, "HOME")
    assert text(browser, "clock").startswith("5.0 s")
    press(browser, "SPACE")
    assert text(browser, "play") == "Pause"


def test_an_axis_has_two_numbers_or_more(browser, page):
    show(browser, page)
    for low, high, count in ((-0.45, 0.45, 3.9), (-0.19, 0.2, 3.9), (0, 1, 2), (61, 66, 4), (0.02, 0.029, 3)):
        found = browser.execute_script("return ticks(...arguments)", low, high, count)
        assert 2 <= len(found) <= 2 * count + 1, (low, high, found)
        np.testing.assert_allclose(
            [float(text.replace("\u2212", "-")) for _, text in found], [v for v, _ in found]
        )


@pytest.mark.parametrize("name", ["play", "layers", "threshold", "compare", "zoom-in", "rate"])
def test_keys_work_after_any_click(browser, page, name):
    show(browser, page)
    click(browser, name, 0.1)
    if name == "play":
        click(browser, name, 0.1)
    before = text(browser, "clock")
    press(browser, "ARROW_RIGHT" if before.startswith("5.0 s") else "ARROW_LEFT")  # the first has none before
    assert text(browser, "clock") != before
    press(browser, "SPACE")
    assert text(browser, "play") == "Pause"


def test_after_a_click_on_the_map_the_keys_are_its_own_until_escape(browser, page):
    show(browser, page)
    click(browser, "map", 0.5)
    clock, place = text(browser, "clock"), text(browser, "place-title")
    press(browser, "ARROW_LEFT")
    assert (text(browser, "clock"), text(browser, "place-title") == place) == (clock, False)
    press(browser, "ESCAPE")
    press(browser, "ARROW_LEFT")
    assert text(browser, "clock") != clock


def test_what_is_in_focus_is_seen(browser, page):
    show(browser, page)
    outlined = (
        "const one = document.activeElement, shown = one.type === 'radio' ? one.nextElementSibling : one;"
        "return parseFloat(getComputedStyle(shown).outlineWidth)"
    )
    for _ in range(5):
        press(browser, "TAB")
        assert browser.execute_script(outlined) >= 2


def test_click_on_the_rate_over_time_goes_there(browser, page):
    show(browser, page)
    click(browser, "rate", 0.1)
    assert text(browser, "clock").startswith("5.0 s")
    click(browser, "rate", 0.9, 0.3)
    assert text(browser, "clock").startswith("10.0 s")
    assert browser.execute_script("return document.getElementById('rate').layout.cursor") == 10


def test_rate_over_time_has_gaps_and_a_window_alone_its_interval(browser, tmp_path):
    report.write_report(make_result(tmp_path, gaps=(0, 2, 5)), tmp_path / "report.html")
    show(browser, tmp_path / "report.html")
    interval, rate = browser.execute_script(
        "return document.getElementById('rate').data.map(t => [t.name, Array.from(t.x), Array.from(t.y)])"
    )
    assert interval[0] == "90 % interval"
    assert interval[1] == [5.5, 6.5, 6.5, 5.5, None, 8, 9, 9, 8, None]
    assert interval[2] == [66, 66, 77, 77, None, 66, 66, 77, 77, None]
    assert rate[2] == [None, 71, None, 71, 71, None]


@pytest.mark.slow
def test_rates_may_be_more_than_a_byte_counts(browser, tmp_path):
    found = make_result(tmp_path, axis=np.arange(40.0, 201.0, 0.25))
    report.write_report(dataclasses.replace(found, rate_bpm=found.rate_bpm + 100), tmp_path / "report.html")
    show(browser, tmp_path / "report.html")
    assert "170 bpm" in text(browser, "place-title")
    votes = browser.execute_script("return Array.from(document.getElementById('votes').data[0].y)")
    assert votes[4 * (170 - 40)] == 19


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844)])
def test_page_fits_screens_of_every_size(browser, page, width, height):
    show(browser, page, width, height)
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    narrow = browser.execute_script(
        "return [...document.querySelectorAll('section:not([hidden])')]"
        ".map(s => s.getBoundingClientRect().width)"
    )
    assert min(narrow) > 300


@pytest.fixture(scope="module")
def page_with_film(tmp_path_factory):
    """The frame turns from black to red after half of the time."""
    folder = tmp_path_factory.mktemp("film")
    images = np.zeros((30 * 15, 120, 160, 3), np.uint8)
    images[30 * 15 // 2 :, ..., 0] = 200
    video.write_mp4(folder / "film.mp4", images, 30.0)
    found = make_result(folder, windows=12)
    film = (folder / "film.mp4").read_bytes()
    report.write_report(found, folder / "report.html", film=film)
    return folder / "report.html"


@pytest.mark.parametrize(
    ("duration_s", "kbit_s"), [(10.0, 150.0), (68.0, 150.0), (200.0, 100.0), (600.0, None)]
)
def test_a_film_fits_into_the_page_or_is_left_out(duration_s, kbit_s):
    film = outputs.plan_film(Path("film.mp4"), duration_s)
    assert film == (kbit_s and video.Film(Path("film.mp4"), 400, kbit_s, 15.0))


def test_the_video_is_seen_at_the_time_of_the_window(browser, page_with_film):
    show(browser, page_with_film)
    for window, red in ((0, 0), (11, 200)):
        browser.execute_script(
            "const s = document.getElementById('time'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input'))", window,
        )  # fmt: skip
        wait(lambda red=red: abs(picture(browser, "map")[4, 4] - [red, 0, 0]).max() < 25)


def test_the_video_plays_in_step_with_windows_and_wave(browser, page_with_film):
    show(browser, page_with_film)
    press(browser, "HOME")
    browser.execute_script(
        "const s = document.getElementById('time'); s.value = 0; s.dispatchEvent(new Event('input'))"
    )
    at = "return document.getElementById('wave').layout.cursor"
    started = wait(lambda: browser.execute_script(at))
    click(browser, "play", 0.5)
    wait(lambda: browser.execute_script(at) > started + 1.2)
    now_s = browser.execute_script(at)
    clock_s = float(text(browser, "clock").partition(" s")[0])
    assert abs(clock_s - max(now_s, 5)) <= 1.5
    click(browser, "play", 0.5)
    assert text(browser, "play") == "Play"
    stopped = browser.execute_script(at)
    time.sleep(0.3)
    assert browser.execute_script(at) == stopped


def test_dark_and_light_have_their_own_colours(browser, page):
    grounds = []
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        show(browser, page)
        ground = "return getComputedStyle(document.body).backgroundColor"
        grounds.append([int(v) for v in re.findall(r"\d+", browser.execute_script(ground))])
        ink = "return getComputedStyle(document.body).color"
        inks = [int(v) for v in re.findall(r"\d+", browser.execute_script(ink))]
        assert abs(np.mean(inks) - np.mean(grounds[-1])) > 150, "text is seen"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert np.mean(grounds[0]) > 200 > 60 > np.mean(grounds[1])


@pytest.mark.slow
def test_page_without_a_pulse_says_so(browser, tmp_path):
    report.write_report(make_result(tmp_path, pulse=False), tmp_path / "report.html")
    show(browser, tmp_path / "report.html")
    assert text(browser, "headline") == "No pulse found in any of 6 windows"
    assert "no pulse" in text(browser, "place-title")
    words = browser.execute_script("return document.body.innerText")
    assert not re.search(r"NaN|undefined|null", words)
    assert "It opened at" not in words
    assert not browser.execute_script("return document.getElementById('place-rate').layout.legend")


def set_to(browser, name, value):
    browser.execute_script(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input'))",
        name,
        value,
    )


def pixels(browser, x, y):
    """The colours of the map around x, y of the frame of 160 x 120 px, where 8 px are one of the frame."""
    script = (
        "const part = Object.assign(document.createElement('canvas'), {width: 16, height: 16});"
        "const map = document.getElementById('map');"
        "part.getContext('2d').drawImage(map, arguments[0], arguments[1], 16, 16, 0, 0, 16, 16);"
        "return part.toDataURL()"
    )
    url = browser.execute_script(script, 8 * x, 8 * y)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"), float)


def curves(browser, name):
    return browser.execute_script(f"return document.getElementById('{name}').data.map(t => Array.from(t.y))")


def click_on(browser, x, y, *, shift=False):
    """Clicks on the map where the frame of 160 x 120 px has x, y."""
    from selenium.webdriver import ActionChains, Keys

    element = browser.find_element("id", "map")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    width, height = element.size["width"], element.size["height"]
    scale = min(width / 160, height / 120)
    hand = ActionChains(browser)
    if shift:
        hand.key_down(Keys.SHIFT)
    hand.move_to_element_with_offset(element, round((x - 80) * scale), round((y - 60) * scale)).click()
    hand.key_up(Keys.SHIFT).perform()


def test_page_opens_at_the_window_most_like_the_median_map(tmp_path):
    found = make_result(tmp_path)
    drifting = found.rate_bpm + np.array([-4, -2, -1, 0, 2, 4.0])[:, None, None]
    said = header(report.make_page(dataclasses.replace(found, rate_bpm=drifting)))
    assert said["start_window"] in (2, 3)
    assert np.argmax(found.pulse_confidence) == 5


def test_what_is_below_the_threshold_is_not_shown_and_opacity_is_what_is_set(browser, page):
    show(browser, page)
    pictures = {}
    for threshold, opacity in ((0, 0.8), (0.55, 0.8), (0.65, 0.8), (0, 0.4), (0, 0)):
        set_to(browser, "threshold", threshold)
        set_to(browser, "opacity", opacity)
        pictures[threshold, opacity] = pixels(browser, 90, 60)
    usual, kept, hidden, faint, bare = pictures.values()
    np.testing.assert_array_equal(usual, kept)
    np.testing.assert_array_equal(hidden, bare)
    np.testing.assert_allclose(faint, (usual + bare) / 2, atol=3)
    assert text(browser, "opacity-value") == "0.00"


@pytest.mark.parametrize("how", ["shift", "button"])
def test_two_places_are_compared(browser, page, how):
    show(browser, page)
    click_on(browser, 48, 40)
    if how == "button":
        click(browser, "compare", 0.5)
    click_on(browser, 80, 56, shift=how == "shift")
    assert text(browser, "place-title") == "Place at 48, 40 px: 70 bpm, confidence 0.60"
    assert text(browser, "other-title") == "Place at 80, 56 px: 90 bpm, confidence 0.60"
    first, second, *read = curves(browser, "spectrum")
    assert [AXIS[np.argmax(y)] for y in (first, second)] == [70, 90]
    dashed = browser.execute_script(
        "return document.getElementById('spectrum').data.slice(2).map(line => line.x)"
    )
    assert dashed == [[70, 70], [90, 90]], "the rates that were read"
    assert len(read) == 2
    counts = [np.sum(np.diff(np.sign(np.array(y, float) + 0.01)) != 0) for y in curves(browser, "place-wave")]
    np.testing.assert_allclose(counts, [2 * 70 / 6, 2 * 90 / 6], atol=1)
    assert curves(browser, "place-rate")[1:] == [[70] * 6, [90] * 6]
    click(browser, "compare", 0.5)
    assert len(curves(browser, "spectrum")) == 2


def test_waves_of_places_come_back_as_they_were(browser, tmp_path):
    found = make_result(tmp_path)
    report.write_report(found, tmp_path / "report.html")
    show(browser, tmp_path / "report.html")
    click_on(browser, 80, 56)
    (shown,) = curves(browser, "place-wave")
    (wave,) = found.place_waves(np.array([7]))
    inside = abs(wave.time_s - 10) <= 5
    np.testing.assert_allclose(shown, wave.percent[inside], atol=0.005)


def test_of_too_many_places_the_surest_have_waves(tmp_path, monkeypatch):
    found = make_result(tmp_path)
    monkeypatch.setattr(report, "MAX_WAVE_VALUES", 3 * len(found.frame_s) + 1)
    confidence = found.confidence.copy()
    confidence[:, [0, 2, 3], [1, 0, 4]] = 0.9
    said = header(report.make_page(dataclasses.replace(found, confidence=confidence)))
    assert said["wave_places"]["places"] == [1, 10, 19]


def test_the_map_is_magnified_around_a_place_and_clicks_are_where_they_seem(browser, page):
    show(browser, page)
    click_on(browser, 80, 56)
    before = pixels(browser, 100, 50)
    click(browser, "zoom-in", 0.5)
    assert (pixels(browser, 100, 50) != before).any()
    # the chosen place stays where it is: a place of 16 px beside it is 32 px away
    click_on(browser, 80 + 32, 56)
    assert text(browser, "place-title").startswith("Place at 96, 56 px")
    click(browser, "zoom-out", 0.5)
    assert not browser.find_element("id", "zoom-out").is_enabled()
    click_on(browser, 80, 56)
    np.testing.assert_array_equal(pixels(browser, 100, 50), before)


@pytest.mark.slow
def test_map_rates_and_waves_are_saved(browser, page, tmp_path):
    options = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", options)
    show(browser, page)
    click_on(browser, 80, 56)
    for name in ("save-map", "save-rates", "save-waves"):
        click(browser, name, 0.5)
    files = {"me & _b_you_rate.png", "me & _b_you_rates.csv", "me & _b_you_wave.csv"}
    wait(lambda: {path.name for path in tmp_path.iterdir()} == files)
    image = np.asarray(Image.open(tmp_path / "me & _b_you_rate.png").convert("RGB"), float)
    np.testing.assert_allclose(image[:960, :1280], picture(browser, "map"), atol=1)
    assert image.shape[0] > 960, "with the colour bar below"
    rates = np.genfromtxt(tmp_path / "me & _b_you_rates.csv", delimiter=",", names=True)
    assert rates.dtype.names == ("time_s", "pulse_rate_bpm", "low_bpm", "high_bpm", "confidence")
    np.testing.assert_allclose(rates["pulse_rate_bpm"], 71)
    waves = np.genfromtxt(tmp_path / "me & _b_you_wave.csv", delimiter=",", names=True)
    assert waves.dtype.names == ("time_s", "frame_percent", "place_80_56_px_percent")
    assert len(waves) == 225


def test_regions_have_a_table_and_lines_and_words_say_what_was_found(browser, tmp_path):
    sides = np.tile(np.arange(5) < 2, (4, 1))
    parts = [
        Region(places, [Reading(rate, rate - 1, rate + 1, 0.9)] * 6)
        for places, rate in ((sides, 70.0), (~sides, 120.0))
    ]
    report.write_report(make_result(tmp_path, parts=parts), tmp_path / "report.html")
    show(browser, tmp_path / "report.html")
    rows = "[...document.querySelectorAll('#regions tr')]"
    cells = f"return {rows}.map(row => [...row.children].map(cell => cell.textContent))"
    first, second = browser.execute_script(cells)
    assert first[:5] == ["1", "70.0", "69.0 to 71.0", "0.900", "6 of 6"]
    assert second[:2] == ["2", "120.0"]
    assert curves(browser, "rate")[1:4] == [[71] * 6, [70] * 6, [120] * 6], "the regions over the frame"
    said = text(browser, "words")
    assert said.startswith("The pulse rate is 71.0 bpm (90 % interval 66 to 77).")
    assert "2 regions have a rate of their own: 70, 120 bpm." in said


def test_of_one_window_nothing_is_drawn_over_time(browser, tmp_path):
    report.write_report(make_result(tmp_path, windows=1), tmp_path / "report.html")
    show(browser, tmp_path / "report.html")
    assert not browser.find_element("id", "rate").is_displayed()
    assert browser.find_element("id", "wave").is_displayed()
    assert "71.0 bpm" in text(browser, "headline")


def test_limits_of_the_rate_are_those_asked_for(tmp_path):
    found = make_result(tmp_path)
    for options, expected in (({}, (40, 140)), ({"limits_bpm": (50.0, 90.0)}, (50, 90))):
        scale = header(report.make_page(found, **options))["scales"]["rate"]
        assert (scale["low"], scale["high"]) == expected
