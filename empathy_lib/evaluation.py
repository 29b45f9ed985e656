"""Answer the test questions with each system, and score what was said (the answer, never the reasoning)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from empathy_lib import metrics, policy
from empathy_lib.coe import answer_of, is_valid
from empathy_lib.params import Params
from empathy_lib.run import other_systems
from empathy_lib.schema import Question, read_jsonl, write_jsonl
from empathy_lib.view import short

TOKENIZERS = {"zh": ("char", "jieba", "ascii"), "en": ("en", "char")}
SYSTEMS = {"base": "before SFT and GRPO, asked without a format", "base_coe": "before SFT and GRPO, asked for the chain",
           "sft": "after SFT", "grpo_only": "GRPO without SFT", "no_coe": "SFT and GRPO on plain answers",
           "empathy_r1": "after SFT and GRPO"}
PLAIN = ("base",)  # asked without a format: all that it says is its answer
NGRAM = 8  # characters: long enough that Chinese texts rarely share so many by chance


def systems(params: Params, run_folder: Path) -> dict[str, str | Path]:
    """The model of each of the run's own systems that is scored (``evaluation.systems``)."""
    base = policy.base(params, run_folder)
    models = {"base": base, "base_coe": base, "sft": run_folder / "03_sft" / "model", "empathy_r1": run_folder / "05_grpo" / "model"}
    return {name: models[name] for name in params.evaluation.systems}


def answer_questions(model_folder: str | Path, questions: Sequence[Question], file: Path, params: Params, samples: int | None = None,
                     temperature: float | None = None, plain: bool = False) -> list[dict[str, Any]]:
    """Sample completions for the questions (as ``params.evaluation`` says, where not given) and keep them in ``file``; a
    finished file is read, not made again, and an interrupted one goes on after its last batch. Of a
    ``plain`` one the whole completion is the answer, and ``valid`` is None."""
    if file.exists():
        return read_jsonl(file)
    e = params.evaluation
    model, tokenizer = policy.load(model_folder, params)
    asked = [(q, n) for q in questions for n in range(samples or e.samples_per_question)]
    completions = policy.generate(
        model, tokenizer, [policy.prompt(tokenizer, q.question, params, plain) for q, _ in asked], what=file.stem,
        temperature=temperature or e.temperature, max_new_tokens=e.max_completion_tokens, batch_size=e.batch_size, seed=params.seed,
        kept=(part := file.with_suffix(".part")))
    layers = params.coe.layers
    rows = [{"question_id": q.question_id, "question": q.question, "sample": n, "completion": text,
             "answer": text.strip() if plain else answer_of(text, layers), "valid": None if plain else is_valid(text, layers)}
            for (q, n), text in zip(asked, completions)]
    write_jsonl(file, rows)
    part.unlink()
    part.with_suffix(".part.lock").unlink(missing_ok=True)
    return rows


def take_others(questions: Sequence[Question], folder: Path, params: Params) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """The completions of ``evaluation.others``, copied to ``folder``, and by system why one is left out: its run is not
    there, was made with another base, view or language, is no run of that system, or answered other questions, or with
    another temperature or number of samples."""
    taken, left_out, here, own = {}, {}, other_systems(params), params.model_dump()
    for name, run in params.evaluation.others.items():
        if name not in here:
            left_out[name] = f"the run '{run}' is not there, or not evaluated yet" if params.whole else "this run is itself without a part"
            continue
        wanted = {(q.question_id, q.question, n) for q in questions for n in range(params.evaluation.samples_per_question)}
        rows = [row for row in read_jsonl(here[name]) if (row["question_id"], row["question"], row["sample"]) in wanted]
        theirs = OmegaConf.to_container(OmegaConf.load(here[name].parents[2] / "params.yaml"))
        if other := [key for key in ("language", "view") if theirs[key] != own[key]] + [
                f"policy.{key}" for key in ("model", "max_seq_length") if theirs["policy"][key] != own["policy"][key]]:
            left_out[name] = f"the run '{run}' has another {', '.join(other)}"
            continue
        if (name == "no_coe" and theirs["coe"]["layers"]) or (name == "grpo_only" and theirs["sft"]["epochs"]):
            left_out[name] = f"the run '{run}' is no {name}: see README for the params of one"
            continue
        if len(rows) < len(wanted) or theirs["evaluation"]["temperature"] != params.evaluation.temperature:
            left_out[name] = f"the run '{run}' answered other questions, or with another temperature or number of samples"
            continue
        write_jsonl(folder / f"{name}.jsonl", rows)
        taken[name] = rows
    return taken, left_out


