"""The review of chains of empathy: what a professional decided on each part of a chain, one decision a line::

    {"question_id": "exams-01", "part": "L2", "decision": "edit", "text": "…", "note": "", "rater": "王芳",
     "time": "2026-11-21T14:30:05.120+00:00", "seen": "9f86d081884c7d65"}

``seen`` is the digest of the text that was judged: where the chain's text is another by now, the decision is stale."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock
from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from empathy_lib.coe import FIELDS, CoE, render
from empathy_lib.schema import read_lines, write_atomic

DECISIONS = ("accept", "edit", "reject")
COLUMNS = ("question_id", "question", "part", "text", "decision", "edited text", "note", "rater")
_FORMULA = r"\s*[=+\-@＝＋－＠]"  # how a cell begins that Excel may compute (in East Asian locales full-width too)


class Decision(BaseModel, strict=True, extra="forbid"):
    """One rater's decision on one part; ``text`` is the edited text, of an edit only; ``time`` is ISO 8601 in UTC."""
    question_id: str
    part: Literal[FIELDS]
    decision: Literal[DECISIONS]
    text: str = ""
    note: str = ""
    rater: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    time: str
    seen: str = Field(pattern="^[0-9a-f]{16}$")

    @model_validator(mode="after")
    def possible(self) -> "Decision":
        if self.decision == "edit":
            render(CoE(**dict.fromkeys(FIELDS, "…") | {self.part: self.text}))  # refuses an empty text and a tag
        elif self.text:
            raise ValueError(f"an edited text with the decision {self.decision}")
        if datetime.fromisoformat(self.time).utcoffset() != timedelta(0):
            raise ValueError("time is not in UTC")
        return self


def plain(text: str) -> str:
    """The text as every browser and sheet gives it back: LF line ends, nothing around, no control characters."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", re.sub("\r\n?", "\n", text)).strip()


def digest(text: str) -> str:
    """16 hexadecimal digits of the SHA-256 of the plain text."""
    return hashlib.sha256(plain(text).encode()).hexdigest()[:16]


def judge(question_id: str, part: str, judged: str, decision: str, rater: str, text: str = "",
          note: str = "") -> dict[str, Any]:
    """The decision, made now, on a part whose text was ``judged``. ValidationError where it breaks a rule."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Decision(question_id=question_id, part=part, decision=decision, text=plain(text), note=plain(note),
                    rater=rater, time=time, seen=digest(judged)).model_dump()


def reason(error: ValidationError) -> str:
    """What is wrong, without the input."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'decision'}: {e['msg']}" for e in error.errors())


def add(file: str | Path, decision: dict[str, Any]) -> None:
    """Append a decision and force it to the disk; several processes may. OSError where the disk refuses, and then
    nothing of it stays. A line that a crash cut is ended first, so that only that line is unreadable."""
    data = Decision.model_validate(decision).model_dump_json().encode() + b"\n"
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock", timeout=10), open(file, "a+b", buffering=0) as out:
        size = out.seek(0, os.SEEK_END)
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


def read(file: str | Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The latest decision of each rater on each part, in the order made, and the unreadable lines as
    ``{"line", "reason"}``. No file: no decisions."""
    decisions, unreadable = [], []
    for number, line in read_lines(file) if Path(file).exists() else ():
        try:
            decisions.append(Decision.model_validate_json(line).model_dump())
        except ValidationError as error:
            unreadable.append({"line": number, "reason": reason(error)})
    return latest(decisions), unreadable


