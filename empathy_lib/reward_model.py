"""The reward model: an encoder trained to put an answer near its own question, with the triplet loss of Eq. 5,
``max(0, d(a, p) - d(a, n) + m)``: d the cosine distance, m the margin, a the question, p its answer, n another
question's answer. Which of these the paper used is not stated: here, a share of the same topic."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_lib import policy
from empathy_lib.params import Params
from empathy_lib.run import building
from empathy_lib.schema import Question


def new_encoder(params: Params, texts: Sequence[str]) -> Any:
    """The named SentenceTransformer, or ``static``, untrained: the mean of one 256-number vector for each BPE token."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import set_seed
    if params.reward_model.encoder != "static":
        return SentenceTransformer(params.reward_model.encoder)
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()])
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=12000, min_frequency=2, special_tokens=["[UNK]"], show_progress=False))
    set_seed(params.seed)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=256)], device="cpu")


def triplets(questions: Sequence[Question], same_topic_fraction: float, seed: int) -> list[dict[str, str]]:
    """One (anchor, positive, negative) for each answer of each question; seeded. A share ``same_topic_fraction`` of the
    negatives answers another question of the same topic, where there is one. ValueError for a single question."""
    if len(questions) < 2:
        raise ValueError(f"a triplet needs an answer to another question, and there are {len(questions)} questions")
    rng, by_topic, rows = random.Random(seed), {}, []
    for question in questions:
        by_topic.setdefault(question.topic, []).append(question)
    for question in questions:
        near = [q for q in by_topic[question.topic] if q is not question]
        for answer in question.answers:
            pool = near if near and rng.random() < same_topic_fraction else questions
            other = rng.choice(pool)
            while other is question:
                other = rng.choice(pool)
            negative = rng.choice(other.answers).text
            rows.append({"anchor": question.question, "positive": answer.text, "negative": negative})
    return rows


def train(questions: Sequence[Question], folder: Path, params: Params) -> list[dict[str, Any]]:
    """Train the encoder into ``folder/model`` from ``folder/untrained``; resumes. Returns the log, one dict a step."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss
    from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
    r, untrained = params.reward_model, folder / "untrained"
    rows = triplets(questions, r.same_topic_fraction, params.seed)
    if not untrained.exists():
        with building(untrained) as target:
            new_encoder(params, [text for row in rows for text in row.values()]).save(str(target))
    model = SentenceTransformer(str(untrained))
    arguments = SentenceTransformerTrainingArguments(
        **policy.trainer_arguments(params, folder, r), num_train_epochs=r.epochs, save_steps=r.save_steps)
    loss = TripletLoss(model, TripletDistanceMetric.COSINE, triplet_margin=r.margin)
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), loss=loss)
    return policy.fit(trainer, folder / "model", lambda target: model.save(str(target)))


def load(folder: Path) -> Any:
    """A trained (or untrained) encoder from its folder."""
    from sentence_transformers import SentenceTransformer
    return SentenceTransformer(str(folder))


def similarity(encoder: Any, questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """Cosine of each question with its answer, shape ``[n]``, in [-1, 1]; an empty text has cosine 0."""
    q, a = (encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
            for texts in (questions, answers))
    empty = np.array([not (x.strip() and y.strip()) for x, y in zip(questions, answers)], dtype=bool)
    return np.where(empty, 0.0, np.nan_to_num((q * a).sum(axis=1)))


def tfidf_similarity(corpus: Sequence[str], questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """The same by TF-IDF over character 1- and 2-grams fitted on ``corpus``: the baseline without learning."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    fitted = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True).fit(corpus)
    return np.asarray(fitted.transform(questions).multiply(fitted.transform(answers)).sum(axis=1)).ravel()


def pair_accuracy(score: Callable[..., np.ndarray], rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """How often ``score(questions, answers)`` ranks a triplet's positive first, with n and a 95 % Wilson interval."""
    from scipy.stats import binomtest
    anchors, positives, negatives = ([row[key] for row in rows] for key in ("anchor", "positive", "negative"))
    hits = int((score(anchors, positives) > score(anchors, negatives)).sum())
    low, high = binomtest(hits, len(rows)).proportion_ci(method="wilson")
    return {"value": hits / len(rows), "n": len(rows), "ci95": [float(low), float(high)]}
