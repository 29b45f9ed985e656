"""Automatic scores of answers against human references, always with the tokenizer that made them.
The paper does not state its tokenizer nor how NAvg is formed; the definitions here are the kit's. On the same Chinese
answers ROUGE-L is about .04 with the ASCII tokenizer that English tools default to and about .17 by characters."""

import re
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace

import numpy as np

_EXACT = SimpleNamespace(stem=str, synsets=lambda word: [])  # NLTK's stemmer and WordNet, without stems and synonyms


def tokenize(text: str, tokenizer: str) -> list[str]:
    """Lower-cased tokens. ``char``: runs of ASCII letters and digits, every other character by itself; ``jieba``: its
    words; ``ascii``: runs of [a-z0-9], which drops Chinese altogether; ``en``: as ``rouge_score`` splits, unstemmed."""
    if tokenizer == "char":
        return [token.lower() if token[0].isascii() else token for token in re.findall(r"[a-zA-Z0-9]+|\S", text)]
    if tokenizer == "jieba":
        import jieba
        jieba.setLogLevel("ERROR")
        return [token.lower() for token in jieba.lcut(text) if token.strip()]
    if tokenizer in ("ascii", "en"):  # rouge_score's default tokenizer is these runs
        return re.findall(r"[a-z0-9]+", text.lower())
    raise ValueError(f"unknown tokenizer {tokenizer!r}: one of char, jieba, ascii, en")


def bleu_1(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Clipped unigram precision times the brevity penalty with the closest reference length (ties: the shorter)."""
    from nltk.translate.bleu_score import sentence_bleu
    return float(sentence_bleu(references, prediction, weights=(1,))) if prediction else 0.0


def rouge_l(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F-measure (beta = 1) of the longest common subsequence, which is the Indel similarity; best over references."""
    from rapidfuzz.distance import Indel
    return max(Indel.normalized_similarity(prediction, r) for r in references) if prediction else 0.0


def meteor(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """NLTK's METEOR with exact matches only (no stems, no synonyms), the best over the references."""
    from nltk.translate.meteor_score import meteor_score
    return float(meteor_score(references, prediction, stemmer=_EXACT, wordnet=_EXACT))


def score(predictions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: str = "char") -> dict[str, float]:
    """``bleu_1``, ``rouge_l``, ``meteor`` (means over samples), ``distinct_1`` (different tokens over all tokens of all
    predictions) and their plain mean ``navg``, in 0–1, of n predictions and n non-empty lists of human answers."""
    by_sample = score_samples(predictions, references, tokenizer)
    means = {name: float(np.mean(values)) for name, values in by_sample.items()}
    tokens = [token for prediction in predictions for token in tokenize(prediction, tokenizer)]
    means["distinct_1"] = len(set(tokens)) / len(tokens) if tokens else 0.0
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


def bootstrap(groups: Sequence[Sequence[float]], seed: int = 0, rounds: int = 1000) -> list[float]:
    """95 % percentile interval of the mean, resampling whole groups (all samples of a question together)."""
    values = [np.asarray(group, dtype=float) for group in groups]
    picks = np.random.default_rng(seed).integers(0, len(values), (rounds, len(values)))
    drawn = [np.mean(np.concatenate([values[i] for i in pick])) for pick in picks]
    return [float(x) for x in np.percentile(drawn, [2.5, 97.5])]
