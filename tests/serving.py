"""A real OpenAI-compatible server for tests: ``transformers serve`` with one local model folder on 127.0.0.1."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


ENVIRONMENT = {"HF_HUB_OFFLINE": "1",
               "HF_HUB_DISABLE_UPDATE_CHECK": "1",  # else the command asks PyPI for a newer version, offline or not
               "OMP_NUM_THREADS": "1"}  # for a demo model as fast as two, which spin and slow the tests beside it


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def is_up(base_url: str) -> bool:
    """Whether the server answers; it opens its port only after the model is loaded, so up means ready."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
    try:
        with direct.open(base_url + "/health", timeout=1) as reply:
            return reply.status == 200
    except OSError:
        return False


@contextmanager
def served(model_folder: str | Path, port: int | None = None, ready_s: float = 60, end_s: float = 10) -> Iterator[str]:
    """Serve ``model_folder`` until the block ends; yields ``http://127.0.0.1:PORT``, without ``/v1``.

    The model's name in requests is exactly ``str(model_folder)``: any other name gets a 400."""
    port = port or free_port()
    base_url = f"http://127.0.0.1:{port}"
    if is_up(base_url):
        raise RuntimeError(f"something else answers on {base_url}")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model_folder), "--host", "127.0.0.1",
               "--port", str(port), "--device", "cpu", "--reasoning", "off"]  # off: the think block is closed
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:  # a pipe nobody reads would fill up and stop the server
        process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + ready_s
            while not is_up(base_url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{model_folder} is not served, exit {process.poll()}:\n{log.read()[-2000:]}")
                time.sleep(0.1)
            yield base_url
        finally:
            process.terminate()
            try:
                process.wait(end_s)  # it first answers the requests that it has
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
