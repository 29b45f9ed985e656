"""Answer the test questions with each system, and score what was said (the answer, never the reasoning)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_lib import metrics, policy
from empathy_lib.coe import answer_of, is_valid
from empathy_lib.params import Params
from empathy_lib.schema import Question, read_jsonl, write_jsonl
from empathy_lib.view import short

TOKENIZERS = ("char", "jieba", "ascii")


def systems(params: Params, run_folder: Path) -> dict[str, str | Path]:
    """The systems compared, by name: the untrained policy, after SFT, after GRPO."""
    return {"base": policy.base(params, run_folder), "sft": run_folder / "03_sft" / "model",
            "empathy_r1": run_folder / "05_grpo" / "model"}


def answer_questions(model_folder: str | Path, questions: Sequence[Question], file: Path, params: Params,
                     samples: int | None = None) -> list[dict[str, Any]]:
    """Sample completions for the questions and keep them in ``file``; a finished file is read, not made again.

    Returns:
        ``{"question_id", "question", "sample", "completion", "answer", "valid"}``; ``answer`` is empty where the
        completion is not a well-formed chain.
    """
    if file.exists():
        return read_jsonl(file)
    e = params.evaluation
    samples = samples or e.samples_per_question
    model, tokenizer = policy.load(model_folder, params)
    asked = [(q, n) for q in questions for n in range(samples)]
    completions = policy.generate(
        model, tokenizer, [policy.prompt(tokenizer, q.question, params) for q, _ in asked], what=file.stem,
        temperature=e.temperature, max_new_tokens=e.max_completion_tokens, batch_size=e.batch_size, seed=params.seed)
    rows = [{"question_id": q.question_id, "question": q.question, "sample": n, "completion": text,
             "answer": answer_of(text), "valid": is_valid(text)} for (q, n), text in zip(asked, completions)]
    write_jsonl(file, rows)
    return rows


def valid_rate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Share of completions that are well-formed chains, with n and a 95 % interval (bootstrap over questions)."""
    groups = _by_question(rows, [float(row["valid"]) for row in rows])
    values = [v for group in groups for v in group]
    return {"value": float(np.mean(values)), "n": len(values), "questions": len(groups),
            "ci95": metrics.bootstrap(groups)}


def score_system(rows: Sequence[dict[str, Any]], questions: Sequence[Question], train_answers: Sequence[str],
                 params: Params) -> dict[str, Any]:
    """All figures of one system: format, the scores by tokenizer with intervals, and copying.

    References are the human answers of the same question in the same view as the completions. ``longest_copy`` is the
    mean over valid answers of the longest run (characters) found word for word in a training answer.
    """
    references = {q.question_id: [short(a.text, params.view.answer_chars) for a in q.answers] for q in questions}
    predictions, refs = [r["answer"] for r in rows], [references[r["question_id"]] for r in rows]
    corpus = "\n".join(train_answers)
    copied = [metrics.longest_copy(p, corpus) for p in predictions if p]
    figures: dict[str, Any] = {
        "n": len(rows), "format_valid": sum(r["valid"] for r in rows) / len(rows), "format": valid_rate(rows),
        "answer_chars": float(np.mean([len(p) for p in predictions if p])) if copied else None,
        "longest_copy": {"mean": float(np.mean(copied)), "max": max(copied)} if copied else None}
    for tokenizer in TOKENIZERS:
        by_sample = metrics.score_samples(predictions, refs, tokenizer)
        scores = metrics.score(predictions, refs, tokenizer)
        # Distinct-1 is one figure of the system and is held fixed: questions drawn twice would bias it downwards.
        by_sample["navg"] = ((np.sum(list(by_sample.values()), axis=0) + scores["distinct_1"]) / 4).tolist()
        figures[tokenizer] = scores | {
            "ci95": {name: metrics.bootstrap(_by_question(rows, values)) for name, values in by_sample.items()}}
    return figures


def _by_question(rows: Sequence[dict[str, Any]], values: Sequence[float]) -> list[list[float]]:
    groups: dict[str, list[float]] = {}
    for row, value in zip(rows, values):
        groups.setdefault(row["question_id"], []).append(value)
    return list(groups.values())
