"""Empathy-QA construction: read, clean, filter, anonymise, screen, cluster, split. Nothing is dropped without a reason.
Source: arXiv 2509.14851, "Empathy-QA"; the rules behind each step, and the splits, are ours."""

import random
from collections import Counter
from collections.abc import Sequence
from multiprocessing import Pool
from types import SimpleNamespace
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from empathy_lib import duplicates, safety, sources, topics
from empathy_lib.anonymise import Found, anonymise
from empathy_lib.blocks import Dataset
from empathy_lib.cleaning import clean, noise
from empathy_lib.schema import SPLITS, Question

PAPER_COUNTS = {"questions": 40959, "answers": 168470, "topics": 29, "subtopics": 182}


class DatasetError(ValueError):
    """A source cannot be read, or nothing survives."""


class Built(NamedTuple):
    """``splits`` by name; ``rejected`` with reasons; ``aside``: questions without an answer (``unanswered``), training
    questions about a crisis (``crisis``) and those that a ``test_source`` leaves without use (``not_used``); ``examples`` of anonymised texts, each span shown as its type and
    length; ``figures`` for the record."""
    splits: dict[str, list[Question]]
    rejected: list[dict[str, Any]]
    aside: dict[str, list[dict[str, Any]]]
    examples: list[dict[str, str]]
    figures: dict[str, Any]


def as_list(source: str | list[str]) -> list[str]:
    """``dataset.source``, which may be one name or several, as several."""
    return [source] if isinstance(source, str) else source


def all_sources(params: Dataset) -> list[str]:
    """The names of ``source``, then those of ``test_source``."""
    return as_list(params.source) + as_list(params.test_source or [])


def build(params: Dataset, language: str, seed: int) -> Built:
    """The data set of ``params.source``; DatasetError where a source cannot be read, a split is empty, or texts of one
    split occur in another. The same sources, parameters and seed give the same result."""
    read = _read(params)
    kept = list(read.kept.values())
    own, other = kept[:read.own][:params.max_questions], kept[read.own:][:params.max_questions]
    questions = _marked(own + [q.model_copy(update={"split": "test"}) for q in other], params, language)
    splits, not_used = _split(questions, params, seed), []
    if params.test_source:
        splits, not_used = _test_on({q.question_id for q in other}, splits)
    try:
        n_clusters = duplicates.check_leakage(splits)
    except duplicates.LeakageError as error:
        raise DatasetError(str(error)) from None
    is_crisis = [q.safety == "crisis" and not params.crisis_in_training for q in splits["train"]]
    crisis = [q for q, aside in zip(splits["train"], is_crisis) if aside]
    splits["train"] = [q for q, aside in zip(splits["train"], is_crisis) if not aside]
    if missing := [name for name in SPLITS if not splits[name]]:
        common = Counter(row["reason"] for row in read.rejected).most_common(3)
        raise DatasetError(
            f"{len(questions)} questions survive of {read.funnel['records read']} records in {params.source}, and none "
            f"is left for {', '.join(missing)}: {'; '.join(f'{n} × {why}' for why, n in common) or 'nothing rejected'}. "
            "See rejected.jsonl, lower dataset.min_answer_chars or raise the fractions")
    aside = {"unanswered": read.unanswered, "crisis": [q.model_dump(exclude_none=True) for q in crisis],
             "not_used": [q.model_dump(exclude_none=True) for q in not_used]}
    answers, sizes = [a for q in questions for a in q.answers], Counter(q.cluster for q in questions).values()
    figures = {
        "funnel": dict(read.funnel) | {"questions kept": len(questions), "answers kept": len(answers)},
        "rejected": dict(sorted(Counter(r["reason"] for r in read.rejected).items())),
        "found": dict(sorted(read.found.items())),
        "splits": {name: {"questions": len(rows), "answers": sum(len(q.answers) for q in rows)}
                   for name, rows in splits.items()},
        "sources": dict(Counter(q.source for q in questions)), "topics": len({q.topic for q in questions}),
        "topics_guessed": sum(q.topic_score is not None for q in questions),
        "clusters": n_clusters, "in_larger_clusters": sum(size for size in sizes if size > 1),
        "safety": {"questions": dict(Counter(q.safety for q in questions)), "answers": dict(Counter(a.safety for a in answers))},
        "aside": {name: len(rows) for name, rows in aside.items()}}
    return Built(splits, read.rejected, aside, read.examples, figures)


