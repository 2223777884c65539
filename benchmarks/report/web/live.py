"""The report's page that follows the records: made anew, in a thread of its own, when they have changed and a browser
asks. Imports no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
import time

from benchmarks.records import ResultsStore, attempt_files
from benchmarks.report.web.command import gathered, html_of
from benchmarks.report.web.page import Live, waiting_page
from benchmarks.report.web.runs import forget, read_facts
from benchmarks.sharing.imported import import_store, imports
from pretrain.common.errors import InputError, in_one_line, printable
from pretrain.common.files import results_dir

POLL = 2.0  # seconds between two questions of a browser
REST = 4  # times the seconds that a page took, before the next one: a suite is running beside


@dataclasses.dataclass(frozen=True)
class Made:
    """A page, and the digest of the records that it is of. ``waits``: it only says why there is no report yet."""

    text: bytes
    version: str
    waits: bool


class Pages:
    """The page of the newest records of ``runs``, a profile or a suite, as `report` takes them."""

    def __init__(self, runs: str | None, poll: float = POLL, *, pictures: bool = True) -> None:
        self.runs, self.poll, self.pictures = runs, poll, pictures
        self.error = ""  # why the last attempt gave no page
        self._made: Made | None = None
        self._tried = ""
        self._there = threading.Condition()
        self._asked = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def ask(self) -> None:
        """Have the page made anew if records have changed; returns at once."""
        self._asked.set()

    def newest(self) -> Made:
        """The last page that was made; waits for the first one."""
        self.ask()
        with self._there:
            self._there.wait_for(lambda: self._made is not None)
            assert self._made is not None
            return self._made

    def _follow(self) -> None:
        while self._asked.wait():
            self._asked.clear()
            begun = time.monotonic()
            made = self._make()
            if made:
                with self._there:
                    self._made = made
                    self._there.notify_all()
            spent = time.monotonic() - begun
            time.sleep(REST * spent)

    def _make(self) -> Made | None:
        """The page of the records as they are; None where they are as before, or the page before has to do."""
        try:
            version = state()
            if version == self._tried:
                return None
            self._tried = version
            forget()
            facts = read_facts()
            live = Live(version, self.poll)
            text = html_of(gathered(self.runs, facts), facts, live, pictures=self.pictures)
            self.error = ""
            return Made(text.encode(), version, waits=False)
        except Exception as error:
            line = in_one_line(error) or f"{type(error).__name__}: {error}"
            # The folder's place on the machine is nothing for a browser.
            self.error = printable(line.replace(str(results_dir()), "results"))[:500]
            if self._made and not self._made.waits:
                return None
            page = waiting_page(self.runs or "report", self.error, Live(self._tried, self.poll))
            return Made(page.encode(), self._tried, waits=True)


def state() -> str:
    """A digest of names, sizes and times of the record files of this machine and of its imports. InputError."""
    found = hashlib.sha256()
    for store in (ResultsStore(), *map(import_store, imports())):
        try:
            folders = sorted(entry.path for entry in os.scandir(store.root))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InputError(f"{store.root} cannot be read ({error.strerror})") from None
        for path in (path for folder in folders for path in attempt_files(store.root / folder)):
            try:
                about = path.stat()
            except OSError:  # removed meanwhile
                continue
            found.update(f"{path}\0{about.st_size}\0{about.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return found.hexdigest()[:16]
