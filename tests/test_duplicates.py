import random

import pytest

from empathy_lib import BUNDLED
from empathy_lib.duplicates import (NEAR, LeakageError, check_leakage, clusters, jaccard, near_duplicates, shingles)
from empathy_lib.schema import Answer, Question, read_questions

TEXTS = [q.question for q in read_questions(BUNDLED / "questions.jsonl")[0]]


def edited(text: str, share: float, seed: int) -> str:
    """A copy in which a share of the characters is replaced by others."""
    rng = random.Random(seed)
    return "".join(rng.choice(text) if rng.random() < share else char for char in text)


def test_shingles_and_jaccard():
    assert shingles("我，今天很累。", "zh") == {"我今天很累"} and shingles("Ab", "zh") == {"ab"}
    assert shingles("I am so very tired", "en") == {"i am so", "am so very", "so very tired"}
    assert jaccard({1, 2, 3}, {2, 3, 4}) == 0.5


def test_the_same_pairs_as_comparing_all():
    texts = TEXTS[:120] + [edited(t, share, i) for i, (t, share) in enumerate(zip(TEXTS, [0.005, 0.01, 0.02, 0.04, 0.2] * 12))]
    sets = [shingles(t, "zh") for t in texts]
    every = {(i, j): jaccard(sets[i], sets[j]) for i in range(len(texts)) for j in range(i + 1, len(texts))}
    truth = {pair for pair, near in every.items() if near >= NEAR}
    found = set(near_duplicates(texts, "zh"))
    assert found <= truth and len(truth) > 40
    assert {pair for pair in truth if every[pair] > 0.6} <= found and len(found) >= 0.9 * len(truth)
    assert near_duplicates(texts, "zh", block=7) == near_duplicates(texts, "zh")
    assert near_duplicates(["one two three four five"] * 2 + ["six seven eight"], "en") == [(0, 1)]
    assert near_duplicates([], "zh") == []


def question(i: int, text: str, answers: list[str], **more) -> Question:
    return Question(question_id=f"q{i}", question=text, topic="t", answers=[
        Answer(answer_id=f"q{i}-{n}", text=a) for n, a in enumerate(answers)], **more)


def test_clusters_through_questions_and_through_answers():
    rows = [question(0, TEXTS[0], [TEXTS[10]]), question(1, TEXTS[1], [TEXTS[11]]), question(2, edited(TEXTS[0], 0.01, 1), [TEXTS[12]]),
            question(3, TEXTS[3], [TEXTS[13], edited(TEXTS[12], 0.01, 2)]), question(4, TEXTS[4], [TEXTS[14]])]
    assert clusters(rows, "zh") == ["q0", "q1", "q0", "q0", "q4"]
    assert clusters(rows[4:], "zh") == ["q4"]


def test_leakage_check():
    rows = [question(i, TEXTS[i], [TEXTS[i + 20]], cluster=c) for i, c in enumerate("aabc")]
    assert check_leakage({"train": rows[:2], "test": rows[2:]}) == 3
    with pytest.raises(LeakageError, match="1 clusters .* first a:"):
        check_leakage({"train": rows[:1], "test": rows[1:]})
