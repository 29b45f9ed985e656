"""``python -m empathy_lib.crisis_training`` makes the screen's weights, in two minutes, of ``bundled/crisis.jsonl`` and the
bundled letters (``letters.jsonl`` has the levels of those that are not ``none``) and answers; and the guard's, of
``unsafe_replies.jsonl`` and the bundled answers and chains. Logistic regressions, each of two levels without the third. Every
text is there twice, once in a disguise, so that one that is half hidden still counts."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from empathy_lib import BUNDLED, crisis_model, guard
from empathy_lib.coe import FIELDS
from empathy_lib.schema import read_jsonl
from empathy_lib.undisguise import normalise

LONGEST = 400  # characters of a text that are read
LEAST = 3  # texts that a feature must occur in
STRENGTH = 30.0  # inverse of the L2 penalty
PIECES = (15, 30, 60, 120, 250)  # characters: a long text without danger holds no piece with danger
DECISIONS = (("crisis", "none"), ("concern", "none"), ("crisis", "concern"))  # as in crisis_model.Scores
HIDDEN = ("blanks between all characters", "homophones for the telling words", "homophones for one character in ten",
          "pinyin initials of the telling words", "pinyin of the telling words")


def long_texts() -> list[dict[str, str]]:
    """The bundled letters, the answers to those without danger, and the pieces of all long texts without danger."""
    levels = {row["question_id"]: row["level"] for row in read_jsonl(BUNDLED / "letters.jsonl")}
    letters = read_jsonl(BUNDLED / "questions.jsonl")
    rows = [{"text": letter["question"], "level": levels.get(letter["question_id"], "none")} for letter in letters]
    rows += [{"text": answer["text"], "level": "none"} for letter in letters if letter["question_id"] not in levels for answer in letter["answers"]]
    chance, written = random.Random(0), read_jsonl(BUNDLED / "crisis.jsonl")
    return rows + [{"text": piece, "level": "none"} for row in rows + written if row["level"] == "none" and crisis_model.size(row["text"]) > crisis_model.WHOLE
                   for piece in pieces(row["text"], chance)]


def pieces(text: str, chance: random.Random) -> list[str]:
    """A text's sentences in groups of three sizes."""
    return [group for size in chance.sample(PIECES, 3) for group in crisis_model.groups(normalise(text), size)[::2]]


def counted(texts: Sequence[str]) -> Any:
    """Sparse [texts, places]: 1 + ln n of each feature's occurrences n."""
    from scipy.sparse import csr_matrix
    found = [np.unique(crisis_model.features(normalise(text)[:LONGEST]), return_counts=True) for text in texts]
    places, counts = (np.concatenate([pair[i] for pair in found]) for i in (0, 1))
    return csr_matrix((1 + np.log(counts), places, np.cumsum([0, *(len(pair[0]) for pair in found)])), shape=(len(texts), 2**crisis_model.BITS))


def train(rows: Sequence[dict[str, str]], decisions: Sequence[tuple[str, str]] = DECISIONS, seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of ``crisis_model.weights`` from texts with their levels: a regression for each pair of levels."""
    from joblib import Parallel, delayed
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    from empathy_lib.disguises import DISGUISES
    chance = random.Random(seed)
    texts, levels = [row["text"] for row in rows], [row["level"] for row in rows]
    hidden = [DISGUISES[chance.choice(HIDDEN)](text[:LONGEST], chance) for text in texts]
    table, levels = vstack([counted(texts), counted(hidden)]).tocsr(), np.array(levels * 2)
    occurs = np.bincount(table.indices, minlength=table.shape[1])
    idf = np.where(occurs >= LEAST, np.log((1 + len(levels)) / (1 + occurs)) + 1, 0).astype(np.float16)
    table.data *= idf[table.indices]
    table = normalize(table)

    def fit(positive: str, negative: str) -> Any:
        chosen = np.isin(levels, (positive, negative))
        return LogisticRegression(C=STRENGTH, max_iter=300).fit(table[chosen], levels[chosen] == positive)

    models = Parallel(n_jobs=2)(delayed(fit)(*pair) for pair in decisions)
    return {"idf": idf, "weights": np.stack([model.coef_[0] for model in models], 1).astype(np.float16),
            "intercepts": np.array([model.intercept_[0] for model in models])}


def replies() -> list[dict[str, str]]:
    """All replies, sound ("none") or not, and the bundled answers and layers as sound ones."""
    rows = [{"text": row["text"], "level": "none" if row["fault"] == "none" else "unsafe"} for row in read_jsonl(BUNDLED / "unsafe_replies.jsonl")]
    rows += [{"text": answer["text"], "level": "none"} for letter in read_jsonl(BUNDLED / "questions.jsonl") for answer in letter["answers"]]
    return rows + [{"text": chain[name], "level": "none"} for chain in read_jsonl(BUNDLED / "coe.jsonl") for name in FIELDS]


if __name__ == "__main__":
    np.savez_compressed(crisis_model.FILE, **train(read_jsonl(BUNDLED / "crisis.jsonl") + long_texts()))
    np.savez_compressed(guard.FILE, **train(replies(), [("unsafe", "none")]))
