"""A page's server in its own process, which tests may kill and start again."""

import socket
import subprocess
import sys
from contextlib import contextmanager

from conftest import wait_for
from playwright.sync_api import sync_playwright

from empathy_lib import ROOT

CHROMIUM = "/usr/bin/chromium"
# Every address that the server looks up or connects to beyond this machine is written to the file argv[1].
_AUDITED = """
import sys
def audit(event, args):
    outside = event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple) and args[1][0] != "127.0.0.1"
    if outside or event == "socket.getaddrinfo" and args[0] not in ("127.0.0.1", "localhost", None):
        open(sys.argv[1], "a").write(f"{event} {args}\\n")
sys.addaudithook(audit)
"""


class Server:
    """Serves a page of the run in ``folder``; ``launch`` is Python code in which ``folder`` and ``port`` are known."""

    def __init__(self, folder, launch):
        self.folder, self.launch = folder, launch
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        code = f"{_AUDITED}\nfolder, port = {str(self.folder)!r}, {self.port}\n{self.launch}"
        self.server = subprocess.Popen([sys.executable, "-c", code, self.folder / "outside"], cwd=ROOT, stdout=subprocess.DEVNULL)
        wait_for(self._answers, "the server", 60)

    def stop(self):
        self.server.kill()
        self.server.wait()

    def _answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def browsing():
    """Chromium, and a function that opens a page in a window of its own; none may ask anything but 127.0.0.1."""
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def new(url, patience_ms):
            page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
            page.set_default_timeout(patience_ms)
            page.on("request", lambda request: asked.append(request.url))
            page.goto(url)
            return page

        yield new
        browser.close()
    assert asked and not [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]


def serving(folder, kind):
    """For a fixture: a function that starts one server of this kind, which is stopped in the end and has asked nothing of
    any other machine."""
    started = []

    def start(*arguments):
        started.append(kind(folder, *arguments))
        return started[0]

    yield start
    for one in started:
        one.stop()
        assert not (folder / "outside").exists(), (folder / "outside").read_text()
