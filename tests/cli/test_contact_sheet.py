"""The contact sheet in a real browser: photos in order, nothing fetched, readable offline."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.conftest import Run, square

SCRIPT = """
const { chromium } = require('playwright-core');
(async () => {
  const browser = await chromium.launch({ executablePath: process.argv[2], args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
  const page = await browser.newPage();
  const asked = [], problems = [];
  page.on('request', r => { if (!r.url().startsWith('data:')) asked.push(r.url()); });
  page.on('pageerror', e => problems.push(String(e)));
  page.on('console', m => { if (m.type() === 'error') problems.push(m.text()); });
  await page.goto('file://' + process.argv[3]);
  await page.evaluate(() => Promise.all([...document.images].map(i => i.loading = 'eager')));
  await page.waitForFunction(() => [...document.images].every(i => i.complete));
  const found = await page.evaluate(() => ({
    title: document.title, heading: document.querySelector('h1').textContent,
    captions: [...document.querySelectorAll('figcaption')].map(c => c.innerText), widths: [...document.images].map(i => i.naturalWidth),
    links: [...document.querySelectorAll('a.photo')].map(a => a.href), items: document.querySelectorAll('li').length }));
  console.log(JSON.stringify({ ...found, asked, problems }));
  await browser.close();
})();
"""


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs chromium")
    if shutil.which("node") is None or subprocess.run(["node", "-e", "require('playwright-core')"], capture_output=True).returncode:
        pytest.skip("needs node and playwright-core (NODE_PATH)")
    return found


def opened(path: Path) -> dict:
    """Open a page and return what is on it."""
    executable = browser()
    found = subprocess.run(
        ["node", "-e", SCRIPT, "x", executable, str(path)], capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(path.parent)}
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_a_sheet_in_a_browser(run: Run, squares: Path, tmp_path: Path) -> None:
    square(squares / '<b>odd & "quoted".png', (200, 60, 60))
    assert run("rank", "photos", "red first", "--html", "sheet.html", "-q").code == 0
    (squares / "red.png").rename(tmp_path / "gone.png")  # thumbnails are inside the page
    page = opened(tmp_path / "sheet.html")
    assert (page["title"], page["heading"], page["items"]) == ("red first", "red first", 6)
    assert page["captions"][0].splitlines()[1] in ("red.png", '<b>odd & "quoted".png')
    assert any("<b>odd" in caption for caption in page["captions"])
    assert page["widths"] == [48] * 6 and all(link.startswith("file:///") for link in page["links"])
    assert page["asked"] == [f"file://{tmp_path}/sheet.html"], "nothing but the page itself is loaded"
    assert page["problems"] == []


def test_a_sheet_without_a_browser(run: Run, squares: Path, tmp_path: Path) -> None:
    run("rank", "photos", "red first", "--format", "html", "--output", "sheet.html")
    text = (tmp_path / "sheet.html").read_text()
    assert text.startswith("<!doctype html>") and text.count("data:image/jpeg;base64,") == 5 and "http" not in text.replace("https://", "")


def test_an_unreadable_photo_keeps_its_place(run: Run, squares: Path, tmp_path: Path) -> None:
    run("embed", "photos")
    (squares / "blue.png").write_text("broken now")
    run("rank", "photos", "blue", "--no-scan", "--html", "sheet.html", "-q")
    text = (tmp_path / "sheet.html").read_text()
    assert text.count("data:image/jpeg") == 4 and text.count("not readable") == 1
