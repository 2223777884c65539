"""Chromium for the tests of the report."""

import os
import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def flags():
    return ["--no-sandbox"] if os.getuid() == 0 else []
