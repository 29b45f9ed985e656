r"""The reward model: an encoder that puts an answer near its own question.

Trained on (anchor, positive, negative) = (question, its answer, another question's answer) with the triplet loss of
Eq. 5, ``max(0, d(a, p) - d(a, n) + m)``, d the cosine distance, m the margin; through sentence-transformers'
``SentenceTransformerTrainer``. Which negatives the paper used is not stated: here, answers to another question,
a share of them of the same topic.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_lib import policy
from empathy_lib.params import Params
from empathy_lib.run import building, checkpoint
from empathy_lib.schema import Question, write_jsonl

STATIC_DIMENSIONS = 256
STATIC_VOCABULARY = 12000


def new_encoder(params: Params, texts: Sequence[str]) -> Any:
    """An untrained ``static`` encoder over the words of ``texts``, or the SentenceTransformer of that name.

    ``static`` is the mean of one 256-number vector for each character or frequent word (a BPE over characters): no
    order, no context, quick on a CPU.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import set_seed

    if params.reward_model.encoder != "static":
        return SentenceTransformer(params.reward_model.encoder)
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()])
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=STATIC_VOCABULARY, min_frequency=2,
                                                             special_tokens=["[UNK]"], show_progress=False))
    set_seed(params.seed)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=STATIC_DIMENSIONS)], device="cpu")


def triplets(questions: Sequence[Question], same_topic_fraction: float, seed: int) -> list[dict[str, str]]:
    """One (anchor, positive, negative) for each answer of each question; seeded.

    With probability ``same_topic_fraction`` the negative answers another question of the same topic (where there is
    one), else any other question.

    Raises:
        ValueError: there is only one question, so no negative.
    """
    if len(questions) < 2:
        raise ValueError(f"a triplet needs an answer to another question, and there are {len(questions)} questions")
    rng, by_topic = random.Random(seed), {}
    for question in questions:
        by_topic.setdefault(question.topic, []).append(question)
    rows = []
    for question in questions:
        near = [q for q in by_topic[question.topic] if q is not question]
        for answer in question.answers:
            pool = near if near and rng.random() < same_topic_fraction else questions
            other = rng.choice(pool)
            while other is question:
                other = rng.choice(pool)
            rows.append({"anchor": question.question, "positive": answer.text,
                         "negative": rng.choice(other.answers).text})
    return rows


def train(questions: Sequence[Question], folder: Path, params: Params) -> list[dict[str, Any]]:
    """Train the encoder into ``folder/model`` (the untrained one is kept in ``folder/untrained``); resumes.

    Returns:
        The training log, one dict a step (also ``folder/log.jsonl``).
    """
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
    trainer = SentenceTransformerTrainer(
        model=model, train_dataset=Dataset.from_list(rows),
        loss=TripletLoss(model, TripletDistanceMetric.COSINE, triplet_margin=r.margin),
        args=SentenceTransformerTrainingArguments(
            **policy.trainer_arguments(params, folder, r.save_steps), num_train_epochs=r.epochs,
            per_device_train_batch_size=r.batch_size, learning_rate=r.learning_rate, lr_scheduler_type="linear"))
    trainer.train(resume_from_checkpoint=checkpoint(folder))
    log = policy.history(trainer)
    write_jsonl(folder / "log.jsonl", log)
    if not (folder / "model").exists():
        with building(folder / "model") as target:
            model.save(str(target))
    return log


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


def proportion(hits: int, n: int) -> dict[str, Any]:
    """A share with its n and 95 % Wilson interval."""
    from scipy.stats import binomtest

    low, high = binomtest(hits, n).proportion_ci(method="wilson")
    return {"value": hits / n, "n": n, "ci95": [float(low), float(high)]}


def pair_accuracy(score: Any, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """How often ``score(questions, answers)`` puts the positive of a triplet above its negative."""
    anchors, positives, negatives = ([row[key] for row in rows] for key in ("anchor", "positive", "negative"))
    wins = score(anchors, positives) > score(anchors, negatives)
    return proportion(int(wins.sum()), len(rows))
