"""Chat completions from any OpenAI-compatible endpoint, many at once. A reply is kept on disk under a hash of its request
as soon as it is there: no request is sent, or paid, again, whatever happens to the process. (Two runs at the same time
share the cache, but each sends what the other has not finished.)"""

import asyncio
import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from empathy_lib.blocks import Endpoint
from empathy_lib.schema import write_json

FATAL = {401: "refuses the key in ${key}", 402: "wants payment", 403: "refuses access for the key in ${key}",
         404: "does not know the model or the path: see {block}.model and {block}.base_url"}
REFUSED = (400, 403, 413, 422)  # once the endpoint has answered others, the fault of one letter: too long, or moderated


class EndpointError(RuntimeError):
    """The teacher cannot go on; what it said so far is in the cache, and the next run continues from there."""


class Reply(NamedTuple):
    """What was said, without reasoning, and why it ended; or the ``problem`` because of which there is no reply."""
    text: str
    finish: str | None = None
    problem: str | None = None


@dataclass
class Account:
    """Tokens of all replies used, those in the cache included: they were paid once. ``sent``: requests of this process;
    ``perhaps``: cost of those without a usable reply that the endpoint may charge all the same (time-outs)."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sent: int = 0
    perhaps: float = 0.0
    under_way: int = 0
    reserved: float = 0.0  # what those under way may cost at most
    failed_in_a_row: int = 0
    failure: EndpointError | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition, repr=False)

    def cost(self, to: Endpoint) -> float | None:
        """In the currency of the prices; None where params state none."""
        return _price(to, self.prompt_tokens, self.completion_tokens)


def kept(cache: Path, request: Any) -> Path:
    """Where the reply to a request lies in the cache, or will lie."""
    name = hashlib.sha256(json.dumps(request, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
    return cache / name[:2] / f"{name}.json"


def read_kept(file: Path) -> dict[str, Any] | None:
    """A cached entry; None where there is none, or no whole one (after a power cut)."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def spoken(text: str) -> str:
    """A reply without the reasoning that some servers leave in it, with or without its opening tag."""
    return text.rpartition("</think>")[2].strip()


