"""The texts that models are told, made from ``bundled/prompts/*.yaml`` for the language and the layers asked for. The
paper states none of them: all are ours."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from empathy_lib import BUNDLED
from empathy_lib.coe import CoE, render


@cache
def _parts(name: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(BUNDLED / "prompts" / f"{name}.yaml"))


def policy(language: str, layers: Sequence[str] | None) -> str:
    """The policy's system prompt: who it is, and the format, each part described in a few words; without ``layers`` (None)
    no format is asked for."""
    text = _parts(f"policy_{language}")
    if layers is None:
        return text["role"]
    shape = render(CoE(**text["layers"], answer=text["answer"]), layers)
    return f"{text['role']}{'' if language == 'zh' else ' '}{text['layered' if layers else 'plain']}\n{shape}"


def teacher(language: str, layers: Sequence[str]) -> str:
    """A teacher's system prompt: role, layers with their grounding, answer, safety, format, and a worked example."""
    text = _parts(f"teacher_{language}")
    wanted = [f"{name} {text['layers'][name].strip()}" for name in layers]
    example = CoE(**{key: value for key, value in text["example"].items() if key != "question"})
    shape = render(CoE(*["…"] * 5), layers)
    return "\n\n".join(part.strip() for part in (
        text["role"], text["layered" if layers else "plain"], *wanted, text["answer"], text["safety"],
        f"{text['form']}{shape}", f"{text['example_note']}\n{text['example']['question']}", render(example, layers)))


def ask(question: str, told: str) -> list[dict[str, str]]:
    """The messages that ask a teacher who is ``told`` its system prompt for one chain."""
    return [{"role": "system", "content": told}, {"role": "user", "content": question}]


def ask_again(messages: Sequence[dict[str, str]], reply: str, reason: str, tries: int, language: str) -> list[dict[str, str]]:
    """The same request after a malformed reply: the last reply, why the parser refused it, and after how many tries, so
    that a teacher who repeats itself is not answered from the cache."""
    again = _parts(f"teacher_{language}")["reask"].format(reason=reason, tries=tries).strip()
    return [*messages[:2], {"role": "assistant", "content": reply or "…"}, {"role": "user", "content": again}]


def version(language: str, layers: Sequence[str]) -> str:
    """What each chain carries: the prompt's name and a hash of all that a teacher may be told, so that no edit hides."""
    told = json.dumps([teacher(language, layers), _parts(f"teacher_{language}")["reask"]], ensure_ascii=False)
    return f"teacher_{language}@{hashlib.sha256(told.encode()).hexdigest()[:10]}"
