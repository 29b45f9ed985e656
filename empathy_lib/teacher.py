"""Where the chains of empathy come from (``coe.teacher``): the bundled ones, any OpenAI-compatible endpoint, or a local
model. The paper's come from DeepSeek-R1, reviewed by professionals; its prompt and sampling are not stated."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from empathy_lib import BUNDLED, endpoint, prompts
from empathy_lib.coe import FIELDS, CoE, CoEFormatError, parse, render
from empathy_lib.endpoint import Account, Reply, EndpointError
from empathy_lib.params import Params
from empathy_lib.schema import Question, read_jsonl, read_questions, write_json

Complete = Callable[[Sequence[list[dict[str, str]]], str], Awaitable[list[Reply]]]  # conversations, what for the bar


class Taught(NamedTuple):
    """``chains``: question, layers, answer, and who wrote and checked them; ``rejected`` with reasons; the ``account``."""
    chains: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    account: Account


async def chains(train: Sequence[Question], params: Params, cache: Path) -> Taught:
    """At most ``coe.n_chains`` chains for training questions. Interrupted, it goes on from ``cache`` when run again.
    EndpointError where the teacher cannot work, or none of its chains can be used."""
    c, account = params.coe, Account()
    if c.teacher == "bundled":
        return Taught(*bundled_chains(train, params), account)

    async def endpoint_replies(conversations: Sequence[list[dict[str, str]]], what: str) -> list[Reply]:
        return await endpoint.complete(conversations, c, cache, account, what)

    # in the order of the draw, which fewer chains only cut short: what is paid stays of use
    asked = random.Random(params.seed).sample(train, len(train))[:c.n_chains]
    complete = endpoint_replies if c.teacher == "openai" else _local(params, cache)
    found, rejected = await _generate(asked, complete, params)
    if not found:
        common = Counter(row["reason"] for row in rejected).most_common(3)
        raise EndpointError(f"none of {len(asked)} chains can be used: {'; '.join(f'{n} × {why}' for why, n in common)}")
    return Taught(found, rejected, account)


def bundled_chains(train: Sequence[Question], params: Params) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The bundled chains, and rejects: for the run's training questions or, where none fits, for the bundled ones."""
    known = {c["question_id"]: c for c in read_jsonl(BUNDLED / "coe.jsonl")}
    own = any(q.question_id in known for q in train)
    asked = train if own else read_questions(BUNDLED / "questions.jsonl")[0]
    texts = {q.question_id: q.question for q in asked if q.question_id in known}
    kept, rejected = [], []
    for name in sorted(random.Random(params.seed).sample(sorted(texts), min(params.coe.n_chains, len(texts)))):
        wanted = (*params.coe.layers, "answer")
        try:
            chain = CoE(**{field: known[name][field] if field in wanted else "" for field in FIELDS})
            render(chain, params.coe.layers)
        except (CoEFormatError, KeyError) as error:
            rejected.append({"question_id": name, "reason": f"{type(error).__name__}: {error}"})
        else:
            kept.append(_record(name, texts[name], chain, "bundled", "", own))
    return kept, rejected


def _record(name: str, question: str, chain: CoE, teacher: str, prompt: str, own: bool = True) -> dict[str, Any]:
    return {"question_id": name, "question": question, **vars(chain), "teacher": teacher, "prompt": prompt,
            "own_question": own, "reviewers": [], "decision": "unreviewed"}


async def _generate(asked: Sequence[Question], complete: Complete, params: Params) -> tuple[list, list]:
    """Ask for a chain to each question, and again, with the parser's reason, up to ``coe.reasks`` times."""
    c, language = params.coe, params.language
    told = prompts.teacher(language, c.layers)
    messages = {q.question_id: prompts.ask(q.question, told) for q in asked}
    found: dict[str, CoE] = {}
    failed: dict[str, dict[str, Any]] = {}
    given_up: set[str] = set()
    for tries in range(1 + c.reasks):
        names = [name for name in messages if name not in found and name not in given_up]
        if not names:
            break
        replies = await complete([messages[name] for name in names], f"02_coe {'asked again' if tries else 'asked'}")
        for name, reply in zip(names, replies):
            try:
                if reply.problem or not reply.text:
                    raise CoEFormatError(reply.problem or f"an empty reply (finish_reason {reply.finish})")
                found[name] = parse(reply.text, c.layers)
            except CoEFormatError as error:
                before = failed.get(name, {"raw": "", "reasons": []})
                reason = str(error) + ("; cut off at coe.max_tokens" if reply.finish == "length" else "")
                failed[name] = {"question_id": name, "reason": reason, "raw": reply.text or before["raw"],
                                "reasons": [*before["reasons"], reason]}
                if reply.problem:  # what a repeat could mend has been repeated; the next run asks again
                    given_up.add(name)
                messages[name] = prompts.ask_again(messages[name], reply.text, reason, tries + 1, language)
    teacher, prompt = f"{c.teacher}:{c.model}", prompts.version(language, c.layers)
    return ([_record(q.question_id, q.question, found[q.question_id], teacher, prompt)
             for q in sorted(asked, key=lambda q: q.question_id) if q.question_id in found],
            [failed[name] for name in sorted(failed) if name not in found])


def _local(params: Params, cache: Path) -> Complete:
    """Replies of a Hugging Face causal LM on this machine, ``coe.concurrency`` at once; a finished batch is kept."""
    from empathy_lib import policy
    c, loaded = params.coe, []

    async def complete(conversations: Sequence[list[dict[str, str]]], what: str) -> list[Reply]:
        texts: list[str] = []
        longest = max(sum(len(m["content"]) for m in messages) for messages in conversations)
        for start in range(0, len(conversations), c.concurrency):
            batch = list(conversations[start:start + c.concurrency])
            request = [c.model, params.policy.model_dump(), params.seed, c.temperature, c.max_tokens, batch]
            file = endpoint.kept(cache, request)
            if (entry := endpoint.read_kept(file)) is None:
                if not loaded:  # only now: where everything is cached, nothing is loaded; a token is at least a character
                    room = params.policy.model_copy(update={"max_seq_length": longest + c.max_tokens})
                    loaded.extend(policy.load(c.model, params.model_copy(update={"policy": room})))
                ready = [loaded[1].apply_chat_template(m, tokenize=False, add_generation_prompt=True,
                                                       enable_thinking=False) for m in batch]
                entry = {"request": request, "texts": policy.generate(
                    *loaded, ready, temperature=c.temperature, max_new_tokens=c.max_tokens, batch_size=c.concurrency,
                    seed=params.seed + start, what=f"{what}: {start + len(batch)} of {len(conversations)}")}
                write_json(file, entry)
            texts += entry["texts"]
        return [Reply(endpoint.spoken(text)) for text in texts]

    return complete
