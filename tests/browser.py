"""A real Chromium for the tests of pages: headless, without a profile, and telling what it asks the network for."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENT = 60


def program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, f"these tests need {names[0]}: apt-get install chromium chromium-driver"
    return found


@contextmanager
def browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser whose profile is a folder of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
    try:
        driver.get("data:,")  # leaves the browser's own first page, whose requests are none of the tests'
        requests(driver)
        yield driver
    finally:
        driver.quit()


def look(driver: webdriver.Chrome, file: Path, width: int, dark: bool = False) -> None:
    """Open a file at a width, in light or dark, and wait until its charts are drawn."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    driver.get(file.as_uri())
    WebDriverWait(driver, PATIENT).until(lambda one: one.execute_script("return document.documentElement.dataset.drawn"))


def requests(driver: webdriver.Chrome) -> list[str]:
    """Every address that was asked for since this was last called."""
    events: list[dict[str, Any]] = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def printed(driver: webdriver.Chrome) -> bytes:
    """The page on A4 paper, as PDF."""
    paper = {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69}
    return base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", paper)["data"])
