"""A rater's sheet out and in: nothing is lost, nothing is named, nothing bad is taken."""

import csv
import io

import openpyxl
import pytest

from empathy_lib.rating_sheets import COLUMNS, EMPTY, from_sheet, take_in, to_sheet
from empathy_lib.ratings import DIMENSIONS, add, blind, rate, read, timeless

HARD = ("=1+1", "+86 打电话", "<script>alert(1)</script>", "两行\n第二行", "表情🫂“”，;\t\"'", "", "字" * 5000, "'=1", "007", "NA")
SYSTEMS = ("base", "sft", "empathy_r1")
ITEMS = [{"question_id": f"q{n}", "question": f"{text[:50]}？", "answers": {s: text + (s[0] if text else "") for s in SYSTEMS}}
         for n, text in enumerate(HARD)]


def load(path):
    if path.suffix == ".csv":
        return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    return [[cell or "" for cell in row] for row in openpyxl.load_workbook(path).active.iter_rows(values_only=True)]


def save(path, rows, separator=","):
    if path.suffix == ".csv":
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            return csv.writer(file, delimiter=separator).writerows(rows)
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append([cell or None for cell in row])
    for cell in (cell for row in book.active for cell in row if cell.value is not None):
        cell.data_type = "s"
    book.save(path)


def filled(path, rater="r1", items=ITEMS, ranks=("1", "2", "3")):
    """The rater's sheet, every dimension ranked in the order shown; rows as lists, the header first."""
    to_sheet(items, rater, 7, path)
    rows = load(path)
    for number, row in enumerate(rows[1:]):
        row[4:9] = [ranks[number % 3]] * 5
    return rows


@pytest.mark.parametrize("ending, separator", [("csv", ","), ("csv", ";"), ("csv", "\t"), ("xlsx", "")])
def test_a_filled_sheet_brings_every_rank_home(tmp_path, ending, separator):
    path = tmp_path / f"s.{ending}"
    rows = filled(path)
    rows[1][9], rows[2][9] = "太长", "=好"
    save(path, [rows[0], *reversed(rows[1:])], separator)  # sorted another way
    ratings, refused = from_sheet(path, ITEMS, "R1 ", 7)  # the same code
    wanted = [rate(item, d, "r1", {s: place for place, s in enumerate(blind(item, "r1", 7), 1)},
                   note="B: =好\nA: 太长" if item is ITEMS[0] else "") for item in ITEMS for d in DIMENSIONS]
    assert not refused and sorted(map(timeless, ratings)) == sorted(map(timeless, wanted))


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_a_sheet_names_no_system_and_has_no_formula(tmp_path, ending):
    path = tmp_path / f"s.{ending}"
    to_sheet(ITEMS, "=r", 7, path)
    rows = load(path)
    assert rows[0] == list(COLUMNS) and len(rows) == 1 + 3 * len(ITEMS)
    assert not [cell for row in rows for cell in row if any(s in cell for s in SYSTEMS)]
    assert [row[3] for row in rows if row[0] == "q5"] == [EMPTY] * 3
    if ending == "csv":
        assert not [cell for row in rows for cell in row if cell.lstrip()[:1] in set("=+-@")]
    else:
        sheet = openpyxl.load_workbook(path).active
        assert {cell.data_type for row in sheet for cell in row if cell.value is not None} == {"s"}
        choice = sheet.data_validations.dataValidation[0]
        assert choice.formula1 == '"1,2,3"' and str(choice.sqref) == f"E2:I{len(rows)}"
    assert from_sheet(path, ITEMS, "=r", 7) == ([], [])  # nothing filled in


ITEM = ITEMS[1]