async def complete(conversations: Sequence[list[dict[str, str]]], to: Endpoint, cache: Path, account: Account,
                   what: str = "02_coe") -> list[Reply]:
    """A reply to each conversation, ``to.concurrency`` at a time. EndpointError where going on makes no sense: wrong
    address, key or model, an endpoint that is down, the spending limit, a full disk; requests under way are waited for."""
    replies: list[Any] = [None] * len(conversations)
    missing: dict[Path, list[int]] = {}
    for place, messages in enumerate(conversations):  # all that is paid is counted before anything is sent
        file = kept(cache, [to.base_url, _request(messages, to)])
        if entry := None if file in missing else read_kept(file):
            replies[place] = _use(entry, account)
        else:
            missing.setdefault(file, []).append(place)
    bar = tqdm(total=len(replies), initial=sum(r is not None for r in replies), desc=what, unit="reply")
    down, todo = max(10, min(50, len(replies) // 10)), iter(missing.items())

    async def work(client: Any) -> None:
        for file, places in todo:
            try:
                entry = await _asked(client, _request(conversations[places[0]], to), to, account)
                account.failed_in_a_row = account.failed_in_a_row + 1 if isinstance(entry, str) else 0
                if account.failed_in_a_row >= down:
                    raise EndpointError(f"{down} requests in a row have failed, the last with: {entry}")
                if isinstance(entry, dict):
                    write_json(file, entry)
            except EndpointError as error:
                account.failure = account.failure or error
            except OSError as error:
                account.failure = EndpointError(f"cannot write to {cache}: {error.strerror}; make room and run again")
            if account.failure:
                return
            reply = Reply("", problem=entry) if isinstance(entry, str) else _use(entry, account)
            for place in places:
                replies[place] = reply
            cost = account.cost(to)
            bar.set_postfix({"tokens": account.prompt_tokens + account.completion_tokens}
                            | ({} if cost is None else {"cost": f"{cost:.2f}"}), refresh=False)
            bar.update(len(places))

    if missing:
        async with _client(to) as client, asyncio.TaskGroup() as group:
            for _ in range(min(to.concurrency, len(missing))):
                group.create_task(work(client))
    bar.close()
    if account.failure:
        raise EndpointError(f"{account.failure} ({sum(bool(r) and not r.problem for r in replies)} of {len(replies)} "
                           "replies of this round are in the cache)")
    return replies


def _client(to: Endpoint) -> Any:
    from openai import AsyncOpenAI
    key = os.environ.get(to.api_key_env, "") if to.api_key_env else "none"
    if not key:
        raise EndpointError(f"the environment variable {to.api_key_env} ({to.name}.api_key_env) is not set: set it to the "
                           "endpoint's key before Jupyter or papermill starts; never write a key into a params file")
    if not key.isascii() or key != key.strip():
        raise EndpointError(f"the environment variable {to.api_key_env} holds white space or letters that no key has")
    return AsyncOpenAI(base_url=to.base_url, api_key=key, max_retries=0, timeout=to.timeout)


def _request(messages: list[dict[str, str]], to: Endpoint) -> dict[str, Any]:
    return {"model": to.model, "messages": messages, "temperature": to.temperature, "max_tokens": to.max_tokens}


def _use(entry: dict[str, Any], account: Account) -> Reply:
    account.prompt_tokens += entry["usage"][0]
    account.completion_tokens += entry["usage"][1]
    return Reply(spoken(entry["text"]), entry["finish"])


def _price(to: Endpoint, prompt_tokens: int, completion_tokens: int) -> float | None:
    if to.price_prompt is None or to.price_completion is None:
        return None
    return (prompt_tokens * to.price_prompt + completion_tokens * to.price_completion) / 1e6


async def _asked(client: Any, request: dict[str, Any], to: Endpoint, account: Account) -> dict[str, Any] | str:
    """The reply as a cache entry, or in words why there is none; up to ``to.retries`` repeats, with exponential
    back-off or what the endpoint asks for. The repeats are here, not in the client, so that each fits under the limit."""
    most = sum(len(m["content"].encode()) + 16 for m in request["messages"]), to.max_tokens  # a token is ≥ 1 byte
    price, said = _price(to, *most) or 0.0, ""
    for tries in range(1 + to.retries):
        await _reserve(price, to, account)
        entry, wait, charged = "", 0.0, 0.0
        try:
            account.sent += 1
            entry, wait, charged = await _once(client, request, to, account, most)
        finally:
            async with account.changed:
                account.under_way -= 1
                account.reserved -= price
                account.perhaps += charged * price
                account.changed.notify_all()
        if isinstance(entry, dict):
            return {"request": request} | entry
        said = entry
        if wait < 0:  # no repeat can help
            return said
        if tries < to.retries:
            await asyncio.sleep(wait or min(8.0, 0.5 * 2**tries) * random.uniform(0.75, 1))
    return f"no reply after {1 + to.retries} tries: {said}"


async def _reserve(price: float, to: Endpoint, account: Account) -> None:
    """Wait until a request fits under the spending limit, whatever those under way will cost."""
    def spent() -> float:
        return (account.cost(to) or 0.0) + account.perhaps

    limit = float("inf") if to.spending_limit is None else to.spending_limit
    async with account.changed:
        await account.changed.wait_for(
            lambda: account.failure or not account.under_way or spent() + account.reserved + price <= limit)
        if account.failure:
            raise account.failure
        if spent() + price > limit:
            raise EndpointError(f"the next request may cost {price:.4f}, {spent():.4f} are spent and {to.name}.spending_limit "
                               f"is {limit}: raise it and run again, or ask for less")
        account.under_way += 1
        account.reserved += price


async def _once(client: Any, request: dict[str, Any], to: Endpoint, account: Account, most: tuple[int, int]) \
        -> tuple[dict[str, Any] | str, float, float]:
    """One attempt: the entry or what went wrong; seconds to wait before the next (0: as usual, < 0: never); and the
    share of the price that may be charged although nothing came."""
    import openai
    try:
        async with asyncio.timeout(to.timeout):  # the client's own bounds silence, not the whole reply
            completion = await client.chat.completions.create(**request)
        choice, usage = completion.choices[0], completion.usage
        text, thought = choice.message.content or "", getattr(choice.message, "reasoning_content", None)
        used = [usage.prompt_tokens, usage.completion_tokens] if usage else list(most)  # uncounted: assume the most
        return {"text": text.encode(errors="replace").decode(), "finish": choice.finish_reason, "usage": used,
                "reasoning": thought and thought.encode(errors="replace").decode()}, 0, 0
    except (TimeoutError, openai.APITimeoutError):
        return f"time-out after {to.timeout} s", 0, 1
    except openai.APIConnectionError as error:
        if type(error.__cause__).__name__ in ("ConnectError", "UnsupportedProtocol"):
            if account.completion_tokens == 0:
                raise EndpointError(f"{to.base_url} cannot be reached: is {to.name}.base_url right, and the server up?") from None
            return f"{to.base_url} cannot be reached", 0, 0
        return f"the connection was lost ({error})", 0, 1
    except openai.APIStatusError as error:
        status, said = error.status_code, str(error.message).replace(client.api_key, "[key]")[:300]
        known = account.completion_tokens > 0  # it has answered before: not the key, the model or the address
        if status in FATAL and not (known and status in REFUSED):
            meaning = FATAL[status].format(key=to.api_key_env or "", block=to.name)
            raise EndpointError(f"{to.base_url} {meaning} (status {status}: {said})") from None
        if known and status in REFUSED:
            account.failed_in_a_row = -1  # this letter's fault: says nothing about the endpoint
        try:
            wait = min(120.0, float(error.response.headers.get("retry-after", 0)))
        except ValueError:
            wait = 0.0
        return f"status {status}: {said}", wait if status in (408, 409, 429) or status >= 500 else -1, 0
    except (openai.APIResponseValidationError, ValueError, AttributeError, TypeError, IndexError):
        return "a body that is no chat completion", 0, 1
