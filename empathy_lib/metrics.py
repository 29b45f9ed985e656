"""Automatic scores of answers against human references, always with the tokenizer that made them.

The paper does not state its tokenizer nor how NAvg is formed; the definitions here are the kit's. A score without
its tokenizer says nothing: on the same Chinese answers ROUGE-L is about .04 with the ASCII tokenizer that English
tools default to and about .17 by characters.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

TOKENIZERS = ("char", "jieba", "ascii", "en")
_CHAR = re.compile(r"[a-zA-Z0-9]+|\S")


def tokenize(text: str, tokenizer: str) -> list[str]:
    """Tokens of a text.

    ``char``: runs of ASCII letters and digits (lower-cased) and every other character by itself; ``jieba``: the words
    of ``jieba.lcut``, lower-cased; ``ascii``: runs of [a-z0-9] after lower-casing, which drops Chinese altogether;
    ``en``: the words as ``rouge_score`` splits them, without stemming. White space is dropped.

    Raises:
        ValueError: no such tokenizer.
    """
    if tokenizer == "char":
        return [token.lower() if token[0].isascii() else token for token in _CHAR.findall(text)]
    if tokenizer == "jieba":
        import jieba

        jieba.setLogLevel("ERROR")
        return [token.lower() for token in jieba.lcut(text) if token.strip()]
    if tokenizer in ("ascii", "en"):  # rouge_score's default tokenizer is these runs
        return re.findall(r"[a-z0-9]+", text.lower())
    raise ValueError(f"unknown tokenizer {tokenizer!r}: one of {', '.join(TOKENIZERS)}")


def bleu_1(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Clipped unigram precision times the brevity penalty with the closest reference length (ties: the shorter)."""
    if not prediction:
        return 0.0
    most = Counter()
    for reference in references:
        most |= Counter(reference)
    clipped = (Counter(prediction) & most).total()
    closest = min((len(r) for r in references), key=lambda length: (abs(length - len(prediction)), length))
    penalty = 1.0 if len(prediction) > closest else float(np.exp(1 - closest / len(prediction)))
    return penalty * clipped / len(prediction)


def rouge_l(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F-measure (beta = 1) of the longest common subsequence, the best over the references."""
    from rapidfuzz.distance import LCSseq

    return max((2 * LCSseq.similarity(prediction, r) / (len(prediction) + len(r)) if prediction and r else 0.0
                for r in references), default=0.0)


class _NoSynsets:
    @staticmethod
    def synsets(word: str) -> list:
        return []


class _NoStemmer:
    @staticmethod
    def stem(word: str) -> str:
        return word


def meteor(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """NLTK's METEOR with exact matches only (no stems, no synonyms), the best over the references."""
    from nltk.translate.meteor_score import single_meteor_score

    return max((float(single_meteor_score(r, prediction, stemmer=_NoStemmer, wordnet=_NoSynsets))
                for r in references if prediction and r), default=0.0)


def distinct_1(predictions: Sequence[Sequence[str]]) -> float:
    """Different tokens over all tokens, over all predictions together."""
    total = sum(map(len, predictions))
    return len({token for prediction in predictions for token in prediction}) / total if total else 0.0


def score(predictions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: str = "char") -> dict[str, float]:
    """``bleu_1``, ``rouge_l``, ``meteor`` (means over samples), ``distinct_1`` and their plain mean ``navg``, in 0–1.

    Args:
        predictions: n answers (an empty one scores 0).
        references: n non-empty lists of human answers.
        tokenizer: ``char``, ``jieba``, ``ascii`` or ``en``.

    Raises:
        ValueError: unequal lengths, an empty reference list, or an unknown tokenizer.
    """
    by_sample = score_samples(predictions, references, tokenizer)
    means = {name: float(np.mean(values)) for name, values in by_sample.items()}
    means["distinct_1"] = distinct_1([tokenize(p, tokenizer) for p in predictions])
    return means | {"navg": float(np.mean(list(means.values())))}


def score_samples(predictions: Sequence[str], references: Sequence[Sequence[str]],
                  tokenizer: str) -> dict[str, list[float]]:
    """``bleu_1``, ``rouge_l`` and ``meteor`` of each prediction; arguments and errors as in ``score``."""
    if not predictions or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions and {len(references)} lists of references: give one list "
                         "for each prediction, and at least one")
    if empty := [i for i, r in enumerate(references) if not r]:
        raise ValueError(f"prediction {empty[0]} has no reference ({len(empty)} such)")
    tokens = cache(lambda text: tokenize(text, tokenizer))
    pairs = [(tokens(p), [tokens(r) for r in refs]) for p, refs in zip(predictions, references)]
    return {f.__name__: [f(p, refs) for p, refs in pairs] for f in (bleu_1, rouge_l, meteor)}


def longest_copy(text: str, corpus: str) -> int:
    """Length in characters of the longest run of ``text`` that stands word for word in ``corpus``."""
    best = 0
    for start in range(len(text)):
        while start + best < len(text) and text[start:start + best + 1] in corpus:
            best += 1
    return best


def bootstrap(groups: Sequence[Sequence[float]], statistic: Callable[[np.ndarray], float] = np.mean,
              seed: int = 0, rounds: int = 1000) -> list[float]:
    """95 % percentile interval of a statistic, resampling whole groups (all samples of a question together)."""
    rng, values = np.random.default_rng(seed), [np.asarray(group, dtype=float) for group in groups]
    picks = rng.integers(0, len(values), (rounds, len(values)))
    drawn: list[Any] = [statistic(np.concatenate([values[i] for i in pick])) for pick in picks]
    return [float(x) for x in np.percentile(drawn, [2.5, 97.5])]
