import csv
import io
import json
import resource
import subprocess
import sys
import threading
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from filelock import FileLock
from pydantic import ValidationError

from empathy_lib import ROOT
from empathy_lib.coe import FIELDS
from empathy_lib.review import Decision, add, agreement, apply, digest, judge, read
from empathy_lib.schema import read_jsonl
from empathy_lib.sheets import COLUMNS, from_sheet, take_in, to_sheet

HARD = "=1+1", "+86 打电话", "-先停一停", "@朋友", "'引号", "'=1", " =2", "＝全角", "两行\n第二行", "表情🫂“”，;\t\"'", "NA", "007"


def make_chain(name="q1", **changes):
    return {"question_id": name, "question": f"{name}：我睡不着", **{part: f"{part} 的文字" for part in FIELDS},
            "teacher": "bundled", "prompt": "", "reviewers": [], "decision": "unreviewed", "own_question": True,
            **changes}


def decide(chain, part, decision, rater="甲", text="", note=""):
    return judge(chain["question_id"], part, chain[part], decision, rater, text, note)


def all_parts(chain, rater="甲", **other):
    return [other.get(part) or decide(chain, part, "accept", rater) for part in FIELDS]


def timeless(decisions):
    return sorted(json.dumps({k: v for k, v in d.items() if k != "time"}, sort_keys=True) for d in decisions)


@pytest.mark.parametrize("change, why", [
    ({"part": "L5"}, "part"), ({"decision": "maybe"}, "decision"), ({"rater": "  "}, "rater"), ({"seen": "x"}, "seen"),
    ({"time": "yesterday"}, "isoformat"), ({"time": "2026-01-01T00:00:00"}, "UTC"), ({"question_id": 7}, "question_id"),
    ({"time": "2026-01-01T00:00:00+08:00"}, "UTC"), ({"text": "多余"}, "with the decision accept"), ({"more": 1}, "more"),
    ({"decision": "edit"}, "L1 is empty"), ({"decision": "edit", "text": " \n"}, "L1 is empty"),
    ({"decision": "edit", "text": "一</L1>二"}, "tag </L1>"), ({"decision": "edit", "text": "<answer>"}, "tag <answer>"),
])
def test_a_decision_that_breaks_a_rule_is_refused_and_nothing_is_written(tmp_path, change, why):
    good = decide(make_chain(), "L1", "accept")
    Decision.model_validate(good)
    with pytest.raises(ValidationError, match=why):
        add(tmp_path / "d.jsonl", good | change)
    assert not (tmp_path / "d.jsonl").exists()


def test_the_latest_decision_of_each_rater_on_each_part_is_read(tmp_path):
    file, chain = tmp_path / "new" / "d.jsonl", make_chain()
    assert read(file) == ([], [])
    made = [decide(chain, "L1", "accept"), decide(chain, "L1", "accept", "乙"),
            decide(chain, "L2", "reject", note="说教\n“”"), decide(chain, "L1", "edit", text="改\n过🫂")]
    for decision in made:
        add(file, decision)
    assert read(file) == (made[1:], []) and len(file.read_text(encoding="utf-8").splitlines()) == 4
    assert made[0]["seen"] == digest(chain["L1"]) == digest(chain["L1"] + "\r\n") != digest(chain["L2"])


def test_a_line_cut_anywhere_is_reported_and_spoils_no_other(tmp_path):
    file, chain = tmp_path / "d.jsonl", make_chain()
    first, second, third = (decide(chain, part, "reject", note="注") for part in ("L1", "L2", "L3"))
    add(file, first)
    whole = file.stat().st_size
    add(file, second)
    data = file.read_bytes()
    for cut in range(whole + 1, len(data)):
        file.write_bytes(data[:cut])
        add(file, third)
        decisions, unreadable = read(file)
        if cut == len(data) - 1:  # only the line's end is missing
            assert decisions == [first, second, third] and not unreadable
        else:
            assert decisions == [first, third], cut
            assert [row["line"] for row in unreadable] == [2] and unreadable[0]["reason"]


