"""The rows of rankings: what is ranked, the blind order, the file."""

import json
import subprocess
import sys
from collections import Counter
from itertools import permutations

import pytest
from pydantic import ValidationError
from scipy.stats import chisquare

from empathy_lib import ROOT
from empathy_lib.ratings import Rating, add, add_new, blind, code, fresh, items, rate, read

SYSTEMS = ("base", "sft", "empathy_r1")
RANKS = {"base": 3, "sft": 2, "empathy_r1": 1}


def item(name="q1", **answers):
    return {"question_id": name, "question": "睡不着", "answers": {s: f"{s} 的回答" for s in SYSTEMS} | answers}


def rows(names, system):
    return [{"question_id": name, "question": f"{name}？", "sample": n, "answer": f"{system} {name} {n}\r\n"}
            for name in names for n in range(2)]


def test_items_are_the_common_questions_and_first_samples():
    answers = {"base": rows("abcde", "base"), "sft": rows("edcb", "sft")}
    drawn = items(answers, 3, 7)
    assert drawn == items(answers, 3, 7) and len(drawn) == 3 != len(items(answers, 9, 7)) == 4
    assert all(i["answers"] == {s: f"{s} {i['question_id']} 0" for s in answers} for i in items(answers, 9, 7))
    assert {tuple(i["question_id"] for i in items(answers, 2, seed)) for seed in range(200)} == set(permutations("bcde", 2))
    for bad in ({"base": rows("a", "base")}, {}, {"base": rows("a", "base"), "sft": rows("b", "sft")}):
        with pytest.raises(ValueError, match="two systems that answered the same questions"):
            items(bad, 1, 0)


def test_the_blind_order_is_stable_and_each_rater_and_question_has_another():
    orders = [tuple(blind(item(f"q{q}"), f"r{r}", 0)) for r in range(20) for q in range(30)]
    assert orders == [tuple(blind(item(f"q{q}"), f" r{r} ", 0)) for r in range(20) for q in range(30)]
    assert blind(item("q0"), "r0", 0) == blind(item("q0", base="别的"), "r0", 0)  # the texts do not move it
    assert set(orders[:30]) == set(orders[::30]) == set(permutations(SYSTEMS))
    assert orders != [tuple(blind(item(f"q{q}"), f"r{r}", 1)) for r in range(20) for q in range(30)]
    for place in range(3):
        assert chisquare(list(Counter(order[place] for order in orders).values())).pvalue > 0.001
    assert chisquare(list(Counter(orders).values())).pvalue > 0.001


@pytest.mark.parametrize("change, why", [
    ({"ranks": {"base": 1}}, "ranks"), ({"ranks": {"base": 0, "sft": 1}}, "ranks"), ({"ranks": {"base": 1, "sft": 3}}, "above 2"),
    ({"ranks": {"base": 1, "sft": 1.5}}, "ranks"), ({"dimension": "beauty"}, "dimension"), ({"rater": "  "}, "rater"),
    ({"kind": "cat"}, "kind"), ({"time": "2026-01-01T00:00:00"}, "UTC"), ({"seen": "x"}, "seen"), ({"more": 1}, "more")])
def test_a_rating_that_breaks_a_rule_is_not_written(tmp_path, change, why):
    good = rate(item(), "overall", "r1", RANKS)
    Rating.model_validate(good)
    with pytest.raises(ValidationError, match=why):
        add(tmp_path / "r.jsonl", good | change)
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize("ranks", [RANKS | {"gpt": 1}, {"base": 1, "sft": 2}, {"base": 1, "sft": 2, "gpt": 3}])
def test_ranks_of_other_systems_are_refused(ranks):
    with pytest.raises(ValueError, match="the answers are of base, empathy_r1, sft"):
        rate(item(), "overall", "r1", ranks)


def test_the_latest_counts_and_broken_lines_are_told(tmp_path):
    file = tmp_path / "new" / "r.jsonl"
    assert read(file) == ([], [])
    first, other, last = (rate(item(), d, "r1", ranks) for d, ranks in (
        ("overall", RANKS), ("fluency", RANKS), ("overall", dict.fromkeys(SYSTEMS, 1))))
    proxy = rate(item(), "overall", "r1", RANKS, kind="llm")  # of the same name, yet another rater
    for rating in (first, other, proxy, last):
        add(file, rating)
    with open(file, "ab") as out:
        out.write(b'{"question_id": "q1", "dimen')  # a crash
    add(file, third := rate(item(), "overall", "r2", RANKS))
    with open(file, "ab") as out:
        out.write(json.dumps(first | {"dimension": "beauty", "note": "隐私"}, ensure_ascii=False).encode() + b"\n\xff\xfe\n")
    ratings, unreadable = read(file)
    assert ratings == [other, proxy, last, third]
    assert [row["line"] for row in unreadable] == [5, 7, 8] and "dimension" in unreadable[1]["reason"]
    assert "隐私" not in json.dumps(unreadable, ensure_ascii=False)
    again = [rate(item(), "overall", "r2", RANKS), rate(item(), "overall", "r1", RANKS)]
    assert (add_new(file, again), add_new(file, again)) == (1, 0)  # r2 said so before; r1 has changed since


def test_ratings_of_other_answers_are_stale():
    old, kept, gone = (rate(item(name), "overall", "r1", RANKS) for name in ("q1", "q2", "q3"))
    now = [item(sft="改过的回答"), item("q2")]
    assert fresh(now, [old, kept, gone]) == [kept]
    newer = rate(now[0], "overall", "r1", RANKS)
    assert fresh(now, [old, kept, newer]) == [kept, newer]
    swapped = item(base="sft 的回答", sft="base 的回答")
    assert fresh([swapped], [old]) == []


def test_codes_typed_otherwise_are_one_rater():
    assert {code(typed) for typed in ("R07", " r07", "ｒ０７", "r07\t")} == {"r07"} and code("王 芳") != code("王芳")


def test_four_processes_write_one_file_and_each_rating_is_there_once(tmp_path):
    file = tmp_path / "r.jsonl"
    script = ("import sys\nfrom empathy_lib.ratings import add, rate\nrater, file = sys.argv[1:]\n"
              "item = {'question': '', 'answers': {'a': '甲' * 2000, 'b': '乙'}}\n"
              "for n in range(50):\n"
              "    add(file, rate(item | {'question_id': f'q{n}'}, 'overall', rater, {'a': 1, 'b': 2}, note='注' * 3000))")
    writers = [subprocess.Popen([sys.executable, "-c", script, f"r{r}", file], cwd=ROOT) for r in range(4)]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    ratings, unreadable = read(file)
    assert not unreadable and len(file.read_bytes().splitlines()) == 200
    assert {(r["rater"], r["question_id"]) for r in ratings} == {(f"r{r}", f"q{n}") for r in range(4) for n in range(50)}


def test_ratings_and_their_statistics_import_no_torch():
    script = ("import sys, empathy_lib.ranking, empathy_lib.judge\n"
              "print({'torch', 'pandas', 'gradio', 'scipy'} & set(sys.modules))")
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True).stdout == "set()\n"