@pytest.mark.parametrize("changes, why, ratings", [
    ([(1, 4, "")], ["q1, fluency, answer A: no rank"], 4), ([(n, 4, "") for n in (1, 2, 3)], [], 4),
    ([(2, 8, "4"), (3, 8, "x")], ["overall, answer B: '4' is no rank from 1 to 3", "overall, answer C: 'x'"], 4),
    ([(1, 5, "0")], ["'0' is no rank"], 4), ([(1, 5, "-1")], ["'-1' is no"], 4), ([(1, 5, "1.5")], ["'1.5' is no"], 4),
    ([(1, 5, "1.0"), (2, 5, "２")], [], 5), ([(1, 5, "1"), (2, 5, "1"), (3, 5, "1")], [], 5),
    ([(n, 0, "q99") for n in (1, 2, 3)], ["'q99' is not among"], 0), ([(2, 3, "改过了")], ["answer B is not the text"], 0),
    ([(2, 2, "D")], ["letter 'D' is none of A, B, C"], 0), ([(2, 2, "A")], ["answer A is there twice"], 0),
    ([(n, 2, low) for n, low in zip((1, 2, 3), "abc")], [], 5), ([(1, 10, "7")], [], 5),  # what Excel makes of 007
    ([(n, k, "") for n in (1, 2, 3) for k in range(4, 9)] + [(1, 9, "都不好")], ["a note, but no rank"], 0)])
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_what_is_wrong_is_refused_with_its_row_and_the_rest_kept(tmp_path, ending, changes, why, ratings):
    path = tmp_path / f"s.{ending}"
    rows = filled(path, items=[ITEM, ITEMS[3]])
    for row, column, value in changes:
        rows[row][column] = value
    save(path, rows)
    made, refused = from_sheet(path, [ITEM, ITEMS[3]], "r1", 7)
    assert len([r for r in made if r["question_id"] == "q1"]) == ratings
    assert len([r for r in made if r["question_id"] == "q3"]) == 5  # the other question is whole
    assert len(refused) == len(why) and all(part in row["reason"] for part, row in zip(why, refused))
    assert {row["row"] for row in refused} <= {1 + row for row, *_ in changes}


def test_a_question_without_all_its_rows(tmp_path):
    rows = filled(tmp_path / "s.csv", items=[ITEM])
    save(tmp_path / "s.csv", rows[:3])
    assert from_sheet(tmp_path / "s.csv", [ITEM], "r1", 7) == ([], [{"row": 2, "reason": "q1: no row of answer C"}])


def test_another_s_sheet_another_seed_and_other_answers(tmp_path):
    path = tmp_path / "s.csv"
    save(path, filled(path, "r2", ITEMS[:6]))  # the last of them all empty: it looks the same to both
    ratings, refused = from_sheet(path, ITEMS, "r1", 7)
    assert not ratings and len(refused) == 18 and "wrong rater: a sheet of 'r2', not of 'r1'" in refused[0]["reason"]
    rows = load(path)
    for row in rows[1:]:
        row[10] = "r1"  # does not help: the letters are r2's
    save(path, rows)
    ratings, refused = from_sheet(path, ITEMS, "r1", 7)
    assert not ratings and len(refused) == 18 and "other answers or with another seed" in refused[0]["reason"]
    save(path, filled(path, "r1", ITEMS[:2]))
    assert from_sheet(path, ITEMS, "r1", 8)[0] == []
    newer = [ITEMS[0], ITEMS[1] | {"answers": ITEMS[1]["answers"] | {"sft": "新的回答"}}]
    ratings, refused = from_sheet(path, newer, "r1", 7)
    assert {r["question_id"] for r in ratings} == {"q0"} and [row["row"] for row in refused] == [5, 6, 7]


def test_taken_in_twice_it_adds_nothing_and_a_second_opinion_is_refused(tmp_path):
    path, file = tmp_path / "s.csv", tmp_path / "r.jsonl"
    save(path, filled(path, items=ITEMS[:2]))
    assert take_in(path, ITEMS, "R1", 7, file) == (10, []) and take_in(path, ITEMS, "r1", 7, file) == (0, [])
    save(path, filled(path, items=ITEMS[:3], ranks=("2", "1", "3")))  # another person with the same code
    added, refused = take_in(path, ITEMS, "r1", 7, file)
    assert added == 5 and len(refused) == 10 and all("duplicate rater" in row["reason"] for row in refused)
    assert {r["ranks"][blind(ITEMS[0], "r1", 7)[0]] for r in read(file)[0] if r["question_id"] == "q0"} == {1}
    add(file, rate(ITEMS[0], "overall", "r1", dict.fromkeys(SYSTEMS, 1)))  # corrected on the page
    assert take_in(path, ITEMS, "r1", 7, file)[0] == 0


def test_a_file_that_is_no_such_sheet(tmp_path):
    (tmp_path / "a.csv").write_text("question_id,letter\nq1,A\n")
    with pytest.raises(ValueError, match="no column question, answer"):
        from_sheet(tmp_path / "a.csv", ITEMS, "r1", 7)
    (tmp_path / "b.csv").write_bytes("question_id,问题\n".encode("gb18030"))
    with pytest.raises(ValueError, match="CSV UTF-8"):
        from_sheet(tmp_path / "b.csv", ITEMS, "r1", 7)