def test_a_full_disk_is_an_error_and_leaves_the_file_as_it_was(tmp_path):
    file, chain = tmp_path / "d.jsonl", make_chain()
    add(file, decide(chain, "L1", "accept"))
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))  # a part of the line still fits
    try:
        with pytest.raises(OSError):
            add(file, decide(chain, "L2", "accept"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    add(file, decide(chain, "L2", "accept"))
    assert len(read(file)[0]) == 2


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    code = ("import sys; from empathy_lib.review import add, judge\n"
            "for i in range(50): add(sys.argv[1], judge(f'q{i}', 'L1', '文', 'edit', sys.argv[2], '长' * 3000))")
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path / "d.jsonl", str(n)], cwd=ROOT) for n in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    decisions, unreadable = read(tmp_path / "d.jsonl")
    assert not unreadable and {(d["rater"], d["question_id"]) for d in decisions} == \
        {(str(n), f"q{i}") for n in range(3) for i in range(50)}


def test_a_writer_waits_for_another(tmp_path):
    file = tmp_path / "d.jsonl"
    writer = threading.Thread(target=add, args=(file, decide(make_chain(), "L1", "accept")))
    with FileLock(f"{file}.lock"):
        writer.start()
        writer.join(0.3)
        assert writer.is_alive() and not file.exists()
    writer.join(10)
    assert len(read(file)[0]) == 1


def test_apply():
    chains = [make_chain(f"q{n}") for n in range(7)]
    q0, q1, q2, q3, q4, q5, q6 = chains
    older = make_chain("q5", L1="从前的文字")
    decisions = [
        *all_parts(q0, "乙"), *all_parts(q0),                                                    # accepted by two
        *all_parts(q1, L2=decide(q1, "L2", "edit", text="甲改")), decide(q1, "L2", "edit", "乙", "乙改"),  # the later edit
        *all_parts(q2), decide(q2, "L4", "reject", "乙", note="说教"),                             # one rejects
        decide(q3, "L1", "edit", text="改"),                                                      # not all parts
        decide(q4, "L1", "reject"), *all_parts(q4),                                               # changed their mind
        *all_parts(q5, L1=decide(older, "L1", "reject")),                                         # one is stale
        decide(make_chain("q9"), "L1", "accept")]                                                 # no such chain
    kept, rejected, stale = apply(chains, decisions)
    assert kept == [q0 | {"reviewers": ["乙", "甲"], "decision": "accepted"},
                    q1 | {"reviewers": ["乙", "甲"], "decision": "edited", "L2": "乙改"},
                    q3 | {"reviewers": ["甲"], "L1": "改"}, q4 | {"reviewers": ["甲"], "decision": "accepted"},
                    q5 | {"reviewers": ["甲"]}, q6]
    assert rejected == [{"question_id": "q2", "reason": "L4 rejected by 乙: 说教"}] and stale == 2
    assert apply(chains, []) == (chains, [], 0)
    assert q1["L2"] == "L2 的文字"
    again, _, stale = apply(kept[1:2], decisions[10:16])  # the chain already has the edit in it
    assert again == kept[1:2] and stale == 1  # 甲's older edit


@pytest.mark.parametrize("ending", ["xlsx", "csv"])
def test_sheet_brings_every_text_back(tmp_path, ending):
    chains = [make_chain(f"q{n}", question=text, L1=text, answer=text) for n, text in enumerate(HARD)]
    decisions = [d for chain, text in zip(chains, HARD) for d in (
        decide(chain, "L1", "edit", text=text + "。", note=text), decide(chain, "L1", "accept", "乙"),
        decide(chain, "answer", "reject", "=丙", note=text))]
    path = tmp_path / "new" / f"s.{ending}"
    to_sheet(chains, decisions, path)
    back, refused = from_sheet(path, chains)
    assert not refused and timeless(back) == timeless(decisions)
    assert path.parent.stat() and list(path.parent.iterdir()) == [path]


