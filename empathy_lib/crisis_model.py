"""The classifier behind the crisis screen: logistic regressions on the characters of a text, whose weights are in
``bundled/crisis.npz`` (``crisis_training.py`` makes them). numpy alone reads it.

A text's features are its runs of one to four characters and its pairs of characters two to four places apart, and of Latin
text also words, pairs and triples of words, hashed to ``2**BITS`` places; a feature that occurs n times counts
(1 + ln n) · idf, and the vector has length 1 (TF-IDF as scikit-learn's TfidfVectorizer has it, sublinear)."""

import re
import zlib
from functools import cache
from math import log
from pathlib import Path
from typing import NamedTuple

import numpy as np

from empathy_lib import BUNDLED

BITS, FILE = 20, BUNDLED / "crisis.npz"
# A text of more than WHOLE Han characters or words is judged by its overlapping windows and by its sentences, alone and with their neighbours
# up to GROUP of these; PRICE · ln n log odds are taken off what the worst of n groups says, since among many one looks bad by chance.
WHOLE, WINDOW, STEP, GROUP, PRICE = 100, 300, 200, 45, 0.8
_A, _B, _C, _D = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93))
_UNIT = re.compile(r"[a-z']+|[^\sa-z]")
_WORD, _SENTENCE = re.compile(r"[a-z']+"), re.compile(r"(?:[^。!?.\n]|\.(?!\s|$))+(?:[。!?\n]|\.(?=\s|$))*")

Scores = NamedTuple("Scores", [("crisis", float), ("concern", float), ("acute", float)])


def _runs(codes: np.ndarray, longest: int, salt: int) -> list[np.ndarray]:
    """Hashes of all runs of 1 to ``longest`` codes, the short ones first, each in the order of their beginnings."""
    found = [codes * _A + np.uint64(salt)]
    for n in range(1, min(longest, len(codes))):
        found.append(found[-1][:-1] * _B + codes[n:] * _C + np.uint64(salt + n))
    return found


def _pairs(codes: np.ndarray, distances: tuple[int, ...], salt: int) -> list[np.ndarray]:
    """Hashes of all pairs so far apart."""
    return [codes[:-d] * _D + codes[d:] * _B + np.uint64(salt + d) for d in distances if d < len(codes)]


def features(text: str) -> np.ndarray:
    """The places of a normalised text's features, each as often as it occurs."""
    codes = np.frombuffer(f"\x02{text}\x03".encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    hashes = _runs(codes, 4, 1) + _pairs(codes, (2, 3, 4), 100)
    if len(words := _WORD.findall(text)) > 2:
        codes = np.array([zlib.crc32(word.encode()) for word in words], np.uint64)
        hashes += _runs(codes, 3, 200) + _pairs(codes, (2, 3), 300)
    mixed = np.concatenate(hashes)
    return ((mixed ^ (mixed >> np.uint64(29))) * _A >> np.uint64(64 - BITS)).astype(np.int64)


@cache
def weights(path: Path = FILE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``idf`` [2**BITS], ``weights`` [2**BITS, k] and ``intercepts`` [k] of k regressions, those of ``Scores`` in their order."""
    with np.load(path, allow_pickle=False) as file:
        return file["idf"].astype(np.float32), file["weights"].astype(np.float32), file["intercepts"]


def odds(part: str, path: Path = FILE) -> np.ndarray:
    """The log odds [k] of one piece of normalised text."""
    idf, weight, intercepts = weights(path)
    places, counts = np.unique(features(part), return_counts=True)
    values = (1 + np.log(counts)) * idf[places]
    return values @ weight[places] / max(float(np.sqrt(values @ values)), 1e-9) + intercepts


def size(text: str) -> int:
    """Words of Latin letters and other characters, white space not counted."""
    return len(_UNIT.findall(text))


def groups(text: str, limit: int) -> list[str]:
    """From each sentence on as many as have a ``size`` up to ``limit``, at least one; none that is the end of the one before."""
    sentences, found = _SENTENCE.findall(text), []
    sizes = [size(sentence) for sentence in sentences]
    for start in range(len(sentences)):
        group, total = sentences[start], sizes[start]
        for sentence, more in zip(sentences[start + 1:], sizes[start + 1:]):
            if (total := total + more) > limit:
                break
            group += sentence
        if not found or not found[-1].endswith(group):
            found.append(group)
    return found


def scores(text: str) -> Scores:
    """Of a normalised text: the log odds of crisis against none, of concern against none, and, where the first is highest, of
    crisis against concern."""
    if len(text) <= WHOLE or size(text) <= WHOLE:
        return Scores(*odds(text).tolist())
    pieces = groups(text, GROUP)
    table = np.array([odds(text[start:start + WINDOW]) for start in range(0, max(1, len(text) - WINDOW + STEP), STEP)]
                     + [odds(piece) - PRICE * log(len(pieces)) * np.array([1, 1, 0]) for piece in pieces])
    worst = table[table[:, 0].argmax()]
    return Scores(float(worst[0]), float(table[:, 1].max()), float(worst[2]))


def evidence(text: str) -> str:
    """The clause of a normalised text whose characters speak most for a crisis."""
    idf, weight, _ = weights()
    places, length, start = features(text), len(text) + 2, 0
    gains, by_character = weight[places, 0] * idf[places], np.zeros(length)
    for n in range(1, min(4, length) + 1):  # _runs come first
        part = gains[start:start + length - n + 1] / n
        for shift in range(n):
            by_character[shift:shift + len(part)] += part
        start += length - n + 1
    clauses = list(re.finditer(r"[^,。!?;:\n]+", text))
    best = max(clauses, key=lambda clause: by_character[clause.start() + 1:clause.end() + 1].sum(), default=None)
    return best[0].strip() if best else text
