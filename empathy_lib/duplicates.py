"""Texts that nearly repeat each other, found by MinHash and locality-sensitive hashing (the library rensa) and checked
exactly; clusters of them, so that a split never parts two; and the leakage check. Every number here is ours."""

import re
from collections.abc import Sequence

import numpy as np

from empathy_lib.schema import Question

NEAR = 0.5        # Jaccard similarity of the shingles from which two texts count as near-duplicates
PERMUTATIONS, BANDS = 192, 48  # 4 rows a band: a pair is looked at with probability .95 at Jaccard .5, .999 at .6
SEED = 42         # of the hash functions: a fact of the method, not of a run


class LeakageError(ValueError):
    """A text of one split (nearly) occurs in another."""


def shingles(text: str, language: str) -> set[str]:
    """What two texts are compared by: runs of 5 characters (zh) or 3 words (en), without punctuation and case."""
    if language == "en":
        words = re.findall(r"\w+", text.lower())
        return {" ".join(words[i:i + 3]) for i in range(max(1, len(words) - 2))}
    text = "".join(filter(str.isalnum, text)).lower()
    return {text[i:i + 5] for i in range(max(1, len(text) - 4))}


def jaccard(a: set[str], b: set[str]) -> float:
    """Size of the intersection over size of the union."""
    return len(a & b) / len(a | b)


def near_duplicates(texts: Sequence[str], language: str, block: int = 5000) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of texts with a Jaccard similarity of at least ``NEAR``; time grows with the texts and the
    pairs found, memory with the texts."""
    from rensa import RMinHash, RMinHashLSH
    index, signatures = RMinHashLSH(NEAR, PERMUTATIONS, BANDS), []
    for start in range(0, len(texts), block):  # block by block, because a text's shingles are larger than the text
        sets = [shingles(text, language) for text in texts[start:start + block]]
        signatures += RMinHash.from_token_sets(sets, PERMUTATIONS, SEED)
    index.insert_many(signatures)
    pairs = []
    for i, signature in enumerate(signatures):
        if others := [j for j in index.query(signature) if j > i]:
            own = shingles(texts[i], language)
            pairs += [(i, j) for j in sorted(others) if jaccard(own, shingles(texts[j], language)) >= NEAR]
    return pairs


def clusters(questions: Sequence[Question], language: str) -> list[str]:
    """For each question the id of the first one in its cluster: questions that are linked by near-duplicate questions
    or by near-duplicate answers."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    owner = [i for i, q in enumerate(questions) for _ in q.answers]
    links = near_duplicates([q.question for q in questions], language)
    links += [(owner[i], owner[j]) for i, j in near_duplicates([a.text for q in questions for a in q.answers], language)]
    rows, columns = np.array(links, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(questions),) * 2)
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return [questions[first[label]].question_id for label in labels]


def check_leakage(splits: dict[str, Sequence[Question]]) -> int:
    """The number of clusters, each of which lies in one split; LeakageError names those that lie in two or more."""
    places: dict[str | None, set[str]] = {}
    for name, rows in splits.items():
        for question in rows:
            places.setdefault(question.cluster, set()).add(name)
    if torn := sorted(str(cluster) for cluster, where in places.items() if len(where) > 1):
        raise LeakageError(f"{len(torn)} clusters of near-duplicates lie in several splits, first {', '.join(torn[:5])}: "
                           "their sources bring a 'split' that parts them; move or remove these questions, or leave "
                           "'split' out of the file")
    return len(places)