def test_no_cell_is_a_formula(tmp_path):
    chains = [make_chain(f"={n}", question=text, L1=text) for n, text in enumerate(HARD)]
    decisions = [decide(chains[0], "L2", "edit", "@甲", text="=1", note="-1")]
    to_sheet(chains, decisions, tmp_path / "s.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "s.xlsx").active
    cells = [cell for row in sheet for cell in row if cell.value is not None]
    assert {cell.data_type for cell in cells} == {"s"} and all(cell.alignment.wrap_text for cell in cells)
    assert sheet.max_row == 1 + 5 * len(chains) and [cell.value for cell in sheet[1]] == list(COLUMNS)
    choice = sheet.data_validations.dataValidation[0]
    assert choice.formula1 == '"accept,edit,reject"' and str(choice.sqref) == f"E2:E{sheet.max_row}"
    to_sheet(chains, decisions, tmp_path / "s.csv")
    rows = list(csv.reader(io.StringIO((tmp_path / "s.csv").read_text(encoding="utf-8-sig"))))
    assert not [cell for row in rows for cell in row if cell.lstrip()[:1] in set("=+-@＝＋－＠")]


@pytest.mark.parametrize("separator", ";,\t")
@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_the_csv_that_excel_saves_comes_back(tmp_path, separator, line_end):
    chains, path = [make_chain("q1", L1="一,二;三\n四"), make_chain("q2")], tmp_path / "s.csv"
    to_sheet(chains, [], path)
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    rows[1][4:] = "Edit ", "改过；\n第二行", "备注", " 甲"
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=line_end).writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8-sig"))
    decisions, refused = from_sheet(path, chains)
    assert not refused and timeless(decisions) == timeless(
        [decide(chains[0], "L1", "edit", text="改过；\n第二行", note="备注")])


@pytest.mark.parametrize("ending", ["xlsx", "csv"])
def test_bad_rows_are_refused_with_number_and_reason(tmp_path, ending):
    chains, path = [make_chain()], tmp_path / f"s.{ending}"
    good = ["q1", "问", "L1", chains[0]["L1"], "accept", "", "", "甲"]
    cases = [(dict(enumerate(good)), None), ({i: "" for i in range(8)}, None),
             ({0: "q9"}, "'q9' is not among"), ({2: "L9"}, "'L9' is none of"),
             ({4: "ok"}, "'accept', 'edit' or 'reject'"), ({7: ""}, "rater"), ({4: "edit"}, "L1 is empty"),
             ({4: "edit", 5: "<L2>"}, "tag <L2>"), ({5: "改"}, "with the decision accept"),
             ({3: "在这里改了"}, "not the chain's"), ({4: "", 5: "忘了决定"}, "decision"), ({4: ""}, None),
             ({2: "L1"}, None)]
    rows = [[change.get(i, cell) for i, cell in enumerate(good)] for change, _ in cases]
    rows = [row if any(row) else [] for row in rows]
    if ending == "csv":
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    else:
        book = openpyxl.Workbook()
        for row in (COLUMNS, *rows):
            book.active.append([cell or None for cell in row])
        book.save(path)
    decisions, refused = from_sheet(path, chains)
    expected = [(number, why) for number, (_, why) in enumerate(cases, 2) if why]
    assert len(decisions) == 2 and [row["row"] for row in refused] == [number for number, _ in expected]
    for row, (_, why) in zip(refused, expected):
        assert why in row["reason"]


def test_a_file_that_is_no_such_sheet(tmp_path):
    (tmp_path / "a.csv").write_text("question_id,part\nq1,L1\n")
    with pytest.raises(ValueError, match="no column question, text"):
        from_sheet(tmp_path / "a.csv", [])
    (tmp_path / "b.csv").write_bytes("question_id,问题\n".encode("gb18030"))
    with pytest.raises(ValueError, match="CSV UTF-8"):
        from_sheet(tmp_path / "b.csv", [])


def test_agreement_by_hand():
    chain, other = make_chain(), make_chain("q2")
    labels = {"甲": "aaare", "乙": "aarrr"}  # on L1 .. answer; equal: 3 of 5
    long = {"a": "accept", "r": "reject", "e": "edit"}
    decisions = [decide(chain, part, long[label], rater, "改" if label == "e" else "")
                 for rater, row in labels.items() for part, label in zip(FIELDS, row)]
    alone = [decide(other, "L1", "reject")]
    result = agreement(decisions + alone)
    assert (result["items"], result["raters"], result["equal"]) == (5, ["乙", "甲"], 0.6)
    chance = (3 * 2 + 1 * 3) / 25
    assert result["pairs"] == [{"raters": ["乙", "甲"], "items": 5, "equal": 0.6, "reason": None,
                                "kappa": pytest.approx((0.6 - chance) / (1 - chance))}]
    # alpha = 1 - (n - 1) * sum of unequal coincidences / sum of n_c n_k, over n = 10 labels: 5 a, 4 r, 1 e
    assert result["alpha"] == pytest.approx(1 - 9 * 4 / (2 * (5 * 4 + 5 * 1 + 4 * 1))) and result["reason"] is None


