"""A real browser, saved pages in it, and one JupyterLab for the whole session.

`chromium_page`            a fresh page that fails the test on any JavaScript error or dialog
`saved_page(view)`         the view's saved page, opened without a kernel
`still_page(view)`         the same with a clock that is moved by hand
`lab_notebook(cells)`      a notebook with these cells, run from top to bottom in JupyterLab
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch, whose threads would else starve the browser
sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright (the test extra)")

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))
pytest.register_assert_rewrite("tests.browser.hands")
from tests.browser import hands  # noqa: E402
from tools.chromium import FLAGS, find_chromium  # noqa: E402


@pytest.fixture(scope="session")
def chromium() -> Iterator[sync_api.Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install one (Debian: apt install chromium) or set ARLAB_CHROMIUM to its path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


def _watched(page: sync_api.Page) -> list[str]:
    """What went wrong in the page: uncaught errors, and dialogs (a token that became a script would open one)."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"error in the page: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    return wrong


@pytest.fixture
def chromium_page(chromium) -> Iterator[sync_api.Page]:
    context = chromium.new_context(viewport={"width": 960, "height": 1000})
    context.set_default_timeout(1000 * hands.PATIENCE)
    page = context.new_page()
    wrong = _watched(page)
    yield page
    context.close()
    assert not wrong, wrong


@pytest.fixture
def saved_page(chromium_page, tmp_path) -> Callable[..., sync_api.Page]:
    """`saved_page(view, theme="light", width=960)`: save, open from disk with no network, wait until it is drawn."""

    def open_saved(view, theme: str = "light", width: int = 960) -> sync_api.Page:
        path = view.save_html(tmp_path / "view.html")
        chromium_page.context.set_offline(True)
        chromium_page.emulate_media(color_scheme=theme)
        chromium_page.set_viewport_size({"width": width, "height": 1000})
        chromium_page.goto(path.as_uri())
        chromium_page.wait_for_selector("body[data-ready='1']")
        return chromium_page

    return open_saved


@pytest.fixture
def still_page(chromium_page, saved_page) -> Callable[..., sync_api.Page]:
    """`still_page(view, ...)`: a saved page whose clock stands still; `page.clock.run_for(ms)` moves it, and draws."""

    def open_still(view, **settings) -> sync_api.Page:
        chromium_page.clock.install(time=0)
        page = saved_page(view, **settings)
        page.clock.pause_at(60_000_000)
        return page

    return open_still


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class LabServer:
    """One JupyterLab on a free loopback port; stopped by its process id."""

    def __init__(self, folder: Path):
        self.folder = folder / "notebooks"
        self.folder.mkdir()
        self.url = f"http://127.0.0.1:{_free_port()}"
        quiet = folder / "config" / "labconfig" / "page_config.json"  # no question about news over the notebook
        quiet.parent.mkdir(parents=True)
        quiet.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')
        environment = os.environ | {
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "IPYTHONDIR": str(folder / "ipython"),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep),
            "OMP_NUM_THREADS": "1",
        }
        port = self.url.rsplit(":", 1)[1]
        self.log = open(folder / "jupyter.log", "w")  # noqa: SIM115  (closed in stop)
        options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
        options += ["--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"]
        options += [f"--ServerApp.root_dir={self.folder}", "--LabApp.expose_app_in_browser=True"]
        command = [sys.executable, "-m", "jupyterlab", *options]
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log, cwd=folder)
        until = time.monotonic() + hands.PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{self.url}/api", timeout=2).close()
                return
            except OSError:
                time.sleep(0.25)
        self.stop()
        raise RuntimeError(f"JupyterLab did not start:\n{(folder / 'jupyter.log').read_text()[-2000:]}")

    def api(self, path: str, method: str = "GET"):
        request = urllib.request.Request(f"{self.url}/api/{path}", method=method)
        with urllib.request.urlopen(request, timeout=20) as reply:
            body = reply.read()
        return json.loads(body) if body else None

    def stop_kernels(self) -> None:
        for session in self.api("sessions"):
            with contextlib.suppress(OSError):
                self.api(f"sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory, chromium) -> Iterator[LabServer]:
    server = LabServer(tmp_path_factory.mktemp("jupyterlab"))
    yield server
    with contextlib.suppress(OSError):
        server.stop_kernels()
    server.stop()


def write_notebook(path: Path, cells: list[str]) -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    body = [
        {"cell_type": "code", "id": f"cell{i}", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for i, text in enumerate(cells)
    ]
    notebook = {"cells": body, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook))


@pytest.fixture
def lab_notebook(lab_server, chromium_page) -> Iterator[Callable[..., sync_api.Page]]:
    """`lab_notebook(cells, theme="JupyterLab Light")`: the page, once every cell has run without an error."""

    def open_notebook(cells: list[str], theme: str = "JupyterLab Light") -> sync_api.Page:
        name = f"{time.monotonic_ns()}.ipynb"
        write_notebook(lab_server.folder / name, cells)
        page = chromium_page
        page.goto(f"{lab_server.url}/doc/tree/{name}")
        page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        )
        hands.set_theme(page, theme)
        ran = page.evaluate("async () => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        errors = page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
        assert ran is not False and not errors, errors
        return page

    yield open_notebook
    with contextlib.suppress(OSError):
        lab_server.stop_kernels()