def references(question: Question, params: Params) -> list[str]:
    """The human answers of a question, in the view the policy learns to write."""
    return [short(answer.text, params.view.answer_chars) for answer in question.answers]


def valid_rate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Share of completions that are well-formed chains, with n and a 95 % interval (bootstrap over questions)."""
    table = pd.DataFrame({"question_id": [r["question_id"] for r in rows], "valid": [float(r["valid"]) for r in rows]})
    return mean_of(table, "valid")


def mean_of(table: pd.DataFrame, column: str) -> dict[str, Any]:
    """The mean of a column over completions, with n, the number of questions and a 95 % interval (bootstrap over them)."""
    groups = by_question(table, column)
    return {"value": float(table[column].mean()), "n": len(table), "questions": len(groups), "ci95": metrics.bootstrap(groups)}


def by_question(table: pd.DataFrame, column: str) -> list[list[float]]:
    """The values of a column, question by question (in the order of their names)."""
    return table.groupby("question_id")[column].agg(list).tolist()


def score_system(rows: Sequence[dict[str, Any]], questions: Sequence[Question], train_answers: Sequence[str],
                 params: Params, encoder: Any = None) -> tuple[dict[str, Any], pd.DataFrame]:
    """Format, scores by tokenizer against the human answers in the same view, and what is copied from training answers, of
    one system, with an ``encoder`` also the similarity of embeddings; and the same for each completion (``char navg`` …)."""
    known = {q.question_id: (references(q, params), q.topic) for q in questions}
    predictions, refs = [r["answer"] for r in rows], [known[r["question_id"]][0] for r in rows]
    corpus, grams = "\n".join(train_answers), metrics.copied_ngrams(predictions, train_answers, NGRAM)
    table = pd.DataFrame({"question_id": [r["question_id"] for r in rows], "topic": [known[r["question_id"]][1] for r in rows],
                          "valid": [r["valid"] for r in rows], "chars": [len(p) for p in predictions],
                          "longest_copy": [metrics.longest_copy(p, corpus) for p in predictions],
                          "copied": [metrics.copied_share(p, grams, NGRAM) for p in predictions]})
    given, asked = table[table.chars > 0], table.valid.notna().all()
    valid = mean_of(table.astype({"valid": float}), "valid") if asked else None
    figures: dict[str, Any] = {
        "n": len(rows), "empty": int((table.chars == 0).sum()), "format_valid": valid and valid["value"], "format": valid,
        "answer_chars": float(given.chars.mean()) if len(given) else None,
        "longest_copy": {"mean": float(given.longest_copy.mean()), "max": int(given.longest_copy.max())} if len(given) else None,
        "copied": mean_of(given, "copied") if len(given) else None}
    for tokenizer in TOKENIZERS[params.language]:
        scores, each = metrics.measure(predictions, refs, tokenizer)
        each["navg"] = (np.sum(list(each.values()), axis=0) + metrics.distinct_by_question(predictions, table.question_id, tokenizer)) / 4
        table = table.assign(**{f"{tokenizer} {name}": values for name, values in each.items()})
        figures[tokenizer] = scores | {"ci95": {name: mean_of(table, f"{tokenizer} {name}")["ci95"] for name in each}}
    if encoder is not None:
        table["similarity"] = metrics.embedding_similarity(predictions, refs, encoder)
        figures["similarity"] = mean_of(table, "similarity")
    return figures, table


def compare(tables: dict[str, pd.DataFrame], pairs: Sequence[tuple[str, str]], params: Params) -> dict[str, dict[str, Any]]:
    """Paired differences of two systems over the questions, by tokenizer and score: ``{"a − b": {"char navg": {"value",
    "ci95", "p", …}}}``; a pair of which one is missing is left out, and with a
    single question all are."""
    names = [f"{t} {name}" for t in TOKENIZERS[params.language] for name in ("navg", "bleu_1", "rouge_l", "meteor")]
    if any(table.question_id.nunique() < 2 for table in tables.values()):
        return {}
    return {f"{a} − {b}": {name: metrics.compare(by_question(tables[a], name), by_question(tables[b], name)) for name in names}
            for a, b in pairs if a in tables and b in tables}