def test_agreement_where_it_is_undefined():
    chain, newer = make_chain(), make_chain(L2="新的文字")
    one = [decide(chain, part, "accept") for part in FIELDS]
    none = agreement(one)
    assert (none["items"], none["equal"], none["alpha"], none["pairs"]) == (0, None, None, [])
    assert "two raters" in none["reason"]
    same = agreement(one + [decide(chain, "L1", "accept", "乙")])
    assert (same["items"], same["equal"], same["alpha"], same["pairs"][0]["kappa"]) == (1, 1, None, None)
    assert same["reason"] == same["pairs"][0]["reason"] == "every decision is accept"
    assert agreement(one + [decide(newer, "L2", "reject", "乙")])["items"] == 0  # about another text
    three = agreement(one + [decide(chain, part, "reject", rater) for part in ("L1", "L2") for rater in ("乙", "丙")])
    assert [(pair["raters"], pair["items"], pair["equal"]) for pair in three["pairs"]] == \
        [(["丙", "乙"], 2, 1), (["丙", "甲"], 2, 0), (["乙", "甲"], 2, 0)] and three["equal"] == pytest.approx(1 / 3)


def test_the_bundled_chains_go_through_a_sheet(tmp_path):
    texts = {q["question_id"]: q["question"] for q in read_jsonl(ROOT / "empathy_lib/bundled/questions.jsonl")}
    chains = [make_chain() | chain | {"question": texts[chain["question_id"]]}
              for chain in read_jsonl(ROOT / "empathy_lib/bundled/coe.jsonl")[:50]]
    decisions = [d for chain in chains for d in all_parts(chain)]
    for path in (tmp_path / "s.xlsx", tmp_path / "s.csv"):
        to_sheet(chains, decisions, path)
        back, refused = from_sheet(path, chains)
        assert not refused and timeless(back) == timeless(decisions)
        assert {chain["decision"] for chain in apply(chains, back)[0]} == {"accepted"}


def test_review_imports_neither_gradio_nor_torch():
    code = "import sys, empathy_lib.review; sys.exit(bool({'gradio', 'torch', 'pandas', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(ROOT)).returncode == 0


def test_a_sheet_taken_in_adds_only_what_its_rater_decided(tmp_path):
    chains = [make_chain(), make_chain("q2")]
    file, sheet = tmp_path / "decisions.jsonl", tmp_path / "sheet.xlsx"
    name, text = chains[0]["question_id"], chains[0]["L1"]
    add(file, judge(name, "L1", text, "accept", "甲"))
    to_sheet(chains, read(file)[0], sheet)
    add(file, judge(name, "L1", text, "reject", "甲", note="再想想"))  # after the sheet went out
    table = pd.read_excel(sheet, dtype=str, keep_default_na=False)
    table.loc[(table.question_id == name) & (table.part == "L2"), ["decision", "rater"]] = ["accept", "乙"]
    table.to_excel(sheet, index=False)
    assert take_in(sheet, chains, file) == (1, [])
    assert {(d["part"], d["rater"], d["decision"]) for d in read(file)[0]} == {("L1", "甲", "reject"), ("L2", "乙", "accept")}


def test_layers_that_were_not_asked_for_need_no_decision(tmp_path):
    chain = make_chain() | {"L2": "", "L3": ""}
    decisions = [judge(chain["question_id"], part, chain[part], "accept", "甲") for part in ("L1", "L4", "answer")]
    assert apply([chain], decisions)[0][0]["decision"] == "accepted"
    filled = judge(chain["question_id"], "L2", "", "edit", "甲", "想当然")
    kept, _, stale = apply([chain], [*decisions, filled])
    assert kept[0]["L2"] == "" and stale == 1
    to_sheet([chain], [], tmp_path / "s.csv")
    assert len(pd.read_csv(tmp_path / "s.csv")) == 3
