"""Which browser, started how: the same for photographs, browser tests and the slider's bench."""

from __future__ import annotations

import os
import shutil

FLAGS = (
    "--no-sandbox",  # a container's root cannot use the sandbox; only our own pages are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MACOS_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome: ARLAB_CHROMIUM, one on the PATH, or the one that `playwright install` put down."""
    named = os.environ.get("ARLAB_CHROMIUM")
    if named:
        if not shutil.which(named):
            raise FileNotFoundError(f"ARLAB_CHROMIUM is {named!r}, which is not a program that can be run")
        return shutil.which(named)
    for name in (*CHROMIUM_NAMES, MACOS_CHROME):
        found = shutil.which(name)
        if found:
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if os.path.exists(own) else None
