"""Six kinds of negatives: each is what it says, mixed by weight, seeded, and none is the anchor's own answer."""

from collections import Counter

import pytest

from empathy_lib import negatives, policy, reward_model
from empathy_lib.params import load_params
from empathy_lib.schema import Answer, Question, read_jsonl, read_questions
from empathy_lib import BUNDLED
from test_policy import base  # noqa: F401 (a fixture)


def questions(n=12):
    return [Question(question_id=str(i), question=f"问题{i}", topic="ab"[i % 2], answers=[
        Answer(answer_id=f"{i}-{k}", text=f"答{i}-{k}") for k in range(2)]) for i in range(n)]


def number(text):
    return int(text[1:].split("-")[0])


def test_random_and_same_topic():
    rows = negatives.triplets(questions(), {"same_topic": 1}, seed=3)
    assert len(rows) == 24 and rows == negatives.triplets(questions(), {"same_topic": 1}, seed=3)
    for row in rows:
        anchor = int(row["question_id"])
        assert row["kind"] == "same_topic" and anchor == number(row["positive"]) != number(row["negative"])
        assert anchor % 2 == number(row["negative"]) % 2
    rows = negatives.triplets(questions(), {"random": 1}, 3)
    assert any(number(r["negative"]) % 2 != int(r["question_id"]) % 2 for r in rows)
    assert all(number(r["negative"]) != int(r["question_id"]) for r in rows)
    alone = [q.model_copy(update={"topic": q.question_id}) for q in questions()]
    assert {r["kind"] for r in negatives.triplets(alone, {"same_topic": 1}, 3)} == {"random"}
    with pytest.raises(ValueError, match="1 questions"):
        negatives.triplets(questions()[:1], {"random": 1}, 1)


def test_kinds_are_drawn_by_weight_and_random_stands_in():
    replies = {kind: {str(i): [f"{kind}{i}"] for i in range(150)} for kind in ("hard", "base", "faulty")}
    weights = {"random": 2, "same_topic": 2, "hard": 1, "base": 1, "faulty": 1, "padded": 1}
    rows = negatives.triplets(questions(300), weights, 5, replies)
    counts = Counter(row["kind"] for row in rows)
    assert set(counts) == set(weights) == set(negatives.KINDS)
    for kind in ("base", "hard", "faulty"):  # half of the questions have such replies
        assert 20 < counts[kind] < 60 and all(r["negative"] == f"{kind}{r['question_id']}" for r in rows if r["kind"] == kind)
    padded = [row for row in rows if row["kind"] == "padded"]
    assert padded and all(r["positive"] in r["negative"] and len(r["negative"]) >= 3 * len(r["positive"]) for r in padded)
    assert {r["negative"].startswith(r["positive"]) for r in padded} == {True, False}
    assert not any(row["negative"] == row["positive"] for row in rows)
    assert {r["kind"] for r in negatives.triplets(questions(), {"faulty": 1, "padded": 1, "hard": 1}, 5)} == {"random"}


def test_collect_on_the_bundled_questions(base, tmp_path):  # noqa: F811
    train = [q for q in read_questions(BUNDLED / "questions.jsonl")[0] if q.split == "train"][:20]
    params = load_params("params/smoke.yaml", {"policy.max_seq_length": 64, "grpo.max_completion_tokens": 32})
    rows = reward_model.prepare(train, base, tmp_path, params)
    assert set(Counter(row["kind"] for row in rows)) <= set(negatives.KINDS)
    replies = negatives.collect(train, reward_model.load(tmp_path / "untrained"), base, tmp_path / "base_train.jsonl", params)
    own = {q.question_id: {a.text for a in q.answers} for q in train}
    assert replies["hard"] and all(not set(texts) & own[name] for name, texts in replies["hard"].items())
    said = {row["question_id"]: row["reply"] for row in read_jsonl(tmp_path / "base_train.jsonl")}
    assert len(said) > 5 and replies["base"] == {name: [text] for name, text in said.items()}
    faulty = {(row["question_id"], row["text"]) for row in read_jsonl(BUNDLED / "negatives.jsonl")}
    assert replies["faulty"] and all((name, text) in faulty for name, texts in replies["faulty"].items() for text in texts)
    assert set(replies["faulty"]) <= set(own) and "filler" not in replies


def test_padding_without_faulty_replies_of_their_own_borrows_those_to_the_training_questions(tmp_path):
    weights = {"reward_model.negatives": {"hard": 0, "base": 0}}
    zh, en = (negatives.collect(questions(), None, "", tmp_path / "x", load_params("params/smoke.yaml", weights | {"language": language}))
              for language in ("zh", "en"))
    lent = {text for texts in zh["filler"].values() for text in texts}
    test_ids = {q.question_id for q in read_questions(BUNDLED / "questions.jsonl")[0] if q.split == "test"}
    assert len(lent) > 200 and not set(zh["filler"]) & test_ids and not zh["faulty"] and not en["faulty"] and "filler" not in en
    rows = negatives.triplets(questions(), {"padded": 1}, 1, zh)
    assert all(row["kind"] == "padded" and any(text in row["negative"] for text in lent) for row in rows)
    assert {row["kind"] for row in negatives.triplets(questions(), {"padded": 1}, 1, en)} == {"random"}


def test_a_finished_file_is_not_made_again(base, tmp_path, monkeypatch):  # noqa: F811
    params = load_params("params/smoke.yaml", {"policy.max_seq_length": 64, "grpo.max_completion_tokens": 32})
    first = negatives.base_replies(questions(), base, tmp_path / "base.jsonl", params)
    rows = reward_model.prepare(questions(), base, tmp_path, load_params("params/smoke.yaml", {"reward_model.negatives": {"base": 0}}))
    monkeypatch.setattr(policy, "load", lambda *a, **k: pytest.fail("generated again"))
    monkeypatch.setattr(negatives, "mine", lambda *a, **k: pytest.fail("mined again"))
    assert negatives.base_replies(questions(), base, tmp_path / "base.jsonl", params) == first
    assert reward_model.prepare(questions(), base, tmp_path, params) == rows
