"""Endpoints on this machine for the tests of the teacher, and how they ask it."""

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from empathy_lib import BUNDLED, ROOT, teacher
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl, read_questions

QUESTIONS = read_questions(BUNDLED / "questions.jsonl")[0]
CHAIN = "<empathy_think><L1>累</L1><L2>也许怕落后</L2><L3>被听见</L3><L4>先接住</L4></empathy_think><answer>辛苦了。</answer>"
KEY = "sk-never-to-be-seen-0123456789"


@contextmanager
def endpoint(folder: Path, content: str = CHAIN, *arguments: str):
    """An endpoint that answers ``content`` at once, or with faults; yields its base URL."""
    (folder / "canned.txt").write_text(content)
    source = () if "--upstream" in arguments else ("--canned", folder / "canned.txt")
    process = subprocess.Popen([sys.executable, ROOT / "tests" / "faulty_proxy.py", "--log", folder / "proxy.jsonl",
                                *source, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.kill()
        process.wait()


@contextmanager
def answering(status: int, answer=None):
    """A server that says ``answer`` to everything (a function is asked: request → status, answer), or refuses it and
    repeats the key it was given."""
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            code, said = answer(asked) if callable(answer) else (status, answer)
            body = json.dumps(said or {"error": {"message": f"no: {self.headers['authorization']}"}}).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def params(url: str | None = "http://127.0.0.1:9/v1", **coe_values):
    values = {"teacher": "openai", "base_url": url, "model": "m", "api_key_env": None, "retries": 1, "timeout": 5.0}
    return load_params("params/smoke.yaml", {"coe": values | coe_values})


def taught(p, cache: Path, n: int = 20):
    return asyncio.run(teacher.chains(QUESTIONS[:n], p, cache))


def arrivals(folder: Path) -> list[dict]:
    return [row for row in read_jsonl(folder / "proxy.jsonl") if row["event"] == "arrived"]


def completion(content: str | None = CHAIN) -> dict:
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": {
        "prompt_tokens": 1800, "completion_tokens": 100, "total_tokens": 1900},
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}]}
