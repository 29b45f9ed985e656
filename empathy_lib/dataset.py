"""Empathy-QA construction: read, clean, filter, anonymise, split. Nothing is dropped without a reason.
Source: arXiv 2509.14851, "Empathy-QA"; the rules behind each step, and the splits, are ours."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tqdm.auto import tqdm

from empathy_lib import BUNDLED
from empathy_lib.anonymise import Anonymised, anonymise
from empathy_lib.cleaning import clean, noise
from empathy_lib.params import Dataset, find
from empathy_lib.schema import SPLITS, Answer, Question, read_lines, read_questions

PAPER_COUNTS = {"questions": 40959, "answers": 168470, "topics": 29, "subtopics": 182}


class DatasetError(ValueError):
    """A source cannot be read, or nothing survives."""


def source_files(source: str | list[str]) -> list[tuple[str, Any]]:
    """(adapter, path) of each source: ``bundled``, a file, ``cpsycoun:<file>``; DatasetError names a missing one."""
    found = []
    for name in [source] if isinstance(source, str) else source:
        adapter, _, path = name.rpartition(":") if name.startswith("cpsycoun:") else ("schema", "", name)
        try:
            path = BUNDLED / "questions.jsonl" if name == "bundled" else find(path, "dataset.source")
        except FileNotFoundError as error:
            raise DatasetError(f"{error}; dataset.source: 'bundled', a JSON Lines file or 'cpsycoun:<file>'") from None
        found.append((adapter, path))
    return found


def read_cpsycoun(path: Any) -> tuple[list[Question], list[dict[str, Any]]]:
    """CPsyCounD dialogues as questions, the client's turns, with the counsellor's as answer; rejected lines."""
    questions, rejected = [], []
    for number, line in read_lines(path):
        try:
            record = json.loads(line)
            said = {role: "\n".join(t["content"] for t in record["turns"] if t["role"] == role)
                    for role in ("client", "counselor")}
            if not all(said.values()):
                raise ValueError("a dialogue needs turns of a client and of a counselor")
            answer = Answer(answer_id=f"{record['source_id']}-a1", text=said["counselor"])
            questions.append(Question(question_id=record["source_id"], question=said["client"], topic="其他",
                                      answers=[answer]))
        except (ValueError, KeyError, TypeError) as error:
            rejected.append({"file": path.name, "line": number, "reason": f"not a dialogue: {type(error).__name__}"})
    return questions, rejected


def build(params: Dataset, seed: int) -> tuple[dict[str, list[Question]], list[dict[str, Any]], dict[str, Any]]:
    """Questions by split, rejects with reasons, figures; DatasetError where a source is missing or a split is empty."""
    kept, rejected, found, seen, funnel = [], [], Counter(), set(), Counter()
    for adapter, path in source_files(params.source):
        read, bad = (read_cpsycoun if adapter == "cpsycoun" else read_questions)(path)
        rejected += bad
        funnel.update({"lines read": len(read) + len(bad), "records valid": len(read),
                       "answers read": sum(len(q.answers) for q in read)})
        for question in tqdm(read, desc=path.name, unit="question"):
            result, reasons = _prepare(question, params.min_answer_chars, seen, found)
            rejected += reasons
            if result:
                kept.append(result.model_copy(update={"source": path.name.split(".")[0]}))
    kept = kept[:params.max_questions]
    splits = _split(kept, params, seed)
    if missing := [name for name in SPLITS if not splits[name]]:
        raise DatasetError(f"{len(kept)} questions survive of {funnel['lines read']} lines in {params.source}, and "
                           f"none is left for {', '.join(missing)}: see the reasons in rejected.jsonl, lower "
                           "dataset.min_answer_chars or raise the fractions")
    funnel["questions kept"], funnel["answers kept"] = len(kept), sum(len(q.answers) for q in kept)
    sizes = {name: {"questions": len(q), "answers": sum(len(x.answers) for x in q)} for name, q in splits.items()}
    figures = {"funnel": dict(funnel), "rejected": dict(sorted(Counter(r["reason"] for r in rejected).items())),
               "found": dict(sorted(found.items())), "splits": sizes, "topics": len({q.topic for q in kept})}
    return splits, rejected, figures


def _prepare(question: Question, min_chars: int, seen: set[str], found: Counter) -> tuple[Question | None, list]:
    """One question cleaned and anonymised with the answers that survive, and what was rejected with reasons."""
    def repair(text: str, least: int) -> tuple[Anonymised, str | None]:
        cleaned, key = clean(text), "".join(filter(str.isalnum, text))
        short = f"shorter than {least} characters" if len(cleaned) < least else None
        reason = noise(cleaned) or ("exact duplicate" if key in seen else short)
        seen.add(key)
        return anonymise(cleaned), reason

    name, answers, rejected = question.question_id, [], []
    asked, reason = repair(question.question, 1)
    if reason:
        return None, [{"question_id": name, "reason": f"question: {reason}"}]
    for answer in question.answers:
        result, reason = repair(answer.text, min_chars)
        if reason:
            rejected.append({"question_id": name, "answer_id": answer.answer_id, "reason": f"answer: {reason}"})
        else:
            answers.append(Answer(answer_id=answer.answer_id, text=result.text))
            found.update(span.kind for span in result.found)
    if not answers:
        return None, rejected + [{"question_id": name, "reason": "question: no answer left"}]
    found.update(span.kind for span in asked.found)
    return question.model_copy(update={"question": asked.text, "answers": answers}), rejected


def _split(questions: Sequence[Question], params: Dataset, seed: int) -> dict[str, list[Question]]:
    """Questions by their own ``split``; those without one are drawn topic by topic, seeded."""
    splits: dict[str, list[Question]] = {name: [] for name in SPLITS}
    by_topic: dict[str, list[Question]] = {}
    for question in questions:
        (splits[question.split] if question.split else by_topic.setdefault(question.topic, [])).append(question)
    for topic, rows in sorted(by_topic.items()):
        rows = random.Random(f"{seed} {topic}").sample(rows, len(rows))
        dev, test = (round(len(rows) * share) for share in (params.dev_fraction, params.test_fraction))
        for name, part in (("test", rows[:test]), ("dev", rows[test:test + dev]), ("train", rows[test + dev:])):
            splits[name] += [q.model_copy(update={"split": name}) for q in part]
    return splits
