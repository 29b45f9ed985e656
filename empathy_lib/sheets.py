"""The review as a sheet: the chains and decisions out to XLSX or CSV, and what a rater decided there back in. Any table of
texts goes through ``write_table`` and ``read_table``."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from pydantic import ValidationError

from empathy_lib.review import DECISIONS, add, as_line, digest, fresh, judge, parts, plain
from empathy_lib.schema import explain, read_lines, write_atomic

COLUMNS = ("question_id", "question", "part", "text", "decision", "edited text", "note", "rater", "time")
_FORMULA = r"\s*[=+\-@＝＋－＠]"  # how a cell begins that Excel may compute (in East Asian locales full-width too)


def to_sheet(chains: Sequence[dict[str, Any]], decisions: Iterable[dict[str, Any]], path: str | Path) -> None:
    """Write a sheet (``write_table``): a row for each part and decision on it, one blank where there is none or only a
    stale one. Give one rater's decisions where raters must not see each other's."""
    made = defaultdict(list)
    for d in fresh(chains, decisions):
        made[d["question_id"], d["part"]].append((d["decision"], d["text"], d["note"], d["rater"], d["time"]))
    rows = [(chain["question_id"], chain["question"], part, chain[part], *decided)
            for chain in chains for part in parts(chain)
            for decided in made[chain["question_id"], part] or [("", "", "", "", "")]]
    write_table(path, dict(zip(COLUMNS, (16, 50, 8, 60, 10, 60, 30, 12, 26))), rows, "EFGHI", "E", DECISIONS)


def write_table(path: str | Path, columns: Mapping[str, int], rows: Iterable[Sequence[str]], typed: str, chosen: str,
                choices: Sequence[str]) -> None:
    """Write texts under ``columns`` (and their widths), .xlsx or (any other ending) CSV. In .xlsx people type into the
    columns with the letters ``typed`` and choose one of ``choices`` in those of ``chosen``.

    No cell becomes a formula: in .xlsx all are text; in CSV an apostrophe goes before what would be read as one, and
    ``read_table`` takes it off. The CSV is UTF-8 with BOM and commas; where Excel separates by ``;`` take .xlsx.
    Excel's cells end after 32,767 characters; the row of a longer text does not come back whole, and is refused."""
    import pandas as pd
    rows = [[plain(cell) for cell in row] for row in rows]
    if Path(path).suffix == ".xlsx":
        _write_xlsx(columns, rows, Path(path), typed, chosen, choices)
    else:
        guarded = [[re.sub(f"^(?='*{_FORMULA})", "'", cell) for cell in row] for row in rows]
        table = pd.DataFrame(guarded, columns=list(columns)).to_csv(index=False, lineterminator="\r\n")
        write_atomic(path, "\ufeff" + table)


def _write_xlsx(columns: Mapping[str, int], rows: list[list[str]], path: Path, typed: str, chosen: str,
                choices: Sequence[str]) -> None:
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font
    from openpyxl.worksheet.datavalidation import DataValidation
    book = Workbook()
    sheet = book.active
    for number, row in enumerate([list(columns), *rows], 1):
        for column, text in enumerate(row, 1):
            cell = sheet.cell(number, column, text)
            cell.data_type = "s"  # openpyxl makes a formula of a text that begins with =
            cell.alignment = Alignment(wrap_text=True, vertical="top")
            cell.font = Font(bold=number == 1)
            if cell.column_letter in typed:
                cell.number_format = "@"  # what a rater types stays text too
    for letter, width in zip(ascii_uppercase, columns.values()):
        sheet.column_dimensions[letter].width = width
    sheet.freeze_panes = "A2"
    choice = DataValidation(type="list", formula1=f'"{",".join(choices)}"', allow_blank=True, showErrorMessage=True)
    choice.add(f"{chosen[0]}2:{chosen[-1]}{len(rows) + 1}")
    sheet.add_data_validation(choice)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    book.save(temporary)
    os.replace(temporary, path)


def from_sheet(path: str | Path, chains: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The decisions of a sheet, made at their ``time`` or now, and the refused rows as ``{"row", "reason"}`` (the header
    is row 1). Rows without decision, edited text and note are skipped. ValueError where the file is no such sheet."""
    known = {chain["question_id"]: chain for chain in chains}
    decisions, refused = [], []
    for number, row in enumerate(read_table(path, COLUMNS), 2):
        name, part = row["question_id"], row["part"]
        if not (row["decision"] or row["edited text"] or row["note"]):
            continue
        if name not in known:
            why = f"question_id {name!r} is not among the chains"
        elif part not in parts(known[name]):
            why = f"part {part!r} is none of {', '.join(parts(known[name]))}"
        elif digest(row["text"]) != digest(known[name][part]):
            why = "the text is not the chain's: it has changed since, or was edited here and not in 'edited text'"
        else:
            try:
                decisions.append(judge(name, part, known[name][part], row["decision"].lower(), row["rater"],
                                       row["edited text"], row["note"], row["time"]))
                continue
            except ValidationError as error:
                why = explain(error, "decision")
        refused.append({"row": number, "reason": why})
    return decisions, refused


def take_in(path: str | Path, chains: Sequence[dict[str, Any]], file: str | Path) -> tuple[int, list[dict[str, Any]]]:
    """Add a sheet's decisions to the file of decisions, less those that are there: what others have decided since the
    sheet was written stands. Returns how many were added, and the refused rows."""
    decisions, refused = from_sheet(path, chains)
    known = {line for _, line in read_lines(file)} if Path(file).exists() else set()
    new = [decision for decision in decisions if as_line(decision) not in known]
    for decision in new:
        add(file, decision)
    return len(new), refused


def read_table(path: str | Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a sheet as people saved it, .xlsx or CSV. ValueError where it is not UTF-8 or lacks one of ``columns``."""
    import pandas as pd
    path = Path(path)
    if path.suffix != ".xlsx":
        try:
            header = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8: save it in Excel as 'CSV UTF-8'") from error
        table = pd.read_csv(path, sep=max(",;\t", key=header.count), dtype=str, keep_default_na=False,
                            skip_blank_lines=False)
        table = table.fillna("").map(lambda cell: re.sub(f"^'(?='*{_FORMULA})", "", cell))
    else:
        table = pd.read_excel(path, dtype=str, keep_default_na=False).fillna("")
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    return [{key: plain(value) for key, value in row.items()} for row in table[list(columns)].to_dict("records")]
