"""Where questions come from: each source is read by a small adapter into the kit's schema, line by line; a record that
does not fit is rejected with file, line and reason. ``dataset.source`` names them:

    bundled                  the corpus that ships with the kit (synthetic)
    <file>                   our schema: .jsonl (also .gz), .parquet, or .csv with one answer a row
    psyqa:<file>             PsyQA as released to those who signed its agreement (a JSON list)
    cpsycoun:<file>          CPsyCounD dialogues: the client's turns ask, the counsellor's answer
    emollm:<file>            EmoLLM conversations, likewise
    counselchat:<file>       CounselChat, English, one answer a row; either release (``topic``, or ``topics`` and HTML)"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from empathy_lib import BUNDLED
from empathy_lib.params import find
from empathy_lib.schema import Question, read_lines, validate

Record = dict[str, Any]


class SourceError(ValueError):
    """A source is missing or cannot be read at all; the message says which and how to mend it."""


class Read(NamedTuple):
    """What a source held: questions, rejected lines, and records without any answer (kept aside)."""
    name: str
    questions: list[Question]
    rejected: list[Record]
    unanswered: list[Record]


def located(source: str) -> tuple[str, Path]:
    """Adapter ('' for our own schema) and file of one source; SourceError where there is no such file."""
    adapter, _, rest = source.partition(":")
    adapter, file = (adapter, rest) if adapter in ADAPTERS else ("", source)
    try:
        path = BUNDLED / "questions.jsonl" if source == "bundled" else find(file, "dataset.source")
    except FileNotFoundError as error:
        known = ", ".join(f"'{name}:<file>'" for name in ADAPTERS)
        raise SourceError(f"{error}; it can be 'bundled', a .jsonl, .csv or .parquet file, {known}") from None
    if not path.is_file():
        raise SourceError(f"dataset.source: {path} is no file")
    return adapter, path


def read(source: str) -> Read:
    """One source of ``dataset.source`` in our schema; SourceError where the file is missing or unreadable."""
    adapter, path = located(source)
    rows = ADAPTERS[adapter](rows_of(path)) if adapter else in_schema(path)
    asked, unanswered = [], []
    for number, row in rows:
        empty = adapter and isinstance(row, dict) and row.get("answers") == []
        (unanswered if empty else asked).append(row if empty else (number, row))
    questions, rejected = validate(asked, path.name)
    name = adapter or ("bundled" if source == "bundled" else path.name.split(".")[0])
    return Read(name, [q.model_copy(update={"source": q.source or name}) for q in questions], rejected, unanswered)


def rows_of(path: Path) -> Iterator[tuple[int, Any]]:
    """Numbered records of a file: rows of a table, the items of one JSON list, or lines of JSON Lines as bytes."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    lines = _table(path, kind) if kind in ("csv", "parquet") else read_lines(path)
    first = next(lines, None)
    if first and isinstance(first[1], bytes) and first[1].lstrip().startswith(b"["):
        try:
            items = json.loads(b"\n".join([first[1], *(line for _, line in lines)]).decode("utf-8"))
        except ValueError as error:  # also a UnicodeDecodeError
            raise SourceError(f"{path}: not a whole JSON list in UTF-8 ({error}): get the file again") from None
        yield from enumerate(items, 1)
    elif first:
        yield first
        yield from lines


def _table(path: Path, kind: str) -> Iterator[tuple[int, Record]]:
    """Rows of a CSV (all values as text; the header is line 1) or Parquet file, empty cells left out."""
    import datasets
    import pandas
    options: Record = {}
    with tempfile.TemporaryDirectory() as cache:
        try:
            if kind == "csv":  # text stays text: 007 is a name, NA an answer
                options = dict(encoding="utf-8-sig", keep_default_na=False)
                names = pandas.read_csv(path, nrows=0, encoding="utf-8-sig").columns
                options["features"] = datasets.Features({name: datasets.Value("string") for name in names})
            table = getattr(datasets.Dataset, f"from_{kind}")(str(path), cache_dir=cache, keep_in_memory=True, **options)
        except Exception as error:  # whatever pandas, pyarrow or datasets say
            raise SourceError(f"{path}: cannot be read as {kind} in UTF-8 ({error.__cause__ or error})") from None
    for number, row in enumerate(table, 2 if kind == "csv" else 1):
        yield number, {key: value for key, value in row.items() if value is not None and value != ""}


