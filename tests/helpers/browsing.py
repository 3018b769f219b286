"""Headless Chromium, which .ci/run installs, and what a page shows in it."""

import base64
import contextlib
import io
import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image


@contextlib.contextmanager
def open_browser(*arguments):
    """A browser, with further arguments; skips the test where there is none."""
    chromium, service = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (chromium and service):
        assert not os.environ.get("PULSE3D_BROWSER"), "chromium and chromedriver are missing"
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    usual = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    for argument in (*usual, *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(service))
    try:
        yield driver
    finally:
        driver.quit()


def wait(condition):
    deadline = time.time() + 60
    while not (value := condition()):
        assert time.time() < deadline
        time.sleep(0.05)
    return value


def text(browser, name):
    return browser.execute_script(f"return document.getElementById('{name}').textContent")


def picture(browser, name):
    """What a canvas shows, as an array of RGB."""
    url = browser.execute_script(f"return document.getElementById('{name}').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"), float)
