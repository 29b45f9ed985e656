"""The reward model: an encoder trained to put an answer near its own question, with the triplet loss of Eq. 5,
``max(0, d(a, p) - d(a, n) + m)``: d the cosine distance, m the margin, a the question, p its answer, n a negative
(``negatives.py``)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_lib import metrics, policy
from empathy_lib.negatives import collect, triplets
from empathy_lib.params import Params
from empathy_lib.run import building
from empathy_lib.schema import Question, read_jsonl, write_jsonl

Judge = Callable[[Sequence[str], Sequence[str]], np.ndarray]


def new_encoder(params: Params, texts: Sequence[str]) -> Any:
    """The named SentenceTransformer, or an untrained one: ``static``, the mean of one 256-number vector for each BPE
    token, or ``two_towers``, one such mean for questions and another for answers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    name = params.reward_model.encoder
    if name not in ("static", "two_towers"):
        return SentenceTransformer(name)
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()])
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=12000, min_frequency=2, special_tokens=["[UNK]"], show_progress=False))
    # A third of PyTorch's length, so that what training adds outweighs the noise of tokens that were hardly ever pushed.
    noise = np.random.default_rng(params.seed).normal(0, 0.3, (2, tokenizer.get_vocab_size(), 256)).astype(np.float32)
    towers = [StaticEmbedding(tokenizer, embedding_weights=weights) for weights in noise[:1 + (name == "two_towers")]]
    modules = towers if len(towers) == 1 else [Router.for_query_document([towers[0]], [towers[1]])]
    return SentenceTransformer(modules=modules, device="cpu")


def prepare(questions: Sequence[Question], base: str | Path, folder: Path, params: Params) -> list[dict[str, str]]:
    """The training triplets, kept in ``folder/triplets.jsonl``: a finished file is read, not made again. ``base`` is the
    untrained policy, whose replies are one kind of negative."""
    file = folder / "triplets.jsonl"
    if not file.exists():
        texts = [text for q in questions for a in q.answers for text in (q.question, a.text)]
        replies = collect(questions, untrained(texts, folder, params), base, folder / "base_train.jsonl", params)
        write_jsonl(file, triplets(questions, params.reward_model.negatives, params.seed, replies))
    return read_jsonl(file)


def untrained(texts: Sequence[str], folder: Path, params: Params) -> Any:
    """The encoder before training, from ``folder/untrained``, made there from ``texts`` where it is missing."""
    if not (folder / "untrained").exists():
        with building(folder / "untrained") as target:
            new_encoder(params, texts).save(str(target))
    return load(folder / "untrained")


def train(rows: Sequence[dict[str, str]], dev: Sequence[dict[str, str]], folder: Path, params: Params) -> list[dict[str, Any]]:
    """Train the encoder on triplets into ``folder/model``, keeping the checkpoint with the lowest loss on those of ``dev``;
    resumes. Returns the log, one dict a step and one a look at dev."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.evaluation import TripletEvaluator
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss
    from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
    r, columns = params.reward_model, ("anchor", "positive", "negative")
    model = untrained([row[name] for row in rows for name in columns[:2]], folder, params)
    evaluator = TripletEvaluator(*([row[name] for row in dev] for name in columns), name="dev", write_csv=False)
    arguments = SentenceTransformerTrainingArguments(
        **policy.trainer_arguments(params, folder, r), num_train_epochs=r.epochs, save_steps=r.save_steps,
        eval_strategy="steps", eval_steps=r.save_steps, load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        per_device_eval_batch_size=r.batch_size, router_mapping=dict(zip(columns, ("query", "document", "document")))
        if any(isinstance(module, Router) for module in model) else None)
    loss = TripletLoss(model, TripletDistanceMetric.COSINE, triplet_margin=r.margin)
    seen, unseen = (Dataset.from_list([{name: row[name] for name in columns} for row in part]) for part in (rows, dev))
    trainer = SentenceTransformerTrainer(model=model, args=arguments, evaluator=evaluator, loss=loss, train_dataset=seen,
                                         eval_dataset=unseen)
    return policy.fit(trainer, folder / "model", lambda target: model.save(str(target)))


def load(folder: Path) -> Any:
    """A trained (or untrained) encoder from its folder."""
    from sentence_transformers import SentenceTransformer
    return SentenceTransformer(str(folder))


def similarity(encoder: Any, questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """Cosine of each question with its answer, shape ``[n]``, in [-1, 1]; 0 where a text has no embedding."""
    q = encoder.encode_query(list(questions), normalize_embeddings=True, show_progress_bar=False)
    a = encoder.encode_document(list(answers), normalize_embeddings=True, show_progress_bar=False)
    return np.nan_to_num((q * a).sum(axis=1))


def tfidf_similarity(corpus: Sequence[str], questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """The same by TF-IDF over character 1- and 2-grams fitted on ``corpus``: the baseline without learning."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    fitted = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True).fit(corpus)
    return np.asarray(fitted.transform(questions).multiply(fitted.transform(answers)).sum(axis=1)).ravel()


