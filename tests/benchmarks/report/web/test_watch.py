"""`watch` over a real socket: what it answers, what it refuses, how it follows the records and how it ends."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.report.web.live import Pages
from benchmarks.report.web.watch import server_of
from pretrain.common.errors import InputError
from tests.benchmarks.report.records import saved
from tests.benchmarks.report.web.browsing import CHROMIUM, flags

MORE = ("delta", {"checkpoint_sha256": "9" * 64, "task": "low-shot"}, 55.0)


@pytest.fixture
def served(results):
    """The number of a port whose server follows the records, asking for them often."""
    with server_of(Pages("smoke", poll=0.05), 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def ask(port, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def raw(port, text):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(text.encode())
        return b"".join(iter(lambda: one.recv(65536), b"")).decode()


def when(found, seconds=20):
    """The first true value of ``found()``."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return value


def test_the_page_is_served_and_may_ask_its_own_server_only(pairs, served):
    answer, text = ask(served)
    assert answer.status == 200 and "beta_2" in text
    policy = re.search(r'Content-Security-Policy" content="([^"]+)', text)[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    again, body = ask(served, **{"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304 and body == ""
    head, body = ask(served, method="HEAD")
    assert head.status == 200 and body == "" and int(head.headers["Content-Length"]) == len(text.encode())


def test_other_methods_are_refused(pairs, served):
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "BREW"):
        answer, _ = ask(served, method=method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD"), method


def test_other_hosts_are_refused(pairs, served):
    others = (
        "evil.example",
        "127.0.0.1.evil.example",
        f"localhost.evil.example:{served}",
        "127.0.0.2",
        "",
        "localhost:x",
    )
    for host in others:
        answer, text = ask(served, Host=host)
        assert answer.status == 421 and "beta_2" not in text, host
    assert raw(served, "GET / HTTP/1.0\r\n\r\n").startswith("HTTP/1.0 421")
    both = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert raw(served, both).startswith("HTTP/1.0 421")
    for host in ("localhost", "LOCALHOST:9", f"127.0.0.1:{served}", f"[::1]:{served}"):
        assert ask(served, Host=host)[0].status == 200, host


def test_paths_outside_are_refused(pairs, served):
    outside = "/runs", "/../../etc/passwd", "//etc/passwd", "/%2e%2e/x", "/index.html", "/?a", "http://localhost/"
    for path in outside:
        answer, text = ask(served, path)
        assert answer.status == 404 and "root:" not in text, path


def test_the_page_follows_the_records_from_none_on(results, served):
    assert "There is no report yet: no recorded run of profile smoke" in ask(served)[1]
    assert str(results) not in ask(served)[1]
    first = json.loads(ask(served, "/version")[1])
    assert first["error"] == ""
    saved(MORE)
    second = when(lambda: (found := json.loads(ask(served, "/version")[1]))["version"] != first["version"] and found)
    assert second["error"] == "" and "delta" in ask(served)[1]
    before = ask(served)[0].headers["ETag"]
    (path,) = results.glob("runs/*/*.json")
    path.write_text("{")  # a broken one: the page before stays, with the reason
    found = when(lambda: json.loads(ask(served, "/version")[1])["error"])
    assert found.startswith("no recorded run of profile smoke") and str(results) not in found
    assert ask(served)[0].headers["ETag"] == before


def test_a_port_that_is_taken_or_none_is_refused_in_a_line(results):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(InputError, match="it is taken: give another one"):
            main(["watch", "--port", str(other.getsockname()[1])])
    with pytest.raises(InputError, match="give 1 to 65535"):
        main(["watch", "--port", "70000"])


def test_it_ends_cleanly_with_ctrl_c(results):
    saved(("beta_2", {}, "out of memory"))
    command = [sys.executable, "-m", "benchmarks", "watch", "smoke", "--port", "0"]
    root = Path(__file__).parents[4]
    one = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        port = int(re.search(r":(\d+)/", one.stdout.readline())[1])
        assert "beta_2" in ask(port)[1]
        one.send_signal(signal.SIGINT)
        _, said = one.communicate(timeout=20)
    finally:
        one.kill()
    assert one.returncode == 0 and "Traceback" not in said and said.splitlines()[-1] == "ended"


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package chromium")
def test_a_browser_loads_the_next_page_and_keeps_filters_and_sorting(pairs, served):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags())
        page, said = browser.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"http://127.0.0.1:{served}/")
        page.fill("[name=text]", "ta")
        page.select_option("[name=delta]", label="beta_2")
        page.click(".sort[data-column='0']")
        page.locator("tr.row:not([hidden]) .cell").first.focus()
        saved(MORE)
        when(lambda: page.locator("tr.row").count() == 4)
        shown = page.eval_on_selector_all("tr.row:not([hidden]) th.name", "all => all.map(one => one.textContent)")
        assert shown == ["delta", "beta_2"]
        assert (
            page.input_value("[name=text]") == "ta" and "beta_2" in page.locator("[name=delta] :checked").text_content()
        )
        assert page.locator("th[aria-sort=descending]").count() == 1
        assert page.evaluate("document.activeElement.className") == "cell"
        page.locator("tr.row:not([hidden]) .cell").first.click()  # an open drawer is not taken away
        saved(("epsilon", {"checkpoint_sha256": "8" * 64, "task": "low-shot"}, 1.0))
        when(lambda: page.text_content("#watch-note") == "There are newer records.")
        assert page.locator("#drawer").is_visible()
        assert said == []
        browser.close()
