"""The page in a browser: sorting, numbers and themes by keyboard alone, and on paper."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.test_page import made

pytestmark = pytest.mark.long
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}


class Browser:
    """Chromium, spoken to over its debugging pipe: messages of JSON with a zero byte between them."""

    def __init__(self, program: str, profile: Path) -> None:
        to, self.write = os.pipe()
        self.read, out = os.pipe()
        keep = [os.dup2(fd, place) for fd, place in ((to, 103), (out, 104))]
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        # Chromium reads from descriptor 3 and writes to 4.
        command = ["bash", "-c", 'exec "$@" 3<&103 4>&104 103<&- 104>&-', "_", program, *flags]
        self.process = subprocess.Popen(
            [*command, "--remote-debugging-pipe"], pass_fds=keep, stderr=subprocess.DEVNULL
        )
        for fd in (to, out, *keep):
            os.close(fd)
        self.rest, self.last, self.session = b"", 0, ""

    def call(self, method: str, **params: Any) -> Any:
        self.last += 1
        message: dict[str, Any] = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                more = os.read(self.read, 1 << 20)
                assert more, "the browser is gone"
                self.rest += more
            line, _, self.rest = self.rest.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self.last:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path: Path) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.navigate", url=path.as_uri())
        loaded = "document.readyState == 'complete' && document.querySelector('table') != null"
        while self.ask(loaded) is not True:
            pass

    def ask(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.read)
        os.close(self.write)


@pytest.fixture
def browser(tmp_path: Path, experiment: Any) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser: chromium (Debian: apt-get install chromium) is not installed")
    made(tmp_path, experiment)
    browser = Browser(program, tmp_path / "profile")
    try:
        browser.open(tmp_path / "out/report.html")
        yield browser
    finally:
        browser.close()


FOCUS = "(e => e.tagName + ' ' + (e.id || e.textContent.trim() || e.className))(document.activeElement)"
FIRST = "[...document.querySelector('table').tBodies[0].rows].map(r => r.cells[0].textContent)"


def test_by_keyboard_and_on_paper(browser: Browser) -> None:
    seen = []
    for _ in range(12):
        browser.press("Tab")
        seen.append(browser.ask(FOCUS))
    assert seen[:2] == ["A Skip to the tables", "BUTTON theme"]
    assert seen[2:8] == [f"A {word}" for word in ("Tables", "Figures", "Privacy", "Cost", "Origin", "Runs")]
    assert seen[8].startswith("DIV ")  # a table can be scrolled
    assert seen[9:12] == ["BUTTON algorithm", "BUTTON natural · AUROC", "BUTTON natural · Brier score"]

    written = browser.ask(FIRST)
    assert written == ["local", "FedAvg", "pooled"]
    browser.ask("document.querySelector('th button').focus()")
    orders = []
    for _ in range(3):
        browser.press("Enter")
        orders.append((browser.ask("document.activeElement.parentElement.ariaSort"), browser.ask(FIRST)))
    assert orders == [
        ("ascending", ["FedAvg", "local", "pooled"]),
        ("descending", ["pooled", "local", "FedAvg"]),
        ("none", written),
    ]

    browser.ask("document.querySelector('figure svg').focus()")
    browser.press("ArrowRight", 2)
    assert browser.ask("document.getElementById('tip').textContent").startswith("Large, FedAvg: −0.0900")
    assert browser.ask("document.getElementById('tip').hidden") is False
    browser.press("Escape")
    assert browser.ask("document.getElementById('tip').hidden") is True

    background = "getComputedStyle(document.body).backgroundColor"
    before = browser.ask(background)
    browser.ask("document.getElementById('theme').focus()")
    browser.press("Enter")
    assert browser.ask(background) != before
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")

    at = "c.cx.baseVal.value"
    inside = f"c => {at} > 0 && {at} < c.ownerSVGElement.viewBox.baseVal.width"
    assert browser.ask(f"[...document.querySelectorAll('.mark')].every({inside})") is True

    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.ask(background) == "rgb(255, 255, 255)"  # though the theme is dark
    assert browser.ask("getComputedStyle(document.querySelector('nav')).display") == "none"
    paper = base64.b64decode(browser.call("Page.printToPDF")["data"])
    assert paper.startswith(b"%PDF") and len(paper) > 20_000


def test_a_table_on_two_pages_has_its_head_on_both(browser: Browser, tmp_path: Path) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext (Debian: apt-get install poppler-utils) is installed")
    longer = "const b = document.querySelector('table').tBodies[0]; const one = b.rows[0];"
    browser.ask(f"{longer} for (let i = 0; i < 70; i++) b.append(one.cloneNode(true));")
    paper = tmp_path / "page.pdf"
    paper.write_bytes(base64.b64decode(browser.call("Page.printToPDF")["data"]))
    said = subprocess.run(
        ["pdftotext", "-layout", str(paper), "-"], capture_output=True, text=True, check=True
    )
    first, second, *_ = said.stdout.split("\f")
    assert "natural · AUROC" in first and "natural · AUROC" in second


def test_on_a_narrow_screen_figures_keep_their_size_and_scroll(browser: Browser) -> None:
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **metrics)
    first = "document.querySelector('figure svg')"
    points = browser.ask(f"{first}.viewBox.baseVal.width")
    assert browser.ask(f"{first}.getBoundingClientRect().width") == pytest.approx(points * 96 / 72, rel=0.01)
    figure = f"{first}.parentElement"
    assert browser.ask(f"{figure}.scrollWidth > {figure}.clientWidth")
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")  # the page itself does not
    browser.ask(f"{first}.focus()")
    before = browser.ask(f"{figure}.scrollLeft = 0")
    browser.press("ArrowLeft")  # to the last number, which is out of sight
    on = "document.querySelector('.mark.on').getBoundingClientRect()"
    assert (
        before == 0 and browser.ask(f"{figure}.scrollLeft") > 0 and browser.ask(f"{on}.right <= innerWidth")
    )