def rank_pairs(judge: Judge, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """How well ``judge(questions, answers)`` ranks triplets: ``value``, the share in which the positive is the nearer
    one, and ``auc``, the chance that some positive is nearer than some negative; n; 95 % intervals (bootstrap over
    questions)."""
    anchors, positives, negatives = ([row[key] for row in rows] for key in ("anchor", "positive", "negative"))
    own, other = judge(anchors, positives), judge(anchors, negatives)
    names = np.unique([row["question_id"] for row in rows], return_inverse=True)[1]
    groups = [np.flatnonzero(names == i) for i in range(names.max() + 1)]
    hits = (own > other).astype(float)
    draws = np.random.default_rng(0).integers(0, len(groups), (500, len(groups)))
    aucs = [auc(own, other, np.bincount(draw, minlength=len(groups))[names]) for draw in draws]
    return {"value": float(hits.mean()), "n": len(rows), "ci95": metrics.bootstrap([hits[g] for g in groups]),
            "auc": auc(own, other, np.ones(len(rows))), "auc_ci95": np.percentile(aucs, [2.5, 97.5]).round(9).tolist()}


def auc(own: np.ndarray, other: np.ndarray, times: np.ndarray) -> float:
    """The chance that one of ``own`` lies above one of ``other`` (equal counts half), pair i taken ``times[i]`` times (as
    scikit-learn's ``roc_auc_score``, but fast enough for a bootstrap)."""
    order = np.argsort(other)
    below = np.r_[0, np.cumsum(times[order])]  # how many of the others lie below each place
    places = [np.searchsorted(other[order], own, side) for side in ("left", "right")]
    return round(float(times @ (below[places[0]] + below[places[1]]) / 2 / times.sum() ** 2), 9)


def verdicts(own: np.ndarray, other: np.ndarray, threshold: float) -> dict[str, Any]:
    """Precision, recall and F1 of "cosine > T" (Eq. 6), own answers against others'; precision None where none passes."""
    passed, wrong = int((own > threshold).sum()), int((other > threshold).sum())
    return {"T": threshold, "precision": passed / (passed + wrong) if passed + wrong else None,
            "recall": passed / len(own), "f1": 2 * passed / (passed + wrong + len(own))}


def threshold_curves(own: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
    """``precision``, ``recall`` and ``F1`` of "cosine >= T" at each cosine ``T`` that occurs, ascending."""
    from sklearn.metrics import precision_recall_curve
    precision, recall, cuts = precision_recall_curve(np.repeat([1, 0], [len(own), len(other)]), np.r_[own, other])
    f1 = np.round(2 * precision * recall / np.maximum(precision + recall, 1e-9), 9)  # equal ones stay equal
    return {"T": cuts.astype(float), "precision": precision[:-1], "recall": recall[:-1], "F1": f1[:-1]}


def best_threshold(own: np.ndarray, other: np.ndarray) -> float:
    """The T of the best F1 (what ``grpo.threshold: auto`` takes): the lowest of equals, midway between two cosines
    (Eq. 6 says ">")."""
    curves = threshold_curves(own, other)
    best = int(curves["F1"].argmax())
    return round(float(np.mean([curves["T"][best], curves["T"][best - 1] if best else -1.0])), 4)
