"""Automatic scores of answers against human references, always with the tokenizer that made them.
The paper does not state its tokenizer nor how NAvg is formed; the definitions here are the kit's. On the same Chinese
answers ROUGE-L is about .04 with the ASCII tokenizer that English tools default to and about .17 by characters."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

_EXACT = SimpleNamespace(stem=str, synsets=lambda word: [])  # NLTK's stemmer and WordNet, without stems and synonyms
_CHUNK = 1000  # predictions that one process scores at a time; so many start no second process
Tokens = Sequence[str]


def tokenize(text: str, tokenizer: str) -> list[str]:
    """The tokens of a text, white space dropped, no Unicode normalisation.

    ``char``: a run of ASCII letters and digits, lower-cased, and every other character (code point) by itself, as it is:
    ideographs, kana, punctuation, symbols, and so too full-width letters, accents and each part of a composed emoji.
    ``jieba``: the words of ``jieba.lcut``, lower-cased. ``ascii``: runs of [a-z0-9] after lower-casing, what English
    tools do to Chinese: all of it is dropped. ``en``: words as ``rouge_score`` splits them, unstemmed: the same runs."""
    if tokenizer == "char":
        return [token.lower() if token[0].isascii() else token for token in re.findall(r"[a-zA-Z0-9]+|\S", text)]
    if tokenizer == "jieba":
        import jieba
        jieba.setLogLevel("ERROR")
        return [token.lower() for token in jieba.lcut(text) if token.strip()]
    if tokenizer in ("ascii", "en"):
        return re.findall(r"[a-z0-9]+", text.lower())
    raise ValueError(f"unknown tokenizer {tokenizer!r}: one of char, jieba, ascii, en")


def bleu_1(prediction: Tokens, references: Sequence[Tokens]) -> float:
    """Clipped unigram precision (a token counts at most as often as in the reference that has most of it) times the
    brevity penalty exp(1 - r / c) where c, the prediction's length, is below r, the closest reference length (ties: the
    shorter; a reference without tokens counts, as 0). Of one prediction, by NLTK, unsmoothed; 0 without tokens."""
    from nltk.translate.bleu_score import sentence_bleu
    return float(sentence_bleu(references, prediction, weights=(1,))) if prediction else 0.0


def rouge_l(prediction: Tokens, references: Sequence[Tokens]) -> float:
    """F-measure (beta = 1) of the longest common subsequence, which is the Indel similarity; the best over references."""
    from rapidfuzz.distance import Indel
    return max(Indel.normalized_similarity(prediction, r) for r in references) if prediction else 0.0


def meteor(prediction: Tokens, references: Sequence[Tokens]) -> float:
    """NLTK's ``meteor_score`` (its greedy alignment; alpha .9, beta 3, gamma .5) with exact matches only: an identity
    stemmer and a WordNet without synsets; the best over references. NLTK lower-cases, so Ａ and ａ match here alone."""
    from nltk.translate.meteor_score import meteor_score
    return float(meteor_score(references, prediction, stemmer=_EXACT, wordnet=_EXACT))


def score(predictions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: str = "char") -> dict[str, float]:
    """``bleu_1``, ``rouge_l``, ``meteor`` (means over predictions), ``distinct_1`` (different tokens over all tokens of
    all predictions) and ``navg``, the plain mean of the four (an assumption: the paper does not say how it averages).

    In 0–1, of n answers (never the reasoning; "" where there is none scores 0) and n lists of human answers. ValueError
    where the lengths differ, a list is empty, something is not a text, or the tokenizer is unknown."""
    return measure(predictions, references, tokenizer)[0]


def score_samples(predictions: Sequence[str], references: Sequence[Sequence[str]],
                  tokenizer: str) -> dict[str, list[float]]:
    """``bleu_1``, ``rouge_l`` and ``meteor`` of each prediction; arguments and errors as in ``score``."""
    return measure(predictions, references, tokenizer)[1]


def measure(predictions: Sequence[str], references: Sequence[Sequence[str]],
            tokenizer: str) -> tuple[dict[str, float], dict[str, list[float]]]:
    """What ``score`` and ``score_samples`` return, in one pass; more than 1,000 predictions are scored on all cores, with
    the same result to the last bit. Fastest where predictions with the same references stand together."""
    from joblib import Parallel, cpu_count, delayed
    predictions, references = _checked(predictions, references)
    tokenize("", tokenizer)  # an unknown one is told here, not in another process
    starts = range(0, len(predictions), _CHUNK)
    parts = Parallel(n_jobs=min(cpu_count(), len(starts)))(
        delayed(_score_chunk)(predictions[i:i + _CHUNK], references[i:i + _CHUNK], tokenizer) for i in starts)
    by_sample = {f.__name__: [value for values, *_ in parts for value in values[f.__name__]] for f in (bleu_1, rouge_l, meteor)}
    total = sum(count for *_, count in parts)
    means = {name: float(np.mean(values)) for name, values in by_sample.items()}
    means["distinct_1"] = len(set().union(*(different for _, different, _ in parts))) / total if total else 0.0
    return means | {"navg": float(np.mean(list(means.values())))}, by_sample


def _score_chunk(predictions: list[str], references: list[Sequence[str]],
                 tokenizer: str) -> tuple[dict[str, list[float]], set[str], int]:
    tokens = cache(lambda text: tokenize(text, tokenizer))  # jieba costs more than all metrics
    pairs = [(tokens(p), [tokens(r) for r in refs]) for p, refs in zip(predictions, references)]
    values = {f.__name__: [f(p, refs) for p, refs in pairs] for f in (bleu_1, rouge_l, meteor)}
    return values, {token for p, _ in pairs for token in p}, sum(len(p) for p, _ in pairs)


def _checked(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[Sequence[str]]]:
    predictions, references = list(predictions), list(references)
    if not predictions or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions and {len(references)} lists of references: give one list "
                         "for each prediction, and at least one")
    if empty := [i for i, refs in enumerate(references) if refs is None or not len(refs)]:
        raise ValueError(f"prediction {empty[0]} has no reference ({len(empty)} such): give it one or leave it out")
    for i, (prediction, refs) in enumerate(zip(predictions, references)):
        if not isinstance(prediction, str):
            raise ValueError(f'prediction {i} is {prediction!r:.60}, not a text: give "" where a system said nothing')
        if isinstance(refs, str) or not all(isinstance(r, str) for r in refs):
            raise ValueError(f"the references of prediction {i} are {refs!r:.60}: give a list of texts")
    return predictions, references


def embedding_similarity(predictions: Sequence[str], references: Sequence[Sequence[str]], encoder: Any) -> list[float]:
    """BERTScore-like F1 of each prediction, the best over its references, in [-1, 1]; 0 for an empty text.

    After Zhang et al. 2020 (arXiv 1904.09675): each token takes the highest cosine that its contextual embedding has with
    a token of the other text; precision is the mean over the prediction, recall over the reference. Without idf weights
    and rescaling, at the encoder's last layer and by its own tokens; [CLS] and [SEP] can be matched but are not averaged,
    as in their code. Text beyond ``encoder.max_seq_length`` is not seen. ``encoder``: a SentenceTransformer over a
    Transformer; ValueError for a StaticEmbedding, whose tokens have no context. Errors also as in ``score``."""
    predictions, references = _checked(predictions, references)
    scores = []
    for start in range(0, len(predictions), 64):  # the token embeddings of all texts would not fit into memory
        block = list(zip(predictions, references))[start:start + 64]
        texts = list(dict.fromkeys(text for p, refs in block for text in (p, *refs)))
        tokens = dict(zip(texts, _token_embeddings(texts, encoder)))
        scores += [max(_matched(tokens[p], tokens[r]) for r in refs) for p, refs in block]
    return scores


def _token_embeddings(texts: list[str], encoder: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    if not hasattr(encoder[0], "auto_model"):
        raise ValueError(f"{type(encoder[0]).__name__} has no contextual token embeddings: give a SentenceTransformer "
                         "whose first module is a Transformer")
    marks = [encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id]
    found = []
    for row in encoder.encode(texts, output_value=None, show_progress_bar=False):
        seen = row["attention_mask"].bool()
        vectors = row["token_embeddings"][seen].float().cpu().numpy()
        found.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
                      ~np.isin(row["input_ids"][seen].cpu().numpy(), [mark for mark in marks if mark is not None])))
    return found


def _matched(prediction: tuple[np.ndarray, np.ndarray], reference: tuple[np.ndarray, np.ndarray]) -> float:
    (p, p_counts), (r, r_counts) = prediction, reference
    if not p_counts.any() or not r_counts.any():
        return 0.0
    cosines = p @ r.T
    precision, recall = cosines.max(1)[p_counts].mean(), cosines.max(0)[r_counts].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0


def distinct_by_question(predictions: Sequence[str], questions: Sequence[str], tokenizer: str) -> np.ndarray:
    """Distinct-1 as something that each question contributes to, shape ``[n]``, each prediction that of its question: the
    jackknife's pseudo-values N·D − (N − 1)·D(without the question), shifted so that their mean over the N questions is D.
    An interval or a test over questions then counts that another choice of questions has another Distinct-1."""
    said: dict[str, list[str]] = {}
    for question, prediction in zip(questions, predictions, strict=True):
        said.setdefault(question, []).extend(tokenize(prediction, tokenizer))
    held = Counter(token for tokens in said.values() for token in set(tokens))  # by how many questions
    n, total = len(said), sum(map(len, said.values()))
    distinct = len(held) / total if total else 0.0
    values = {}
    for question, tokens in said.items():
        alone, rest = sum(held[token] == 1 for token in set(tokens)), total - len(tokens)
        values[question] = n * distinct - (n - 1) * ((len(held) - alone) / rest if rest else 0.0)
    shift = distinct - float(np.mean(list(values.values())))
    return np.array([values[question] + shift for question in questions])


def longest_copy(text: str, corpus: str) -> int:
    """Length in characters of the longest run of ``text`` that stands word for word in ``corpus``."""
    best = 0
    for start in range(len(text)):
        while start + best < len(text) and text[start:start + best + 1] in corpus:
            best += 1
    return best


def ngrams(text: str, n: int = 8) -> list[str]:
    """Every run of n characters of a text, white space dropped."""
    text = "".join(text.split())
    return [text[i:i + n] for i in range(len(text) - n + 1)]


def copied_ngrams(predictions: Sequence[str], corpus: Sequence[str], n: int = 8) -> set[str]:
    """The n-grams of the predictions that stand in a text of the corpus. Its own are looked up text by text and not
    kept: those of 168,470 answers would take some 5 GB."""
    said = {gram for text in predictions for gram in ngrams(text, n)}
    return set().union(*(said.intersection(ngrams(text, n)) for text in corpus))


def copied_share(text: str, copied: set[str], n: int = 8) -> float:
    """The share of a text's n-grams that are in a set, such as ``copied_ngrams`` of all predictions or the n-grams of
    the training answers; 0 where the text is shorter than n. High ROUGE-L with a high share is memory, not skill."""
    grams = ngrams(text, n)
    return sum(gram in copied for gram in grams) / len(grams) if grams else 0.0


def bootstrap(groups: Sequence[Sequence[float]], seed: int = 0, rounds: int = 1000) -> list[float]:
    """95 % percentile interval of the mean, resampling whole groups (all samples of a question together)."""
    sums, sizes = np.array([(np.sum(group), len(group)) for group in groups], dtype=float).T
    picks = np.random.default_rng(seed).integers(0, len(sums), (rounds, len(sums)))
    drawn = [sums[pick].sum() / sizes[pick].sum() for pick in picks]
    return [float(x) for x in np.percentile(drawn, [2.5, 97.5])]


def compare(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], seed: int = 0) -> dict[str, Any]:
    """System a against b on the same questions: ``value``, the mean difference a - b, each question counted once;
    ``ci95``, its bootstrap interval over questions; ``p``, two-sided, of a paired permutation test (a and b exchanged
    within questions: all ways up to 13 questions, else 9,999 at random); ``questions``.

    ``a[i]`` and ``b[i]`` hold the values of question i, any number of samples. ValueError unless there are two questions
    or more, each with a value of both."""
    from scipy.stats import permutation_test
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"{len(a)} questions of one system and {len(b)} of the other: give both the same, at least two")
    if empty := [i for i, pair in enumerate(zip(a, b)) if not all(map(len, pair))]:
        raise ValueError(f"question {empty[0]} has no value of one system ({len(empty)} such): leave it out of both")
    differences = np.array([np.mean(x) - np.mean(y) for x, y in zip(a, b)])
    # Of one sample, scipy flips the signs, which is to exchange the pair; in batches, or it holds all flips at once.
    test = permutation_test((differences,), np.mean, permutation_type="samples", vectorized=True, batch=500, rng=seed)
    return {"value": float(differences.mean()), "ci95": bootstrap(differences[:, None], seed), "p": float(test.pvalue),
            "questions": len(differences)}
