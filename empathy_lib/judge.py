"""Proxies for human raters: a language model that ranks the answers at an endpoint, and the reward model. Their ratings
are of the kinds "llm" and "reward_model" and are never counted with people's. The paper has neither; the prompt is ours."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from empathy_lib import BUNDLED, endpoint
from empathy_lib.blocks import Judge
from empathy_lib.endpoint import Account
from empathy_lib.params import Params
from empathy_lib.ratings import DIMENSIONS, add_new, blind, rate

Shown = tuple[str, int]  # question_id; 0: in the order drawn for this judge, 1: in the reverse
REWARD_MODEL = "reward model"


async def rank(items: Sequence[Mapping[str, Any]], params: Params, cache: Path, file: str | Path) \
        -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The ratings of ``params.judge`` on all dimensions, new ones added to ``file``; and a report on them.

    The answers of an item are shown twice, by letters, in an order drawn by the seed and in its reverse; the rating is the
    order of the mean rank. A verdict that cannot be read is asked for once more, then the item is left out. The report:
    ``items`` rated and ``n`` ratings; ``rejected`` verdicts with reasons, ``unparsable`` of them (the rest had no reply);
    ``same_winner``, the share of both orders with the same best answers, and the mean ``tau`` (Kendall's tau-b) between
    them; ``first_wins``, how often the answer shown first wins (ties shared), and ``chance`` of that; all over items and
    dimensions, None without; ``tokens`` and ``cost``, cached replies included. EndpointError as ``endpoint.complete``;
    ValueError without a judge."""
    if (to := params.judge) is None:
        raise ValueError("the params have no judge (judge: null): give the block a base_url and a model")
    rater, account, told = f"judge:{to.model}", Account(), _texts(params.language)
    orders: dict[Shown, list[str]] = {}
    for item in items:
        drawn = blind(item, rater, params.seed)
        orders |= {(item["question_id"], 0): drawn, (item["question_id"], 1): drawn[::-1]}
    verdicts, rejected = await _asked({item["question_id"]: item for item in items}, orders, told, to, cache, account)
    made, pairs = [], []
    for item in items:
        one, other = ((item["question_id"], turn) for turn in (0, 1))
        if one in verdicts and other in verdicts:
            for dimension in DIMENSIONS:
                two = verdicts[one][dimension], verdicts[other][dimension]
                made.append(rate(item, dimension, rater, _merged(*two), "llm"))
                pairs.append((orders[one], *two))
    add_new(file, made)
    version = hashlib.sha256(json.dumps(told, ensure_ascii=False).encode()).hexdigest()[:10]
    return made, {"rater": rater, "kind": "llm", "prompt": f"judge_{params.language}@{version}",
                  "items": len(made) // len(DIMENSIONS), "n": len(made), "rejected": rejected,
                  "unparsable": sum(row["raw"] is not None for row in rejected),
                  **_positions(pairs), "cost": account.cost(to),
                  "tokens": {"prompt": account.prompt_tokens, "completion": account.completion_tokens}}


async def _asked(items: Mapping[str, Mapping[str, Any]], orders: Mapping[Shown, list[str]], told: Mapping[str, Any], to: Judge,
                 cache: Path, account: Account) -> tuple[dict[Shown, dict[str, dict[str, float]]], list[dict[str, Any]]]:
    """The verdicts, and those that could not be had or read, each with its reason."""
    messages = {shown: request(items[shown[0]], order, told) for shown, order in orders.items()}
    verdicts: dict[Shown, dict[str, dict[str, float]]] = {}
    rejected: dict[Shown, dict[str, Any]] = {}
    for again in (False, True):
        # where there is no reply at all, the client has repeated the request, and the next run asks again
        todo = [shown for shown in orders if not again or shown in rejected and rejected[shown]["raw"] is not None]
        what = f"07_ranking judge{' asked again' if again else ''}"
        for shown, reply in zip(todo, await endpoint.complete([messages[shown] for shown in todo], to, cache, account, what)):
            try:
                if reply.problem:
                    raise ValueError(reply.problem)
                verdicts[shown] = parse(reply.text, orders[shown])
                rejected.pop(shown, None)
            except ValueError as error:
                reason = str(error) + ("; cut off at judge.max_tokens" if reply.finish == "length" else "")
                rejected[shown] = {"question_id": shown[0], "order": 1 + shown[1], "reason": reason,
                                   "raw": None if reply.problem else reply.text}
                messages[shown] = [*messages[shown], {"role": "assistant", "content": reply.text or "…"},
                                   {"role": "user", "content": told["reask"].format(reason=reason).strip()}]
    return verdicts, list(rejected.values())