def _read(params: Dataset) -> SimpleNamespace:
    """All sources, cleaned, filtered and anonymised: ``kept`` (by id; the first ``own`` of them are not of ``test_source``),
    ``rejected``, ``unanswered``, ``examples`` and the counts ``funnel`` and ``found``."""
    result = SimpleNamespace(kept={}, own=0, rejected=[], unanswered=[], examples=[], funnel=Counter(), found=Counter(), seen=set())
    with Pool() as pool:  # texts are treated on all cores; begun before anything is read, so that the workers stay small
        for number, name in enumerate(all_sources(params), 1):
            try:
                read = sources.read(name)
            except sources.SourceError as error:
                raise DatasetError(str(error)) from None
            result.funnel.update({
                "records read": len(read.questions) + len(read.rejected) + len(read.unanswered),
                "records valid": len(read.questions), "answers read": sum(len(q.answers) for q in read.questions)})
            result.rejected += [{"source": read.name} | reject for reject in read.rejected]
            result.unanswered += [
                {"source": read.name, "question_id": row.get("question_id", ""), "topic": row.get("topic", ""),
                 "question": anonymise(clean(str(row.get("question", "")))).text} for row in read.unanswered]
            texts = (text for q in read.questions for text in (q.question, *(a.text for a in q.answers)))
            treated = pool.imap(_treated, texts, chunksize=100)  # in order, so the result is that of one core
            bar = tqdm(read.questions, desc=f"01_dataset {read.name}", unit="question")
            for question in bar:
                _keep(question, [next(treated) for _ in range(1 + len(question.answers))], params.min_answer_chars, result)
                if bar.n % 100 == 0:
                    bar.set_postfix(kept=len(result.kept), rejected=len(result.rejected), refresh=False)
            if number == len(as_list(params.source)):
                result.own = len(result.kept)
    return result


def _treated(text: str) -> tuple[str, str | None, str, list[Found], str]:
    """One text cleaned, why it is noise (or None), without personal data, the spans found, the level of crisis."""
    cleaned = clean(text)
    result = anonymise(cleaned)
    return cleaned, noise(cleaned), result.text, result.found, safety.screen(result.text).level


def _reject(question: Question, reason: str, text: str, **more: str) -> dict[str, Any]:
    """A line of rejected.jsonl; of the (anonymised) text only an excerpt is kept."""
    return {"source": question.source, "question_id": question.question_id, **more, "reason": reason,
            "excerpt": text[:40]}


def _shown(text: str, found: Sequence[Found]) -> str:
    """The surroundings of the first span found in ``text``, each span as its type and length: ``⟦电话 11⟧``."""
    start = place = max(0, found[0].start - 30)
    parts = ["…" if start else ""]
    for span in found:
        if span.start < start + 90:
            parts += [text[place:span.start], f"⟦{span.kind} {span.end - span.start}⟧"]
            place = span.end
    return "".join([*parts, text[place:start + 90], "…"])


