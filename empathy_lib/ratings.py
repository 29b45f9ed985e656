"""Rankings of anonymised answers, by people or by a proxy: one ordering of all systems' answers to a question a line::

    {"question_id": "exams-01", "dimension": "overall", "rater": "r07", "kind": "human", "ranks": {"base": 3, "sft": 2,
     "empathy_r1": 1}, "note": "", "time": "2026-11-21T14:30:05.120+00:00", "seen": "9f86d081884c7d65"}

``ranks``: 1 is the best, equal numbers are ties. ``seen`` is the digest of the answers that were ranked: where they are
others by now, the rating is stale. The dimensions are the paper's; what each asks is worded by us."""

import hashlib
import json
import random
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PositiveInt, StringConstraints, field_validator

from empathy_lib import schema
from empathy_lib.review import digest, plain
from empathy_lib.schema import append_line

DIMENSIONS = ("fluency", "identification", "comforting", "suggestion", "overall")
KINDS = ("human", "llm", "reward_model")  # all but the first are proxies and never called human


class Rating(BaseModel, strict=True, extra="forbid"):
    """One rater's ordering of the answers to one question on one dimension."""
    question_id: str
    dimension: Literal[DIMENSIONS]
    rater: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    kind: Literal[KINDS] = "human"
    ranks: dict[str, PositiveInt] = Field(min_length=2)
    note: str = ""
    time: str
    seen: str = Field(pattern="^[0-9a-f]{16}$")

    @field_validator("ranks")
    @classmethod
    def are_places(cls, ranks: dict[str, int]) -> dict[str, int]:
        if max(ranks.values()) > len(ranks):
            raise ValueError(f"a rank above {len(ranks)}, the number of answers")
        return ranks

    @field_validator("time")
    @classmethod
    def in_utc(cls, time: str) -> str:
        if datetime.fromisoformat(time).utcoffset() != timedelta(0):
            raise ValueError("time is not in UTC")
        return time


def items(answers: Mapping[str, Sequence[Mapping[str, Any]]], n: int, seed: int) -> list[dict[str, Any]]:
    """What is ranked: ``n`` questions drawn by ``seed`` of those that all systems answered, each with the first sample of
    every system (its rows as ``evaluation.answer_questions`` gives them): ``{"question_id", "question", "answers": {system:
    text}}``. An empty text is a completion without a readable answer. ValueError with fewer than two systems, or none
    in common."""
    first: dict[str, dict[str, Any]] = {system: {} for system in answers}
    for system, rows in answers.items():
        for row in rows:
            first[system].setdefault(row["question_id"], row)
    if len(first) < 2 or not (common := sorted(set.intersection(*map(set, first.values())))):
        raise ValueError(f"ranking needs two systems that answered the same questions; there are: {', '.join(first) or 'none'}")
    drawn = random.Random(seed).sample(common, min(n, len(common)))
    return [{"question_id": name, "question": next(iter(first.values()))[name]["question"],
             "answers": {system: plain(rows[name]["answer"]) for system, rows in first.items()}} for name in drawn]


def blind(item: Mapping[str, Any], rater: str, seed: int) -> list[str]:
    """The systems in the order in which this rater sees their answers: another one for each rater and question."""
    key = hashlib.sha256(f"{seed}\n{rater.strip()}\n{item['question_id']}".encode()).digest()
    return random.Random(key).sample(sorted(item["answers"]), len(item["answers"]))


def code(typed: str) -> str:
    """A rater's code, the same for R07, r07 and ｒ０７, so that typing it another way is not another rater."""
    return " ".join(unicodedata.normalize("NFKC", typed).casefold().split())


def seen_by(item: Mapping[str, Any], rater: str, seed: int) -> str:
    """The digest of what this rater sees of an item; unlike ``fingerprint`` no system's name is in it, from which guessed
    names could be checked."""
    shown = [item["answers"][system] for system in blind(item, rater, seed)]
    return digest(json.dumps([seed, rater, item["question_id"], item["question"], *shown]))


def fingerprint(item: Mapping[str, Any]) -> str:
    """The digest of an item's answers, by system."""
    return digest(json.dumps(sorted(item["answers"].items())))


def rate(item: Mapping[str, Any], dimension: str, rater: str, ranks: Mapping[str, int], kind: str = "human", note: str = "",
         time: str = "") -> dict[str, Any]:
    """The rating, made now or at ``time``. ValueError where the ranks are not those of the item's systems, or a field
    breaks a rule."""
    if set(ranks) != set(item["answers"]):
        raise ValueError(f"the ranks are of {', '.join(sorted(ranks))}; the answers are of {', '.join(sorted(item['answers']))}")
    time = time or datetime.now(UTC).isoformat(timespec="milliseconds")
    return Rating(question_id=item["question_id"], dimension=dimension, rater=rater, kind=kind, note=plain(note), time=time,
                  ranks={system: ranks[system] for system in item["answers"]}, seen=fingerprint(item)).model_dump()


def add(file: str | Path, rating: dict[str, Any]) -> None:
    """Append a rating (``schema.append_line``)."""
    append_line(file, Rating.model_validate(rating).model_dump_json().encode())


def add_new(file: str | Path, ratings: Iterable[dict[str, Any]]) -> int:
    """Append those ratings that the file has not yet as the latest of their rater, whenever made; returns how many."""
    have = {timeless(rating) for rating in read(file)[0]}
    new = [rating for rating in ratings if timeless(rating) not in have]
    for rating in new:
        add(file, rating)
    return len(new)


def read(file: str | Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The latest rating of each rater on each question and dimension, in the order made, and the unreadable lines as
    ``{"line", "reason"}``. No file: no ratings."""
    ratings, unreadable = schema.read_valid(file, Rating, "rating")
    return latest(ratings), unreadable


def timeless(rating: Mapping[str, Any]) -> str:
    """What a rating says, whenever it was made."""
    return json.dumps({key: value for key, value in rating.items() if key != "time"}, sort_keys=True)


def latest(ratings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each rater's ratings of a question on a dimension the last, in the order made."""
    return schema.latest(ratings, "question_id", "dimension", "kind", "rater")


def fresh(items: Sequence[Mapping[str, Any]], ratings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latest ratings of these items with these answers."""
    known = {item["question_id"]: fingerprint(item) for item in items}
    return [rating for rating in latest(ratings) if known.get(rating["question_id"]) == rating["seen"]]
