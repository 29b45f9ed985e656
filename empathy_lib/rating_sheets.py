"""A rater's ranking as a sheet, the second way beside the page: the anonymised answers out to XLSX or CSV, the ranks back
in. One row a question and answer, in the order in which this rater sees them (``ratings.blind``), no system named."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from empathy_lib.ratings import DIMENSIONS, add_new, blind, code, fresh, rate, read, seen_by
from empathy_lib.review import digest
from empathy_lib.sheets import read_table, write_table

COLUMNS = ("question_id", "question", "letter", "answer", *DIMENSIONS, "note", "rater", "check")
EMPTY = "（没有给出回答 / no answer was given）"


def to_sheet(items: Sequence[Mapping[str, Any]], rater: str, seed: int, path: str | Path) -> None:
    """Write one rater's sheet (``sheets.write_table``). In each dimension's column the rater puts 1 for the best answer to
    a question, 2 for the next …; equal numbers are ties. ``check`` binds a row to this rater (``ratings.code``), seed and
    these answers."""
    rater = code(rater)
    rows = [(item["question_id"], item["question"], letter, item["answers"][system] or EMPTY, *[""] * 6, rater,
             _check(item, rater, seed)) for item in items for letter, system in zip(ascii_uppercase, blind(item, rater, seed))]
    most = max((len(item["answers"]) for item in items), default=2)
    widths = (14, 50, 6, 60, *[14] * 5, 30, 10, 18)
    write_table(path, dict(zip(COLUMNS, widths)), rows, "EFGHIJ", "EFGHI", [str(place) for place in range(1, most + 1)])


def from_sheet(path: str | Path, items: Sequence[Mapping[str, Any]], rater: str, seed: int) \
        -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The ratings of a sheet, made now, and what was refused as ``{"row", "reason"}`` (the header is row 1). A question
    with a wrong row is refused whole, a dimension with a wrong or missing rank alone; what is left blank is skipped. The
    notes of a question go with each of its ratings, after their letters. ValueError where the file is no such sheet."""
    rater = code(rater)
    known, rows = {item["question_id"]: item for item in items}, defaultdict(list)
    for number, row in enumerate(read_table(path, COLUMNS), 2):
        rows[row["question_id"]].append((number, row))
    ratings: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for name, own in rows.items():
        if not any(row[column] for _, row in own for column in (*DIMENSIONS, "note")):
            continue
        if wrong := _wrong(own, known.get(name), rater, seed):
            refused += wrong
            continue
        item, notes = known[name], [f"{row['letter'].upper()}: {row['note']}" for _, row in own if row["note"]]
        asked = [dimension for dimension in DIMENSIONS if any(row[dimension] for _, row in own)]
        if not asked:
            refused.append({"row": own[0][0], "reason": f"{name}: a note, but no rank"})
        for dimension in asked:
            ranks, wrong = _ranks(own, dimension, blind(item, rater, seed))
            refused += [{"row": number, "reason": f"{name}, {dimension}, {why}"} for number, why in wrong]
            ratings += [] if wrong else [rate(item, dimension, rater, ranks, note="\n".join(notes))]
    return ratings, refused


def take_in(path: str | Path, items: Sequence[Mapping[str, Any]], rater: str, seed: int, file: str | Path) \
        -> tuple[int, list[dict[str, Any]]]:
    """Add a sheet's ratings to the file of ratings, less those that are there. What this rater has ranked otherwise before
    stands, and the sheet's ranking is refused (``row`` None). Returns how many were added, and what was refused."""
    ratings, refused = from_sheet(path, items, rater, seed)
    have = {(r["question_id"], r["dimension"]): r for r in fresh(items, read(file)[0])
            if r["rater"] == code(rater) and r["kind"] == "human"}
    new = []
    for rating in ratings:
        before = have.get((rating["question_id"], rating["dimension"]), rating)
        if before["ranks"] == rating["ranks"]:
            new.append(rating)
        else:
            refused.append({"row": None, "reason": f"{rating['question_id']}, {rating['dimension']}: duplicate rater: {rater} "
                            f"ranked this otherwise at {before['time']}, and that stands. To correct it use the page; where "
                            "two people share a code, give one another code and its sheet"})
    return add_new(file, new), refused


def _check(item: Mapping[str, Any], rater: str, seed: int) -> str:
    return "x" + seen_by(item, rater, seed)  # else Excel might read a number


def _wrong(rows: Sequence[tuple[int, Mapping[str, str]]], item: Mapping[str, Any] | None, rater: str, seed: int) \
        -> list[dict[str, Any]]:
    """What makes the rows of a question unusable, one reason a row."""
    name, found, wrong = rows[0][1]["question_id"], set(), []
    if item is None:
        return [{"row": rows[0][0], "reason": f"question_id {name!r} is not among the questions"}]
    texts = {letter: item["answers"][system] or EMPTY for letter, system in zip(ascii_uppercase, blind(item, rater, seed))}
    for number, row in rows:
        letter, why = row["letter"].upper(), None
        if row["check"] != _check(item, rater, seed):  # the rater's code may be spoilt: Excel makes 7 of 007
            why = "made for other answers or with another seed: make this rater a new sheet" if code(row["rater"]) == rater \
                else f"wrong rater: a sheet of {row['rater']!r}, not of {rater!r}, who saw the answers in another order"
        elif letter not in texts:
            why = f"letter {row['letter']!r} is none of {', '.join(texts)}"
        elif letter in found:
            why = f"answer {letter} is there twice"
        elif digest(row["answer"]) != digest(texts[letter]):
            why = f"answer {letter} is not the text that was given out: it was edited or cut, or columns were sorted apart"
        found.add(letter)
        wrong += [{"row": number, "reason": f"{name}: {why}"}] if why else []
    absent = sorted(set(texts) - found)
    return wrong or ([{"row": rows[0][0], "reason": f"{name}: no row of answer {', '.join(absent)}"}] if absent else [])


def _ranks(rows: Sequence[tuple[int, Mapping[str, str]]], dimension: str, systems: Sequence[str]) \
        -> tuple[dict[str, int], list[tuple[int, str]]]:
    """The ranks by system, and the rows without a rank from 1 to n, with reasons. Excel may write 1 as 1.0."""
    ranks, wrong = {}, []
    for number, row in rows:
        letter, said = row["letter"].upper(), re.fullmatch(r"(\d{1,3})([.．]0+)?", row[dimension])
        if said and 1 <= int(said[1]) <= len(systems):
            ranks[systems[ascii_uppercase.index(letter)]] = int(said[1])
        else:
            given = f"{row[dimension][:40]!r} is no rank from 1 to {len(systems)}" if row[dimension] else "no rank"
            wrong.append((number, f"answer {letter}: {given}"))
    return ranks, wrong
