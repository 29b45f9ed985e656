"""The Chain-of-Empathy format: four layers of reasoning, then an answer (white space between the tags is free)::

    <empathy_think><L1>情绪与情境</L1><L2>原因与信念</L2><L3>寻求的支持</L3><L4>回应策略</L4></empathy_think>
    <answer>给求助者的回复</answer>

An ablation takes fewer ``layers`` (``coe.layers``): then no other layer may occur, and without any only the answer.
Source: arXiv 2509.14851, section "Chain-of-Empathy"; the strictness of the parser is ours."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rapidfuzz.distance import LCSseq

LAYERS = ("L1", "L2", "L3", "L4")
FIELDS = (*LAYERS, "answer")


@cache
def tags(layers: tuple[str, ...] = LAYERS) -> tuple[str, ...]:
    """The tags of a chain with these layers, in order."""
    inner = [tag for layer in layers for tag in (f"<{layer}>", f"</{layer}>")]
    return (*(("<empathy_think>", *inner, "</empathy_think>") if layers else ()), "<answer>", "</answer>")


TAGS = tags()
_TAG = re.compile("(" + "|".join(TAGS) + ")")


class CoEFormatError(ValueError):
    """The text is not one well-formed chain; the message says where it departs."""


@dataclass(frozen=True)
class CoE:
    """One chain: L1 emotions and context, L2 causes and beliefs, L3 intent, L4 strategy, and the answer. A layer that
    was not asked for is empty."""
    L1: str
    L2: str
    L3: str
    L4: str
    answer: str


def render(chain: CoE, layers: Sequence[str] = LAYERS) -> str:
    """The chain as text. Raises CoEFormatError where a part is empty or holds one of the tags."""
    for name in (*layers, "answer"):
        check(name, getattr(chain, name))
    inner = "".join(f"<{name}>{getattr(chain, name).strip()}</{name}>" for name in layers)
    return (f"<empathy_think>{inner}</empathy_think>\n" if layers else "") + f"<answer>{chain.answer.strip()}</answer>"


def check(name: str, text: str) -> None:
    """CoEFormatError where ``text`` cannot be part ``name`` of a chain."""
    if not text.strip():
        raise CoEFormatError(f"{name} is empty")
    if found := _TAG.search(text):
        raise CoEFormatError(f"{name} contains the tag {found.group()}")


def parse(text: str, layers: Sequence[str] = LAYERS) -> CoE:
    """Read a chain strictly: each part once, in order, non-empty, nothing around or between; any ``<`` that is no tag
    may stand in a text. Linear in the text's length. CoEFormatError says the first departure."""
    outside, *rest = _TAG.split(text)  # text, tag, text, tag, …, text
    wanted, found, parts = tags(tuple(layers)), rest[::2], dict.fromkeys(FIELDS, "")
    for expected, tag, inside in zip(wanted, found, rest[1::2]):
        if tag != expected:
            raise CoEFormatError(f"expected {expected}, found {tag}")
        name = tag[1:-1]
        if name not in FIELDS:
            outside += inside
        elif inside.strip():
            parts[name] = inside.strip()
        else:
            raise CoEFormatError(f"{name} is empty")
    if len(found) < len(wanted):
        raise CoEFormatError(f"missing {wanted[len(found)]}")
    if len(found) > len(wanted):
        raise CoEFormatError(f"{found[len(wanted)]} after the end of the answer")
    if outside.strip():
        raise CoEFormatError(f"text outside the parts: {outside.strip()[:30]!r}")
    return CoE(**parts)


def format_share(text: str, layers: Sequence[str] = LAYERS) -> float:
    """The share of the tags that stand in their places, in [0, 1] (ours): the longest common subsequence of the tags found and
    those wanted, over the longer of the two. 1 for a well-formed chain alone: where all tags stand but a part is empty, or
    text lies outside, one tag counts as missing."""
    if is_valid(text, layers):
        return 1.0
    wanted = tags(tuple(layers))
    share = LCSseq.normalized_similarity(_TAG.findall(text), wanted)
    return min(share, 1 - 1 / len(wanted))


def answer_of(text: str, layers: Sequence[str] = LAYERS) -> str:
    """The answer of a well-formed chain, else the empty string: only this is scored in evaluation."""
    try:
        return parse(text, layers).answer
    except CoEFormatError:
        return ""


def is_valid(text: str, layers: Sequence[str] = LAYERS) -> bool:
    """Whether ``parse`` accepts the text (no accepted chain has an empty answer)."""
    return answer_of(text, layers) != ""


def loose_answer(text: str) -> str:
    """The first ``<answer>`` of a text of any form, else the empty string: what r_answer of the sum looks at."""
    found = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return found.group(1).strip() if found else ""


def text_of(completion: str | list[dict[str, str]]) -> str:
    """A TRL completion (text, or a list of messages) as text."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def format_reward(completions: list[Any], *, layers: Sequence[str] = LAYERS, soft: bool = False, **kwargs: Any) -> list[float]:
    """r_format in {0, 1}: 1 where the whole completion is a well-formed chain (TRL reward signature); ``soft``: the share of
    its tags in their places, in [0, 1]."""
    judged = format_share if soft else is_valid
    return [float(judged(text_of(completion), layers)) for completion in completions]
