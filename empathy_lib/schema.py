"""The records of the kit, read strictly and written atomically: one question a line (JSON Lines, UTF-8)::

    {"question_id": "exams-01", "question": "…", "topic": "exams", "answers": [{"answer_id": "a1", "text": "…"}]}"""

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import BaseModel, Field, ValidationError

SPLITS = ("train", "dev", "test")
Level = Literal["none", "concern", "crisis"]


class Answer(BaseModel, strict=True):
    """One reply to a question; ``safety`` is the crisis screen's level, ``upvotes`` the readers' where there are any."""
    answer_id: str
    text: str
    upvotes: int | None = None
    safety: Level | None = None


class Question(BaseModel, strict=True):
    """A long counselling text with its answers; no field is coerced to another type. Construction adds ``source``, the
    ``cluster`` of near-duplicates it is in, its ``safety`` level, and ``topic_score`` where the topic was guessed."""
    question_id: str
    question: str
    topic: str
    answers: list[Answer] = Field(min_length=1)
    title: str | None = None
    subtopic: str | None = None
    split: Literal["train", "dev", "test"] | None = None
    source: str | None = None
    cluster: str | None = None
    safety: Level | None = None
    topic_score: float | None = None


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file as bytes (``.gz`` is unpacked), without BOM, line ends and blank lines."""
    path = Path(path)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield number, line.rstrip(b"\r\n")


def read_questions(path: str | Path) -> tuple[list[Question], list[dict[str, Any]]]:
    """The questions of a JSON Lines file, and the rejected lines as ``{"file", "line", "reason"}`` (never their text).
    A record that breaks a rule is rejected whole and reading goes on; of two equal ids the first stays."""
    return validate(read_lines(path), Path(path).name)


def validate(rows: Iterable[tuple[int, Any]], file: str) -> tuple[list[Question], list[dict[str, Any]]]:
    """Numbered records (a line as bytes, a dict, or the exception that reading it raised) as questions and rejects."""
    questions, rejected = {}, []
    for number, row in rows:
        try:
            if isinstance(row, Exception):
                raise row
            question = Question.model_validate_json(row.decode("utf-8")) if isinstance(row, bytes) \
                else Question.model_validate(row)
            known = questions.setdefault(question.question_id, question)
            reason = None if known is question else f"question_id {question.question_id!r} occurs before"
        except UnicodeDecodeError as error:
            reason = f"not UTF-8 (byte {error.start})"
        except ValidationError as error:
            reason = explain(error)
        except ValueError as error:
            reason = str(error)
        if reason:
            rejected.append({"file": file, "line": number, "reason": reason})
    return list(questions.values()), rejected


def explain(error: ValidationError, whole: str = "line") -> str:
    """What is wrong, field by field (``whole``: with all of it), without the input, which may be personal."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or whole}: {e['msg']}" for e in error.errors())


def read_valid(path: str | Path, model: type[BaseModel], whole: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of a file that people's decisions were appended to, and the unreadable lines as ``{"line", "reason"}``
    (``whole`` as in ``explain``). No file: no records."""
    records, unreadable = [], []
    for number, line in read_lines(path) if Path(path).exists() else ():
        try:
            records.append(model.model_validate_json(line).model_dump())
        except ValidationError as error:
            unreadable.append({"line": number, "reason": explain(error, whole)})
    return records, unreadable


def latest(records: Iterable[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Of the records that agree in these keys the last one, in the order made."""
    last: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        key = tuple(record[name] for name in keys)
        last.pop(key, None)
        last[key] = record
    return list(last.values())


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """All records of a JSON Lines file the kit wrote itself."""
    return [json.loads(line) for _, line in read_lines(path)]


def write_atomic(path: str | Path, text: str) -> None:
    """Write a text file so that a reader (or a crash) sees the old file or the new one, never a half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # a full disk, an interrupt
        temporary.unlink(missing_ok=True)
        raise


def append_line(path: str | Path, line: bytes) -> None:
    """Append a line and force it to the disk; several processes may. OSError where the disk refuses, and then nothing of
    it stays. A line that a crash cut is ended first, so that only that line is unreadable."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=10), open(path, "a+b", buffering=0) as out:
        size, data = out.seek(0, os.SEEK_END), line + b"\n"
        out.seek(max(size - 1, 0))
        if out.read(1) not in (b"", b"\n"):
            data = b"\n" + data
        try:
            while data:
                data = data[out.write(data):]  # a full disk takes a part, then raises
            os.fsync(out.fileno())
        except OSError:
            out.truncate(size)
            raise


def write_jsonl(path: str | Path, records: Iterable[BaseModel | dict[str, Any]]) -> None:
    """Write records (models or dicts), one a line, atomically."""
    rows = (r.model_dump(exclude_none=True) if isinstance(r, BaseModel) else r for r in records)
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path: str | Path, value: Any) -> None:
    """Write one JSON value, indented, keys in the order given, atomically; NaN is an error."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
