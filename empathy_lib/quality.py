"""What can be counted about chains of empathy before a person reads them, and which ones a person should read first.
All measures and limits are ours; none says that a chain is good."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from empathy_lib import safety, topics
from empathy_lib.coe import LAYERS
from empathy_lib.duplicates import shingles

LENGTH = {"zh": (15, 200), "en": (50, 800)}  # characters of a layer
COPIED = 0.3    # share of a part's 5-character runs (3-word runs) that stand in the question
OPENING = {"zh": 6, "en": 14}  # characters by which two openings of the same part count as equal
REPEATED = 0.03  # share of the chains that begin a part alike, and at least 3 chains
OTHERS = 200    # chains whose L4 an answer is compared with


def table(chains: Sequence[dict[str, Any]], language: str, encoder: str, seed: int) -> list[dict[str, Any]]:
    """For each chain the measures, and in ``flags`` those that are out of bounds:

    - ``length``: characters of the shortest and longest layer;
    - ``copied``: largest share of a part that is copied from the question;
    - ``opening``: most other chains that begin a part with the same characters;
    - ``off_plan``: share of other chains' L4 that are nearer to the answer than its own (by embedding; 0 is best);
    - ``crisis``: whether the crisis screen marks question or answer.
    """
    parts = [layer for layer in LAYERS if any(c[layer] for c in chains)]
    starts = {part: Counter(c[part][:OPENING[language]] for c in chains) for part in (*parts, "answer")}
    off_plan = _off_plan(chains, encoder, language, seed) if "L4" in parts else [0.0] * len(chains)
    rows = []
    for chain, ignored in zip(chains, off_plan):
        lengths, asked = [len(chain[part]) for part in parts], shingles(chain["question"], language)
        own = [shingles(chain[part], language) for part in (*parts, "answer")]
        row: dict[str, Any] = {
            "question_id": chain["question_id"], "length": [min(lengths, default=0), max(lengths, default=0)],
            "copied": round(max(len(part & asked) / len(part) for part in own), 3),
            "opening": max(count[chain[part][:OPENING[language]]] for part, count in starts.items()) - 1,
            "off_plan": round(ignored, 3),
            "crisis": "crisis" in (safety.screen(chain["question"]).level, safety.screen(chain["answer"]).level)}
        out = {"length": parts and not LENGTH[language][0] <= min(lengths) <= max(lengths) <= LENGTH[language][1],
               "copied": row["copied"] > COPIED, "opening": row["opening"] + 1 >= max(3, REPEATED * len(chains)),
               "off_plan": ignored > 0.5, "crisis": row["crisis"]}
        rows.append(row | {"flags": [name for name, is_so in out.items() if is_so]})
    return rows


def worst(rows: Sequence[dict[str, Any]], n: int = 10) -> list[dict[str, Any]]:
    """The rows a person should look at first: most flags, then the answer furthest from its plan, then most copied."""
    return sorted(rows, key=lambda r: (-len(r["flags"]), -r["off_plan"], -r["copied"], r["question_id"]))[:n]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many chains carry each flag."""
    counts = Counter(flag for row in rows for flag in row["flags"])
    return {name: counts[name] for name in ("length", "copied", "opening", "off_plan", "crisis")}


def _off_plan(chains: Sequence[dict[str, Any]], encoder: str, language: str, seed: int) -> list[float]:
    """An answer that follows its L4 is nearer to it than to the L4 of other chains."""
    from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances
    plans, answers = topics.embed([c["L4"] for c in chains], [c["answer"] for c in chains], encoder, language)
    some = random.Random(seed).sample(range(len(chains)), min(OTHERS, len(chains)))
    near = cosine_similarity(answers, plans[some])
    own = 1 - paired_cosine_distances(answers, plans)[:, None]
    others = np.array(some)[None, :] != np.arange(len(chains))[:, None]
    return (((near > own) & others).sum(1) / np.maximum(1, others.sum(1))).tolist()
