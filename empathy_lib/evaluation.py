"""Answer the test questions with each system, and score what was said (the answer, never the reasoning)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from empathy_lib import metrics, policy
from empathy_lib.coe import answer_of, is_valid
from empathy_lib.params import Params
from empathy_lib.schema import Question, read_jsonl, write_jsonl
from empathy_lib.view import short

TOKENIZERS = {"zh": ("char", "jieba", "ascii"), "en": ("en", "char")}


def systems(params: Params, run_folder: Path) -> dict[str, str | Path]:
    """The systems compared, by name: the untrained policy, after SFT, after GRPO."""
    return {"base": policy.base(params, run_folder), "sft": run_folder / "03_sft" / "model",
            "empathy_r1": run_folder / "05_grpo" / "model"}


def answer_questions(model_folder: str | Path, questions: Sequence[Question], file: Path, params: Params,
                     samples: int | None = None, temperature: float | None = None) -> list[dict[str, Any]]:
    """Sample completions for the questions (as ``params.evaluation`` says, where not given) and keep them in ``file``; a
    finished file is read, not made again."""
    if file.exists():
        return read_jsonl(file)
    e = params.evaluation
    model, tokenizer = policy.load(model_folder, params)
    asked = [(q, n) for q in questions for n in range(samples or e.samples_per_question)]
    completions = policy.generate(
        model, tokenizer, [policy.prompt(tokenizer, q.question, params) for q, _ in asked], what=file.stem,
        temperature=temperature or e.temperature, max_new_tokens=e.max_completion_tokens, batch_size=e.batch_size, seed=params.seed)
    layers = params.coe.layers
    rows = [{"question_id": q.question_id, "question": q.question, "sample": n, "completion": text,
             "answer": answer_of(text, layers), "valid": is_valid(text, layers)} for (q, n), text in zip(asked, completions)]
    write_jsonl(file, rows)
    return rows


def references(question: Question, params: Params) -> list[str]:
    """The human answers of a question, in the view the policy learns to write."""
    return [short(answer.text, params.view.answer_chars) for answer in question.answers]


def valid_rate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Share of completions that are well-formed chains, with n and a 95 % interval (bootstrap over questions)."""
    valid = [float(row["valid"]) for row in rows]
    groups = _by_question(rows, valid)
    mean, interval = float(np.mean(valid)), metrics.bootstrap(groups)
    return {"value": mean, "n": len(valid), "questions": len(groups), "ci95": interval}


def score_system(rows: Sequence[dict[str, Any]], questions: Sequence[Question], train_answers: Sequence[str],
                 params: Params) -> dict[str, Any]:
    """Format, scores by tokenizer against the human answers in the same view, and copied characters of one system."""
    answers = {q.question_id: references(q, params) for q in questions}
    predictions, refs = [r["answer"] for r in rows], [answers[r["question_id"]] for r in rows]
    given, corpus, valid = [p for p in predictions if p], "\n".join(train_answers), valid_rate(rows)
    copied = [metrics.longest_copy(p, corpus) for p in given]
    figures: dict[str, Any] = {
        "n": len(rows), "format_valid": valid["value"], "format": valid,
        "answer_chars": float(np.mean([len(p) for p in given])) if given else None,
        "longest_copy": {"mean": float(np.mean(copied)), "max": max(copied)} if given else None}
    for tokenizer in TOKENIZERS[params.language]:
        by_sample = metrics.score_samples(predictions, refs, tokenizer)
        scores = metrics.score(predictions, refs, tokenizer)
        # Distinct-1 is one figure of the system and is held fixed: questions drawn twice would bias it downwards.
        by_sample["navg"] = ((np.sum(list(by_sample.values()), axis=0) + scores["distinct_1"]) / 4).tolist()
        intervals = {name: metrics.bootstrap(_by_question(rows, values)) for name, values in by_sample.items()}
        figures[tokenizer] = scores | {"ci95": intervals}
    return figures


def _by_question(rows: Sequence[dict[str, Any]], values: Sequence[float]) -> list[list[float]]:
    return pd.Series(values).groupby([row["question_id"] for row in rows], sort=False).agg(list).tolist()
