"""Chat completions from any OpenAI-compatible endpoint, many at once. A reply is kept on disk under a hash of its request
as soon as it is there: the same request is never sent, or paid, twice, whatever happens to the process."""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from empathy_lib.params import Coe
from empathy_lib.schema import write_json

FATAL = {401: "refuses the key in ${key}", 402: "wants payment", 403: "refuses access for the key in ${key}",
         404: "does not know the model or the path: see coe.model and coe.base_url"}
IN_A_ROW = 10  # failed requests without a reply between them, after which the endpoint counts as down


class TeacherError(RuntimeError):
    """The teacher cannot go on; what it said so far is in the cache, and the next run continues from there."""


class Reply(NamedTuple):
    """What was said (without reasoning), or the ``problem`` because of which nothing was."""
    text: str
    problem: str | None = None


@dataclass
class Account:
    """Tokens of all replies used, those in the cache included: they were paid once. ``sent``: requests of this process."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sent: int = 0
    failed_in_a_row: int = 0
    reserved: float = 0.0  # what the requests under way may cost at most
    changed: asyncio.Condition = field(default_factory=asyncio.Condition, repr=False)

    def cost(self, coe: Coe) -> float | None:
        """In the currency of the prices; None where params state none."""
        return _price(coe, self.prompt_tokens, self.completion_tokens)


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


async def complete(conversations: Sequence[list[dict[str, str]]], coe: Coe, cache: Path, account: Account,
                   what: str = "02_coe") -> list[Reply]:
    """A reply to each conversation, ``coe.concurrency`` at a time. The client repeats a request after 408, 409, 429,
    5xx, time-outs and lost connections, with exponential back-off. TeacherError where going on makes no sense: wrong
    address, key or model, the spending limit, a full disk; requests under way are waited for and kept."""
    replies: list[Any] = [None] * len(conversations)
    todo, errors = iter(enumerate(conversations)), []
    bar = tqdm(total=len(replies), desc=what, unit="reply")

    async def work() -> None:
        for place, messages in todo:
            if errors:
                return
            try:
                replies[place] = await _reply(client, messages, coe, cache, account)
            except TeacherError as error:
                errors.append(error)
                return
            except OSError as error:
                errors.append(TeacherError(f"cannot write to {cache}: {error.strerror}; make room and run again"))
                return
            cost = account.cost(coe)
            bar.set_postfix({"tokens": account.prompt_tokens + account.completion_tokens}
                            | ({} if cost is None else {"cost": f"{cost:.2f}"}), refresh=False)
            bar.update()

    async with _client(coe) as client, asyncio.TaskGroup() as group:
        for _ in range(min(coe.concurrency, len(replies))):
            group.create_task(work())
    bar.close()
    if errors:
        raise TeacherError(f"{errors[0]} ({sum(r is not None for r in replies)} of {len(replies)} replies of this round "
                           "are in the cache)")
    return replies


def _client(coe: Coe) -> Any:
    from openai import AsyncOpenAI
    key = os.environ.get(coe.api_key_env or "", "") if coe.api_key_env else "none"
    if not key:
        raise TeacherError(f"the environment variable {coe.api_key_env} (coe.api_key_env) is not set: set it to the "
                           "endpoint's key before Jupyter or papermill starts; never write a key into a params file")
    return AsyncOpenAI(base_url=coe.base_url, api_key=key, max_retries=coe.retries, timeout=coe.timeout)


async def _reply(client: Any, messages: list[dict[str, str]], coe: Coe, cache: Path, account: Account) -> Reply:
    request = {"model": coe.model, "messages": messages, "temperature": coe.temperature, "max_tokens": coe.max_tokens}
    file = kept(cache, [coe.base_url, request])
    if (entry := read_kept(file)) is None:
        most = sum(len(m["content"].encode()) + 16 for m in messages), coe.max_tokens  # no token is less than a byte
        await _reserve(most, coe, account)
        try:
            account.sent += 1
            entry = await _send(client, request, coe)
            if isinstance(entry, str):
                account.failed_in_a_row += 1
                if account.failed_in_a_row >= IN_A_ROW:
                    raise TeacherError(f"{IN_A_ROW} requests in a row have failed, the last with: {entry}")
                return Reply("", entry)
            account.failed_in_a_row = 0
            entry["usage"] = entry["usage"] or most  # an endpoint that does not count: assume the most
            write_json(file, {"request": request} | entry)
        finally:
            async with account.changed:
                account.reserved -= _price(coe, *most) or 0
                account.changed.notify_all()
    account.prompt_tokens += entry["usage"][0]
    account.completion_tokens += entry["usage"][1]
    return Reply(re.sub(r"^\s*<think>.*?</think>", "", entry["text"], flags=re.DOTALL).strip(),
                 None if entry["text"] else f"an empty reply (finish_reason {entry['finish']})")


async def _reserve(most: tuple[int, int], coe: Coe, account: Account) -> None:
    """Wait until a request fits under the spending limit, whatever those under way will cost."""
    if coe.spending_limit is None:
        return
    limit, price = coe.spending_limit, _price(coe, *most)
    async with account.changed:
        await account.changed.wait_for(lambda: account.cost(coe) + account.reserved + price <= limit or account.reserved <= 0)
        if account.cost(coe) + price > limit:
            raise TeacherError(f"the next request may cost {price:.4f}, {account.cost(coe):.4f} are spent and "
                               f"coe.spending_limit is {limit}: raise it and run again, or lower coe.n_chains")
        account.reserved += price


def _price(coe: Coe, prompt_tokens: int, completion_tokens: int) -> float | None:
    if coe.price_prompt is None or coe.price_completion is None:
        return None
    return (prompt_tokens * coe.price_prompt + completion_tokens * coe.price_completion) / 1e6


async def _send(client: Any, request: dict[str, Any], coe: Coe) -> dict[str, Any] | str:
    """The reply as a cache entry, or in words why there is none; a body that is no completion is asked for again."""
    import openai
    for _ in range(1 + coe.retries):
        try:
            completion = await client.chat.completions.create(**request)
            choice, usage = completion.choices[0], completion.usage
            return {"text": choice.message.content or "", "finish": choice.finish_reason,
                    "reasoning": getattr(choice.message, "reasoning_content", None),  # DeepSeek's; never in the chain
                    "usage": [usage.prompt_tokens, usage.completion_tokens] if usage else None}
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol"):
                raise TeacherError(f"{coe.base_url} cannot be reached: is coe.base_url right, and the server up?") from None
            return f"no reply after {1 + coe.retries} tries: {error}"
        except openai.APIStatusError as error:
            said = str(error.message).replace(client.api_key, "[key]")[:300]
            if error.status_code in FATAL:
                meaning = FATAL[error.status_code].replace("{key}", coe.api_key_env or "")
                raise TeacherError(f"{coe.base_url} {meaning} (status {error.status_code}: {said})") from None
            return f"status {error.status_code}: {said}"
        except (openai.APIResponseValidationError, ValueError, AttributeError, TypeError, IndexError):
            await asyncio.sleep(0.1)
    return f"{1 + coe.retries} times a body that is no chat completion"