def latest(decisions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each rater's decisions on a part the last, in the order made."""
    last = {}
    for decision in decisions:
        key = decision["question_id"], decision["part"], decision["rater"]
        last.pop(key, None)
        last[key] = decision
    return list(last.values())


def is_fresh(chain: dict[str, Any], decision: dict[str, Any]) -> bool:
    """Whether the decision is about the chain's text as it is (or is the edit that this text came from)."""
    text = chain[decision["part"]]
    return decision["seen"] == digest(text) or decision["decision"] == "edit" and decision["text"] == plain(text)


def fresh(chains: Sequence[dict[str, Any]], decisions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latest decisions less the stale ones and those on chains that are not here."""
    known = {chain["question_id"]: chain for chain in chains}
    return [d for d in latest(decisions) if d["question_id"] in known and is_fresh(known[d["question_id"]], d)]


def apply(chains: Sequence[dict[str, Any]], decisions: Sequence[dict[str, Any]]) \
        -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """The chains kept, the rejects as ``{"question_id", "reason"}``, and the number of stale decisions (ignored).

    One rejected part rejects a chain; of several edits of a part the latest stands. With all five parts decided a
    chain is "accepted", or "edited" where one was; else its ``decision`` stays."""
    valid = fresh(chains, decisions)
    made = defaultdict(list)
    for decision in valid:
        made[decision["question_id"]].append(decision)
    kept, rejected = [], []
    for chain in chains:
        own = made[chain["question_id"]]
        refusals = [f"{d['part']} rejected by {d['rater']}: {d['note'] or 'no note'}"
                    for d in own if d["decision"] == "reject"]
        edits = {d["part"]: d["text"] for d in own if d["decision"] == "edit"}
        if refusals:
            rejected.append({"question_id": chain["question_id"], "reason": "; ".join(refusals)})
        elif own:
            whole = {d["part"] for d in own} == set(FIELDS)
            outcome = ("edited" if edits else "accepted") if whole else chain["decision"]
            kept.append(chain | edits | {"reviewers": sorted({d["rater"] for d in own}), "decision": outcome})
        else:
            kept.append(chain)
    return kept, rejected, len(latest(decisions)) - len(valid)


def to_sheet(chains: Sequence[dict[str, Any]], decisions: Iterable[dict[str, Any]], path: str | Path) -> None:
    """Write a sheet, .xlsx or (any other ending) CSV: a row for each part and decision on it, one blank where there is
    none or only a stale one. Give one rater's decisions where raters must not see each other's.

    No cell becomes a formula: in .xlsx all are text; in CSV an apostrophe goes before what would be read as one, and
    ``from_sheet`` takes it off. The CSV is UTF-8 with BOM and commas; where Excel separates by ``;`` take .xlsx.
    Excel's cells end after 32,767 characters; ``from_sheet`` refuses the row of a longer text."""
    import pandas as pd
    made = defaultdict(list)
    for d in fresh(chains, decisions):
        made[d["question_id"], d["part"]].append((d["decision"], d["text"], d["note"], d["rater"]))
    rows = [[plain(cell) for cell in (chain["question_id"], chain["question"], part, chain[part], *decided)]
            for chain in chains for part in FIELDS
            for decided in made[chain["question_id"], part] or [("", "", "", "")]]
    if Path(path).suffix == ".xlsx":
        _write_xlsx(rows, Path(path))
    else:
        guarded = [[re.sub(f"^(?='*{_FORMULA})", "'", cell) for cell in row] for row in rows]
        table = pd.DataFrame(guarded, columns=COLUMNS).to_csv(index=False, lineterminator="\r\n")
        write_atomic(path, "\ufeff" + table)


def _write_xlsx(rows: list[list[str]], path: Path) -> None:
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font
    from openpyxl.worksheet.datavalidation import DataValidation
    book = Workbook()
    sheet = book.active
    for number, row in enumerate([COLUMNS, *rows], 1):
        for column, text in enumerate(row, 1):
            cell = sheet.cell(number, column, text)
            cell.data_type = "s"  # openpyxl makes a formula of a text that begins with =
            cell.alignment = Alignment(wrap_text=True, vertical="top")
            cell.font = Font(bold=number == 1)
            if column > 4:
                cell.number_format = "@"  # what a rater types stays text too
    for letter, width in zip("ABCDEFGH", (16, 50, 8, 60, 10, 60, 30, 12)):
        sheet.column_dimensions[letter].width = width
    sheet.freeze_panes = "A2"
    choice = DataValidation(type="list", formula1=f'"{",".join(DECISIONS)}"', allow_blank=True, showErrorMessage=True)
    choice.add(f"E2:E{len(rows) + 1}")
    sheet.add_data_validation(choice)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    book.save(temporary)
    os.replace(temporary, path)


def from_sheet(path: str | Path, chains: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The decisions of a sheet, made now, and the refused rows as ``{"row", "reason"}`` (the header is row 1). Rows
    without decision, edited text and note are skipped. ValueError where the file is no such sheet."""
    known = {chain["question_id"]: chain for chain in chains}
    decisions, refused = [], []
    for number, row in enumerate(_read_sheet(Path(path)), 2):
        name, part = row["question_id"], row["part"]
        if not (row["decision"] or row["edited text"] or row["note"]):
            continue
        if name not in known:
            why = f"question_id {name!r} is not among the chains"
        elif part not in FIELDS:
            why = f"part {part!r} is none of {', '.join(FIELDS)}"
        elif digest(row["text"]) != digest(known[name][part]):
            why = "the text is not the chain's: it has changed since, or was edited here and not in 'edited text'"
        else:
            try:
                decisions.append(judge(name, part, known[name][part], row["decision"].lower(), row["rater"],
                                       row["edited text"], row["note"]))
                continue
            except ValidationError as error:
                why = reason(error)
        refused.append({"row": number, "reason": why})
    return decisions, refused


def _read_sheet(path: Path) -> list[dict[str, str]]:
    import pandas as pd
    if path.suffix != ".xlsx":
        try:
            header = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8: save it in Excel as 'CSV UTF-8'") from error
        table = pd.read_csv(path, sep=max(",;\t", key=header.count), dtype=str, keep_default_na=False,
                            skip_blank_lines=False, encoding="utf-8-sig")
        table = table.fillna("").map(lambda cell: re.sub(f"^'(?='*{_FORMULA})", "", cell))
    else:
        table = pd.read_excel(path, dtype=str, keep_default_na=False).fillna("")
    if missing := [column for column in COLUMNS if column not in table]:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    return [{key: plain(value) for key, value in row.items()} for row in table[list(COLUMNS)].to_dict("records")]


def agreement(decisions: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """How far raters agree on accept, edit or reject over the texts that two or more of them judged: number of items,
    raters, share of equal pairs of decisions, Cohen's kappa of each two raters, and Krippendorff's alpha (nominal).
    Where a coefficient is undefined it is None and the ``reason`` beside it says why."""
    import krippendorff
    import numpy as np
    from sklearn.metrics import cohen_kappa_score
    judged = defaultdict(dict)
    for d in latest(decisions):
        judged[d["question_id"], d["part"], d["seen"]][d["rater"]] = DECISIONS.index(d["decision"])
    items = [labels for labels in judged.values() if len(labels) > 1]
    raters = sorted({rater for labels in items for rater in labels})
    pairs = []
    for two in combinations(raters, 2):
        if both := [[labels[rater] for rater in two] for labels in items if all(rater in labels for rater in two)]:
            why = _undefined(both)
            pairs.append({"raters": list(two), "items": len(both), "equal": sum(a == b for a, b in both) / len(both),
                          "kappa": None if why else float(cohen_kappa_score(*zip(*both))), "reason": why})
    equal = sum(p["equal"] * p["items"] for p in pairs) / sum(p["items"] for p in pairs) if pairs else None
    why = _undefined([list(labels.values()) for labels in items])
    table = np.array([[labels.get(rater, np.nan) for labels in items] for rater in raters])
    alpha = None if why else float(krippendorff.alpha(table, level_of_measurement="nominal"))
    return {"items": len(items), "raters": raters, "equal": equal, "pairs": pairs, "alpha": alpha, "reason": why}


def _undefined(items: list[list[int]]) -> str | None:
    """Why chance agreement says nothing about these labels, or None."""
    labels = {label for labels in items for label in labels}
    if not items:
        return "no part was judged by two raters"
    return f"every decision is {DECISIONS[labels.pop()]}" if len(labels) == 1 else None