def by_reward(items: Sequence[Mapping[str, Any]], encoder: Any) -> list[dict[str, Any]]:
    """The ratings of the reward model, "overall" only: the higher the cosine of question and answer (to six digits; equal
    ones tie) the better, empty answers last. They are not added to any file."""
    from scipy.stats import rankdata
    from empathy_lib.reward_model import similarity
    asked = [(item["question"], text) for item in items for text in item["answers"].values()]
    cosines = similarity(encoder, *zip(*asked)) if asked else ()
    worth, made = iter([round(float(cosine), 6) if text else -np.inf for cosine, (_, text) in zip(cosines, asked)]), []
    for item in items:
        ranks = rankdata([-next(worth) for _ in item["answers"]], method="min").tolist()
        made.append(rate(item, "overall", REWARD_MODEL, dict(zip(item["answers"], map(int, ranks))), "reward_model"))
    return made


def request(item: Mapping[str, Any], order: Sequence[str], told: Mapping[str, Any]) -> list[dict[str, str]]:
    """The messages that ask for a verdict. Letter and answers are JSON, so that no text in them can end its own place."""
    letters = ascii_uppercase[:len(order)]
    asks = [told["dimension"].format(name=name, label=told["dimensions"][name][0], asks=told["dimensions"][name][1])
            for name in DIMENSIONS]
    shape = json.dumps(dict.fromkeys(DIMENSIONS, told["value"]), ensure_ascii=False)
    form = told["form"].strip().format(letters=f"{letters[0]}–{letters[-1]}")
    system = "\n\n".join([told["role"].strip(), "\n".join(asks), told["care"].strip().format(empty=told["empty"]),
                          told["material"].strip(), f"{form}\n{shape}"])
    answers = {letter: item["answers"][name] or told["empty"] for letter, name in zip(letters, order)}
    return [{"role": "system", "content": system}, {"role": "user", "content": json.dumps(
        {"letter": item["question"], "answers": answers}, ensure_ascii=False, indent=1)}]


def parse(reply: str, order: Sequence[str]) -> dict[str, dict[str, float]]:
    """The one verdict of a reply, whatever stands around it: the average ranks of the systems in ``order``, by dimension.
    ValueError where there is none, or several, or an order is not one of all letters."""
    found = []
    for text in re.findall(r"\{[^{}]*\}", reply):
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if set(DIMENSIONS) <= set(value):
            found += [value] if value not in found else []
    if len(found) != 1:
        raise ValueError(f"the reply has {len(found) or 'no'} JSON object{'s that differ' if found else ''} with the keys "
                         f"{', '.join(DIMENSIONS)}; exactly one is needed")
    letters, ranks = ascii_uppercase[:len(order)], {}
    for name in DIMENSIONS:
        said = re.sub(r"[\s>＞,，、]", "", str(found[0][name])).replace("＝", "=").upper()
        if not re.fullmatch("[A-Z](=?[A-Z])*", said) or sorted(said.replace("=", "")) != list(letters):
            raise ValueError(f"{name} is no order of {letters}, each letter once: {str(found[0][name])[:60]!r}")
        ranks[name], place = {}, 1
        for group in re.findall("[A-Z](?:=[A-Z])*", said):
            tied = group.split("=")
            ranks[name] |= {order[letters.index(letter)]: place + (len(tied) - 1) / 2 for letter in tied}
            place += len(tied)
    return ranks


def _texts(language: str) -> dict[str, Any]:
    told, asked = (OmegaConf.to_container(OmegaConf.load(BUNDLED / name))
                   for name in (f"prompts/judge_{language}.yaml", "ranking/texts.yaml"))
    return told | {"dimensions": asked[language]["dimensions"]}


def _merged(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, int]:
    sums = {name: one[name] + other[name] for name in one}
    return {name: 1 + sum(value < own for value in sums.values()) for name, own in sums.items()}


def _positions(pairs: Sequence[tuple[list[str], dict[str, float], dict[str, float]]]) -> dict[str, float | None]:
    """What the place of an answer did, from the first order shown and the ranks in it and in its reverse."""
    from scipy.stats import kendalltau
    same, taus, first = [], [], []
    for order, one, other in pairs:
        best = [{name for name, rank in ranks.items() if rank == min(ranks.values())} for ranks in (one, other)]
        same.append(best[0] == best[1])
        first += [(shown in winners) / len(winners) for shown, winners in zip((order[0], order[-1]), best)]
        tau = kendalltau([one[name] for name in order], [other[name] for name in order]).statistic
        taus += [] if np.isnan(tau) else [tau]
    return {name: float(np.mean(values)) if values else None for name, values in (
        ("same_winner", same), ("tau", taus), ("first_wins", first), ("chance", [1 / len(order) for order, *_ in pairs]))}
