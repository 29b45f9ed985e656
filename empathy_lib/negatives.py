"""Negatives: the replies from which the encoder learns what does *not* answer a question, mixed by the weights of
``reward_model.negatives``. How the paper makes its own is not stated; all of these are ours.

random: an answer to another question; same_topic: one of the same topic; hard: one that lies near this question before
training; base: what the untrained policy says; faulty: a bundled reply with a fault (cold, preaching, a platitude …);
padded: the question's own answer, stretched to three times its length with faulty replies."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from empathy_lib import BUNDLED, coe, policy
from empathy_lib.blocks import Negative
from empathy_lib.params import Params
from empathy_lib.schema import Question, read_jsonl, read_questions, write_jsonl

KINDS = get_args(Negative)
BASE_QUESTIONS = 500  # replies of the base are generated for so many questions of a split: at paper scale that is slow

Replies = Mapping[str, Mapping[str, Sequence[str]]]  # kind: question_id: texts


def triplets(questions: Sequence[Question], weights: Mapping[str, float], seed: int,
             replies: Replies = {}) -> list[dict[str, str]]:
    """One (anchor, positive, negative) for each answer of each question, and the negative's ``kind``, drawn by
    ``weights``; ``random`` stands in where a question has none of the kind. ValueError for a single question."""
    if len(questions) < 2:
        raise ValueError(f"a triplet needs an answer to another question, and there are {len(questions)} questions")
    rng, by_topic, rows = random.Random(seed), {}, []
    filler = [text for kind in ("faulty", "filler") for texts in replies.get(kind, {}).values() for text in texts]
    for question in questions:
        by_topic.setdefault(question.topic, []).append(question)
    for question in questions:
        near = [q for q in by_topic[question.topic] if q is not question]
        for answer in question.answers:
            kind, = rng.choices(list(weights), list(weights.values()))
            if kind == "padded" and filler:
                negative = answer.text
                while len(negative) < 3 * len(answer.text):  # on both sides: an encoder may read the first part only
                    negative = rng.choice([negative + rng.choice(filler), rng.choice(filler) + negative])
            elif texts := replies.get(kind, {}).get(question.question_id):
                negative = rng.choice(texts)
            else:
                kind = "same_topic" if kind == "same_topic" and near else "random"
                other = rng.choice(near if kind == "same_topic" else questions)
                while other is question:
                    other = rng.choice(questions)
                negative = rng.choice(other.answers).text
            rows.append({"anchor": question.question, "positive": answer.text, "negative": negative, "kind": kind,
                         "question_id": question.question_id})
    return rows


def collect(questions: Sequence[Question], encoder: Any, base: str | Path, file: Path, params: Params) -> Replies:
    """What the kinds ``hard``, ``base``, ``faulty`` and ``padded`` draw from, where their weight is not 0. The base's replies
    are kept in ``file``: a finished file is read, not made again. Questions without faulty replies of their own are
    padded with those to the bundled training questions (``filler``; Chinese only)."""
    weights, found = params.reward_model.negatives, {}
    if weights.get("hard"):
        found["hard"] = mine(questions, encoder, params.seed)
    if weights.get("base"):
        found["base"] = {row["question_id"]: [row["reply"]] for row in base_replies(questions, base, file, params)}
    if weights.get("faulty") or weights.get("padded"):
        bundled = {}
        for row in read_jsonl(BUNDLED / "negatives.jsonl"):
            bundled.setdefault(row["question_id"], []).append(row["text"])
        found["faulty"] = {q.question_id: bundled[q.question_id] for q in questions if q.question_id in bundled}
        if not found["faulty"] and params.language == "zh":
            shipped = read_questions(BUNDLED / "questions.jsonl")[0]
            found["filler"] = {q.question_id: bundled[q.question_id] for q in shipped if q.split == "train" and q.question_id in bundled}
    return found


def mine(questions: Sequence[Question], encoder: Any, seed: int) -> dict[str, list[str]]:
    """By question_id, answers to other questions drawn from the twenty nearest to the question (sentence-transformers'
    ``mine_hard_negatives``)."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives
    from transformers import set_seed
    set_seed(seed)
    pairs = Dataset.from_list([{"anchor": q.question, "positive": a.text} for q in questions for a in q.answers])
    mined = mine_hard_negatives(pairs, encoder, range_max=20, num_negatives=5, sampling_strategy="random",
                                verbose=False, faiss_batch_size=1024)  # so many questions at once against all answers
    names, found = {q.question: q.question_id for q in questions}, {}
    for row in mined:
        found.setdefault(names[row["anchor"]], []).append(row["negative"])
    return found


def base_replies(questions: Sequence[Question], base: str | Path, file: Path, params: Params) -> list[dict[str, str]]:
    """What the untrained policy answers to at most ``BASE_QUESTIONS`` questions, drawn with the run's seed; empty replies and
    chains without an answer are left out."""
    if file.exists():
        return read_jsonl(file)
    model, tokenizer = policy.load(base, params)
    asked = random.Random(params.seed).sample(list(questions), min(BASE_QUESTIONS, len(questions)))
    said = policy.generate(
        model, tokenizer, [policy.prompt(tokenizer, q.question, params) for q in asked], what=file.stem, temperature=1.0,
        max_new_tokens=params.policy.max_seq_length // 4, batch_size=params.reward_model.batch_size, seed=params.seed)
    replies = [coe.loose_answer(text) or ("" if any(tag in text for tag in coe.TAGS) else text.strip()) for text in said]
    rows = [{"question_id": q.question_id, "reply": reply} for q, reply in zip(asked, replies) if reply]
    write_jsonl(file, rows)
    return rows
