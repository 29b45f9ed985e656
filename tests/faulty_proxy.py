"""A proxy that breaks chosen requests before an OpenAI-compatible server, to test what its client survives::

    python faulty_proxy.py --upstream http://127.0.0.1:8000 --port 0 --log proxy.jsonl --share 0.3 --dead 0.02

It prints its port first. The SHA-256 of a request's canonical JSON decides whether and how it fails, so that every run
fails alike. The log gets two lines for each chat request, written at once; a finished status is null where no response
was sent (a fault without one, or the client had gone)::

    {"body": "9f86…", "attempt": 1, "fault": "429", "event": "arrived", "status": null}
    {"body": "9f86…", "attempt": 1, "fault": "429", "event": "finished", "status": 429}"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import socket
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

CHAT = "POST /v1/chat/completions"
JSON = "application/json"
ERRORS = {"429": "429 -", "429-retry-after": "429 -\r\nRetry-After: 0.05", "500": "500 -", "503": "503 -",
          "dead": "500 -"}  # a status line from its status on, and more headers
FAULTS = ("429", "429-retry-after", "500", "503", "timeout", "truncated", "malformed-json", "reset", "drip",
          "malformed-chain")


def hashed(body: bytes) -> str:
    """SHA-256 of the canonical JSON of ``body``, or of its bytes where it is none."""
    try:
        body = json.dumps(json.loads(body), sort_keys=True).encode()
    except ValueError:
        pass
    return hashlib.sha256(body).hexdigest()


def fault_of(digest: str, attempt: int, options: argparse.Namespace) -> str | None:
    """The fault of this attempt: the dead stay dead and a malformed chain stays (as at temperature 0), every other
    fault ends after the first or second attempt."""
    draw, kind, strikes = (int(digest[i:i + 8], 16) for i in (0, 8, 16))
    if draw < options.dead * 2**32:
        return "dead"
    if draw >= (options.dead + options.share) * 2**32:
        return None
    fault = options.faults[kind % len(options.faults)]
    return fault if fault == "malformed-chain" or attempt <= 1 + strikes % 2 else None


def broken_chain(body: bytes, digest: str) -> bytes:
    """A completion without one closing tag of its content or, where it has none, with a stray tag."""
    completion = json.loads(body)
    message = completion["choices"][0]["message"]
    closing = list(re.finditer(r"</\w+>", message["content"])) or [None]
    found, text = closing[int(digest[24:32], 16) % len(closing)], message["content"]
    message["content"] = text[:found.start()] + text[found.end():] if found else text + "<L2>"
    return json.dumps(completion, ensure_ascii=False).encode()


async def canned(target: str, body: bytes, text: str) -> tuple[int, str, bytes]:
    """Status, type and body of a completion of ``text``, at once; usage counts a token a character."""
    if target != CHAT:
        return 200, JSON, b'{"status": "ok"}'
    prompt = sum(len(str(message["content"])) for message in json.loads(body)["messages"])
    usage = {"prompt_tokens": prompt, "completion_tokens": len(text), "total_tokens": prompt + len(text)}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return 200, JSON, json.dumps({"id": "canned", "object": "chat.completion", "created": 0, "model": "canned",
                                  "choices": [choice], "usage": usage}, ensure_ascii=False).encode()


async def forwarded(target: str, body: bytes, client: httpx.AsyncClient) -> tuple[int, str, bytes]:
    """Status, type and body of the upstream's reply; 502 where it gives none."""
    try:
        reply = await client.request(*target.split(" "), content=body, headers={"content-type": JSON})
    except httpx.HTTPError as error:
        return 502, JSON, json.dumps({"error": {"message": f"upstream: {error!r}"}}).encode()
    return reply.status_code, reply.headers.get("content-type", JSON), reply.content


async def respond(ask: Any, target: str, body: bytes, fault: str | None, digest: str, reader: asyncio.StreamReader,
                  writer: asyncio.StreamWriter) -> int:
    """Answer one request, well or with its fault, and return the status; ConnectionError where nothing is sent."""
    if fault == "timeout":
        while await reader.read(65536):  # b"" when the client goes away
            pass
    if fault == "reset":
        linger = struct.pack("ii", 1, 0)  # linger for 0 s: the close sends RST, not FIN
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    if fault in ("timeout", "reset"):
        raise ConnectionError(fault)
    if fault in ERRORS:
        status, kind, content = ERRORS[fault], JSON, b'{"error": {"message": "injected", "type": "injected"}}'
    else:
        code, kind, content = await ask(target, body)
        status = f"{code} -"
        if fault == "malformed-chain" and code == 200:
            content = broken_chain(content, digest)
        elif fault == "malformed-json":
            content = content[:len(content) // 2]
    message = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
    if fault == "truncated":
        message = message[:-len(content) // 2]
    if reader.at_eof():  # to write to a client that has gone would seem to succeed
        raise ConnectionError("the client went away")
    size = len(message) // 10 if fault == "drip" else len(message)
    for start in range(0, len(message), size):
        if start:
            await asyncio.sleep(0.05)
        writer.write(message[start:start + size])
        await writer.drain()
    return int(status[:3])


async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: Any, attempts: Counter[str],
                     log: int, options: argparse.Namespace) -> None:
    """Answer the requests of one connection, one after the other (HTTP/1.1, Content-Length), until a side ends it."""
    fault = None
    try:
        while fault != "truncated":
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            length = next((line[15:] for line in lines if line.lower().startswith("content-length:")), 0)
            target, body = first.rpartition(" ")[0], await reader.readexactly(int(length))
            if target != CHAT:
                await respond(ask, target, body, None, "", reader, writer)
                continue
            digest, status = hashed(body), None
            attempts[digest] += 1
            fault = fault_of(digest, attempts[digest], options)
            entry = {"body": digest, "attempt": attempts[digest], "fault": fault}
            os.write(log, json.dumps(entry | {"event": "arrived", "status": None}).encode() + b"\n")
            try:
                status = await respond(ask, target, body, fault, digest, reader, writer)
            finally:
                os.write(log, json.dumps(entry | {"event": "finished", "status": status}).encode() + b"\n")
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main(options: argparse.Namespace) -> None:
    """Serve until killed."""
    text = options.canned and options.canned.read_text(encoding="utf-8").strip()
    # no connection is kept: the upstream closes idle ones when it likes, which would be a fault that no log shows
    client = httpx.AsyncClient(base_url=options.upstream or "", timeout=None, trust_env=False,
                               limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))
    log, attempts = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), Counter()
    server = await asyncio.start_server(lambda reader, writer: connection(
        reader, writer, lambda target, body: canned(target, body, text) if text else forwarded(target, body, client),
        attempts, log, options), "127.0.0.1", options.port, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Break chosen requests before an OpenAI-compatible server.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--upstream", help="http://127.0.0.1:PORT, without /v1")
    source.add_argument("--canned", type=Path, help="no upstream: the text of this file is every content")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--log", type=Path, required=True, help="JSON lines are appended to it")
    parser.add_argument("--share", type=float, default=0.0, help="of all bodies, that get a fault")
    parser.add_argument("--dead", type=float, default=0.0, help="of all bodies, that get 500 for ever")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS, help="the faults to choose from")
    asyncio.run(main(parser.parse_args()))