def in_schema(path: Path) -> Iterable[tuple[int, Any]]:
    """Records in our schema; the rows of a CSV (question_id, question, topic, answer_id, text, …) are grouped."""
    if ".csv" in path.name:
        return _grouped(rows_of(path), lambda row: row, "question_id")
    return rows_of(path) if ".parquet" in path.name else read_lines(path)


def _grouped(rows: Iterable[tuple[int, Any]], convert: Any, key: str) -> list[tuple[int, Any]]:
    """Rows with one answer each as one record a question, under the first row's line; what is no row passes through,
    to be rejected by the schema."""
    questions: dict[str, tuple[int, Record]] = {}
    broken = []
    for number, row in rows:
        row = _loaded(row)
        if not isinstance(row, dict) or key not in row:
            broken.append((number, row))
            continue
        row = convert(row)
        answer = {name: row.pop(name) for name in ("answer_id", "text", "upvotes") if name in row}
        _, known = questions.setdefault(row["question_id"], (number, row | {"answers": []}))
        known["answers"] += [answer] if "text" in answer else []
    return broken + list(questions.values())


def _loaded(row: Any) -> Any:
    """A line's JSON value; bytes that are none stay bytes, for the schema to reject with its reason."""
    try:
        return json.loads(row) if isinstance(row, bytes) else row
    except ValueError:
        return row


def _converted(rows: Iterable[tuple[int, Any]], convert: Any) -> Iterator[tuple[int, Any]]:
    """Each row converted; one that lacks what ``convert`` needs becomes an error for the schema to report."""
    for number, row in rows:
        row = _loaded(row)
        try:
            yield number, convert(number, row) if isinstance(row, dict) else row
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            yield number, ValueError(f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else
                                     f"not as this source lays out its records ({type(error).__name__})")


def _joined(*parts: str | None) -> str:
    return "\n".join(part for part in parts if part)


def psyqa(rows: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """``question`` (a title), ``description``, ``keywords`` (the first is the topic), ``answers[].answer_text``."""
    def convert(number: int, row: Record) -> Record:
        name, words = str(row.get("questionID", number)), row.get("keywords") or ""
        words = words if isinstance(words, list) else words.replace("，", ",").split(",")
        answers = [{"answer_id": f"{name}-{i}", "text": a["answer_text"]} for i, a in enumerate(row["answers"], 1)]
        return {"question_id": f"psyqa-{name}", "title": row["question"], "topic": words[0].strip() if words else "",
                "question": _joined(row["question"], row.get("description")), "answers": answers}
    return _converted(rows, convert)


def cpsycoun(rows: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """``source_id``, ``turns[{role: client | counselor, content}]``."""
    def convert(number: int, row: Record) -> Record:
        asked, said = (_joined(*(t["content"] for t in row["turns"] if t["role"] == role))
                       for role in ("client", "counselor"))
        return {"question_id": row["source_id"], "question": asked, "topic": row.get("topic", ""),
                "answers": [{"answer_id": f"{row['source_id']}-a1", "text": said}] if said else []}
    return _converted(rows, convert)


def emollm(rows: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """``conversation[{input, output}]``; the system prompt is left out."""
    def convert(number: int, row: Record) -> Record:
        name = f"emollm-{row.get('source_id', number)}"
        asked, said = (_joined(*(turn.get(side) for turn in row["conversation"])) for side in ("input", "output"))
        return {"question_id": name, "question": asked, "topic": "",
                "answers": [{"answer_id": f"{name}-a1", "text": said}] if said else []}
    return _converted(rows, convert)


def counselchat(rows: Iterable[tuple[int, Any]]) -> Iterable[tuple[int, Any]]:
    """Rows with ``questionID``, ``questionTitle``, ``questionText``, ``topic`` or ``topics`` (the first counts),
    ``answerText``, ``upvotes``."""
    def convert(row: Record) -> Record:
        name, text = f"counselchat-{row['questionID']}", row.get("answerText")
        seen[name] = seen.get(name, 0) + 1
        topic = str(row.get("topic") or row.get("topics") or "").split(",")[0].strip()
        record = {"question_id": name, "title": row.get("questionTitle"), "topic": topic,
                  "question": _joined(row.get("questionTitle"), row.get("questionText")),
                  "answer_id": f"{name}-{seen[name]}", "upvotes": int(row.get("upvotes") or 0)}
        return record | ({"text": text} if text else {})
    seen: dict[str, int] = {}
    return _grouped(rows, convert, "questionID")


ADAPTERS = {"psyqa": psyqa, "cpsycoun": cpsycoun, "emollm": emollm, "counselchat": counselchat}