def _keep(question: Question, treated: Sequence[tuple], least: int, result: SimpleNamespace) -> None:
    """Put a question with the answers that survive, or what was wrong with it, into ``result``; ``treated``: the
    question and then its answers as ``_treated`` returns them."""
    def survives(item: tuple, least: int, what: str, name: str, **more: str) -> bool:
        cleaned, reason, text, spans, _ = item
        key = hash("".join(filter(str.isalnum, cleaned)))
        short = f"shorter than {least} characters" if len(cleaned) < least else None
        reason = reason or ("exact duplicate" if key in result.seen else short)
        result.seen.add(key)
        if reason:
            result.rejected.append(_reject(question, f"{what}: {reason}", text, **more))
            return False
        result.found.update(span.kind for span in spans)
        if spans and len(result.examples) < 10:
            result.examples.append({"id": name, "text": _shown(cleaned, spans)})
        return True

    (_, _, asked, _, level), *replies = treated
    if question.question_id in result.kept:
        result.rejected.append(_reject(question, "question: its id occurs in an earlier source", asked))
        return
    if not survives(treated[0], 1, "question", question.question_id):
        return
    answers = [answer.model_copy(update={"text": item[2], "safety": item[4]})
               for answer, item in zip(question.answers, replies)
               if survives(item, least, "answer", answer.answer_id, answer_id=answer.answer_id)]
    title = question.title and anonymise(clean(question.title)).text
    whole = question.model_copy(update={"question": asked, "title": title, "safety": level, "answers": answers})
    if answers:
        result.kept[question.question_id] = whole
    else:
        result.rejected.append(_reject(question, "question: no answer left", asked))
        result.unanswered.append(whole.model_dump(include={"source", "question_id", "topic", "question"}))


def _marked(questions: list[Question], params: Dataset, language: str) -> list[Question]:
    """The questions with their cluster, and with a topic where they bring none."""
    bare = [i for i, q in enumerate(questions) if not q.topic.strip()]
    guessed = dict(zip(bare, topics.assign([questions[i].question for i in bare], params.topic_encoder,
                                           params.topic_threshold, language)))
    result = []
    for i, (question, cluster) in enumerate(zip(questions, duplicates.clusters(questions, language))):
        topic, score = guessed.get(i, (question.topic, None))
        result.append(question.model_copy(update={"topic": topic, "topic_score": score, "cluster": cluster}))
    return result


def _split(questions: Sequence[Question], params: Dataset, seed: int) -> dict[str, list[Question]]:
    """Questions by their own ``split``, or that of another in their cluster; the other clusters are drawn topic by
    topic, seeded: each goes whole to the first of test, dev and train that has room for it."""
    given = {q.cluster: q.split for q in reversed(questions) if q.split}
    topic_of = {q.cluster: q.topic for q in reversed(questions)}  # a cluster counts under its first question's topic
    splits: dict[str, list[Question]] = {name: [] for name in SPLITS}
    by_topic: dict[str, dict[str | None, list[Question]]] = {}
    for question in questions:
        if name := question.split or given.get(question.cluster):
            splits[name].append(question.model_copy(update={"split": name}))
        else:
            groups = by_topic.setdefault(topic_of[question.cluster], {})
            groups.setdefault(question.cluster, []).append(question)
    for topic, groups in sorted(by_topic.items()):
        size = sum(map(len, groups.values()))
        room = {"test": round(size * params.test_fraction), "dev": round(size * params.dev_fraction), "train": size}
        for rows in random.Random(f"{seed} {topic}").sample(list(groups.values()), len(groups)):
            name = next(name for name, left in room.items() if left >= len(rows))
            room[name] -= len(rows)
            splits[name] += [q.model_copy(update={"split": name}) for q in rows]
    return splits


def _test_on(tested: set[str], splits: dict[str, list[Question]]) -> tuple[dict[str, list[Question]], list[Question]]:
    """The splits with only the ``tested`` questions in test, and what that leaves without use: the other test questions, and
    those to train on that nearly repeat a tested one."""
    near = {q.cluster for q in splits["test"] if q.question_id in tested}
    keep = {name: [q for q in rows if (q.question_id in tested if name == "test" else q.cluster not in near)] for name, rows in splits.items()}
    kept = {q.question_id for rows in keep.values() for q in rows}
    return keep, [q for rows in splits.values() for q in rows if q.question_id not in kept]
