"""Anonymisation on labelled cases. In ``pii_cases.jsonl`` stand invented sentences: ``pii`` has to go, ``protected``
has to stay. A third of the cases (``set`` = held) was put aside while the patterns were fitted to the rest."""

import json
import time
from pathlib import Path

import pytest

from empathy_lib.anonymise import HOTLINES, anonymise

CASES = [json.loads(line) for line in Path(__file__).with_name("pii_cases.jsonl").read_text("utf-8").splitlines()]
SPANS = [(case["text"], pii["kind"], pii["span"]) for case in CASES for pii in case["pii"]]


def kinds_over(text: str, span: str) -> set:
    """What covers the letters and digits of the span, wherever it stands; None for one that is left."""
    covered = {i: found.kind for found in anonymise(text).found for i in range(found.start, found.end)}
    starts = [i for i in range(len(text)) if text.startswith(span, i)]
    return {covered.get(i + k) for i in starts for k, char in enumerate(span) if char.isalnum()}


def best_of(texts: list, rounds: int = 5) -> float:
    """Seconds per text in the fastest round."""
    def once() -> float:
        start = time.perf_counter()
        for text in texts:
            anonymise(text)
        return time.perf_counter() - start
    return min(once() for _ in range(rounds)) / len(texts)


def test_the_cases_are_what_they_say():
    assert len(CASES) >= 320 and len({case["text"] for case in CASES}) == len(CASES)
    assert sum(not case["pii"] for case in CASES) >= len(CASES) / 2 and {case["lang"] for case in CASES} == {"zh", "en"}
    assert all(pii["span"] in case["text"] for case in CASES for pii in case["pii"])
    assert all(part in case["text"] for case in CASES for part in case["protected"])


def test_personal_data_goes():
    missed = [(kind, span) for text, kind, span in SPANS if None in kinds_over(text, span)]
    assert len(missed) <= 0.03 * len(SPANS), missed


def test_the_type_is_right():
    found = [(kind, kinds, span) for text, kind, span in SPANS if None not in (kinds := kinds_over(text, span))]
    wrong = [(kind, kinds, span) for kind, kinds, span in found if kinds != {kind}]
    assert len(wrong) <= 0.05 * len(found), wrong


def test_everything_else_stays():
    parts = [(part, anonymise(case["text"]).text) for case in CASES for part in case["protected"]]
    harmed = [(part, text) for part, text in parts if part not in text]
    assert len(harmed) <= 0.02 * len(parts), harmed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:12])
def test_positions_rebuild_the_text_and_twice_is_once(case):
    text, result = case["text"], anonymise(case["text"])
    assert result.found == sorted(result.found, key=lambda found: found.start)
    assert all(a.end <= b.start for a, b in zip(result.found, result.found[1:], strict=False))
    for found in reversed(result.found):
        text = f"{text[:found.start]}[{found.kind}]{text[found.end:]}"
    assert text == result.text and anonymise(result.text) == (result.text, [])


@pytest.mark.parametrize("number", sorted(HOTLINES))
def test_hotlines_stay(number):
    for text in (f"打{number}，一直有人接", f"电话：{number}", f"please call {number} now"):
        assert anonymise(text) == (text, [])


def test_a_name_goes_everywhere_once_introduced():
    assert anonymise("李小雨又哭了。我叫李小雨，李小雨！").text == "[姓名]又哭了。我叫[姓名]，[姓名]！"
    assert anonymise("李小雨又哭了。").found == []
    assert anonymise("I'm Dr. Jane Placeholder. Dr. Jane Placeholder here.").text == "I'm [姓名]. [姓名] here."


@pytest.mark.parametrize("unit", ["1", "a", "@", "微信", "\n", "-1", "1 ", "a@a.", "Ab", "A ", "我叫王", "小区1栋", "市第一中学",
                                  "http://a"])
def test_time_grows_with_the_length_only(unit):
    start = time.perf_counter()
    anonymise((unit * 100_000)[:100_000] + "\n我叫王小明 a@b.cn 13900001111 3班 best")
    assert time.perf_counter() - start < 5  # some tenths of a second; a quadratic pattern takes minutes


def test_plain_texts_pass_quickly():
    plain = [case["text"] for case in CASES if case["lang"] == "zh" and not case["pii"]]
    texts = ["".join(plain[i:i + 13])[:300] for i in range(len(plain) - 13)]
    assert best_of(texts) < 1e-3  # some 0.1 ms on one core: ten times that before the test fails
