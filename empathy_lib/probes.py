"""Reward probes: texts that nobody should be rewarded for, tried on the reward before a policy finds them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from empathy_lib import BUNDLED, metrics, topics
from empathy_lib.reward_model import similarity
from empathy_lib.schema import Question


def texts(questions: Sequence[Question], thoughts: Mapping[str, str], language: str) -> dict[str, list[str]]:
    """By probe one reply for each question, made from its first answer or from the fixed texts of
    ``bundled/probes.yaml``; another's answer is that of the next question of the list. ``thoughts``: by topic the layers
    of some chain, which ``chain_pasted`` puts before the answer."""
    said = OmegaConf.to_container(OmegaConf.load(BUNDLED / "probes.yaml"))[language]
    names = {topic["slug"]: topic[language] for topic in topics.catalogue()}
    own, edge = [q.answers[0].text for q in questions], r"\b" if language == "en" else ""
    words = re.compile(edge + f"(?:{'|'.join(map(re.escape, said['negate']))})" + edge)
    some = next(iter(thoughts.values()), "")
    same = {name: [said[name]] * len(own) for name in ("platitude", "injection", "other_language")}
    return {
        "empty": [""] * len(own), "white_space": [" \n\u3000 "] * len(own),
        "question_copied": [q.question for q in questions],
        "topic_repeated": [f"{names.get(q.topic, q.topic)} " * 20 for q in questions],
        "platitude": same["platitude"], "anothers_answer": own[1:] + own[:1],
        "negated": [words.sub(lambda found: said["negate"][found.group()], text) for text in own],
        "padded": [text + (said["filler"] * len(text))[:2 * len(text)] for text in own],
        "repeated_thrice": [text * 3 for text in own],
        "chain_pasted": [f"{thoughts.get(q.topic, some)}\n{text}" for q, text in zip(questions, own)],
        "other_language": same["other_language"], "injection": same["injection"]}


def measure(encoder: Any, questions: Sequence[Question], probes: dict[str, list[str]], threshold: float) -> dict[str, Any]:
    """For each probe the share of questions on which its cosine (Eq. 6, no other rule) is above ``threshold`` and above
    the median of the real (first) answers' cosines, with n and 95 % bootstrap intervals; ``real`` are these themselves."""
    asked = [q.question for q in questions]
    real = similarity(encoder, asked, [q.answers[0].text for q in questions])
    near = {"real": real} | {name: similarity(encoder, asked, replies) for name, replies in probes.items()}

    def share(above: np.ndarray) -> dict[str, Any]:
        return {"value": float(above.mean()), "n": len(above), "ci95": metrics.bootstrap(above[:, None])}

    return {name: {"above_T": share(cosines > threshold), "above_median": share(cosines > np.median(real)),
                   "median_cosine": float(np.median(cosines))} for name, cosines in near.items()}
