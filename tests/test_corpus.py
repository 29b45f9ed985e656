"""The corpus that ships with the kit, and the bundled teacher."""

from collections import Counter

import pytest

from empathy_lib import BUNDLED, teacher
from empathy_lib.coe import FIELDS, CoE, parse, render
from empathy_lib.params import View, load_params
from empathy_lib.schema import read_jsonl, read_questions
from empathy_lib.view import short, short_chain


@pytest.fixture(scope="module")
def questions():
    questions, rejected = read_questions(BUNDLED / "questions.jsonl")
    assert not rejected
    return questions


def test_size_and_splits(questions):
    assert len(questions) >= 60 and min(len(q.answers) for q in questions) >= 2
    by_split = Counter(q.split for q in questions)
    assert set(by_split) == {"train", "dev", "test"}
    texts = [q.question for q in questions] + [a.text for q in questions for a in q.answers]
    assert len(set(texts)) == len(texts)


def test_chains_are_well_formed_and_for_training_questions_only(questions):
    chains = read_jsonl(BUNDLED / "coe.jsonl")
    train = {q.question_id for q in questions if q.split == "train"}
    assert len(chains) >= 48 and len({c["question_id"] for c in chains}) == len(chains)
    assert {c["question_id"] for c in chains} <= train
    for c in chains:
        chain = CoE(**{name: c[name] for name in FIELDS})
        assert parse(render(chain)) == chain


def test_bundled_teacher(questions):
    def ask(train, n, seed, **more):
        return teacher.bundled_chains(train, load_params("params/smoke.yaml", {"coe.n_chains": n, "seed": seed} | more))

    train = [q for q in questions if q.split == "train"]
    chains, rejected = ask(train, 20, 1)
    assert len(chains) == 20 and not rejected
    assert all(c["own_question"] and c["decision"] == "unreviewed" and c["reviewers"] == [] for c in chains)
    assert chains == ask(train, 20, 1)[0] != ask(train, 20, 2)[0]
    by_id = {q.question_id: q.question for q in train}
    assert all(c["question"] == by_id[c["question_id"]] for c in chains)
    foreign = [q.model_copy(update={"question_id": f"x{i}"}) for i, q in enumerate(train[:5])]
    assert len(ask(foreign, 10, 1)[0]) == 10 and not any(c["own_question"] for c in ask(foreign, 10, 1)[0])
    fewer = ask(train, 20, 1, **{"coe.layers": ["L1", "L4"]})[0]
    assert all(c["L1"] and c["L4"] and not c["L2"] and not c["L3"] for c in fewer)


def test_short_view():
    text = "第一句。第二句！“第三句？”后面还有很多很多字。"
    assert short(text, None) == short(text, 99) == text
    assert short(text, 8) == "第一句。第二句！"
    assert short(text, 2) == "第一句。"  # at least one whole sentence
    assert short(text, 14) == "第一句。第二句！“第三句？”"
    assert short("没有句号的一长串" * 9, 5) == "没有句号的一长串" * 9
    chain = CoE(text, text, text, text, text)
    assert short_chain(chain, View(question_chars=1, layer_chars=2, answer_chars=8)) == \
        CoE(*["第一句。"] * 4, answer="第一句。第二句！")
