"""A topic for questions that bring none: the nearest of the 29 bundled topics by embedding. The paper has 29 topics and
182 subtopics but neither names them all nor says who assigned them; the list, and this step, are ours."""

from collections.abc import Sequence

import numpy as np
from omegaconf import OmegaConf

from empathy_lib import BUNDLED
from empathy_lib.schema import read_questions

OTHER = "其他"


def catalogue() -> list[dict]:
    """The bundled topics: ``slug``, ``zh``, ``en``, ``subtopics`` (each ``zh``, ``en``)."""
    return OmegaConf.to_container(OmegaConf.load(BUNDLED / "topics.yaml"))


def assign(texts: Sequence[str], encoder: str, threshold: float, language: str) -> list[tuple[str, float]]:
    """For each text the nearest topic's slug and their cosine, or ``其他`` below ``threshold``.
    A topic is the mean embedding of its names and, in Chinese, of its bundled training questions. ``encoder``:
    ``tfidf`` (words for English, characters and bigrams for Chinese) or a SentenceTransformer's name or folder."""
    if not texts:
        return []
    slugs, owner, known = [], [], []
    bundled = [q for q in read_questions(BUNDLED / "questions.jsonl")[0] if q.split == "train" and language == "zh"]
    for place, topic in enumerate(catalogue()):
        slugs.append(topic["slug"])
        names = [topic[language], *(s[language] for s in topic["subtopics"])]
        own = [f"{q.title}\n{q.question}" for q in bundled if q.topic == topic["slug"]]
        known += names + own
        owner += [place] * len(names + own)
    vectors, asked = embed(known, texts, encoder, language)
    member = (np.array(owner) == np.arange(len(slugs))[:, None]).astype(np.float32)  # topics × known texts
    centre = np.asarray(member @ vectors)
    near = np.asarray(asked @ (centre / np.linalg.norm(centre, axis=1, keepdims=True)).T)
    best = near.argmax(1)
    return [(slugs[i] if row[i] >= threshold else OTHER, round(float(row[i]), 4)) for i, row in zip(best, near)]


def embed(known: list[str], texts: Sequence[str], encoder: str, language: str):
    """Unit vectors (rows; sparse for ``tfidf``) of the known texts, on which ``tfidf`` is fitted, and of the asked ones."""
    if encoder == "tfidf":
        from sklearn.feature_extraction.text import TfidfVectorizer
        kind = dict(analyzer="word", stop_words="english") if language == "en" else \
            dict(analyzer="char", ngram_range=(1, 2))
        vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **kind).fit(known)
        return vectorizer.transform(known), vectorizer.transform(texts)
    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer(encoder)
    return tuple(model.encode(list(part), normalize_embeddings=True, show_progress_bar=len(part) > 1000)
                 for part in (known, texts))
