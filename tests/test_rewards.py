"""The reward functions that GRPO optimises, on an encoder with known vectors."""

import dataclasses

import numpy as np
import pytest

from empathy_lib import reward_model, rewards
from empathy_lib.coe import render
from empathy_lib.params import load_params


class Words:
    """An encoder with known vectors: two texts are as near as the characters of 累 and 困 they share."""

    def encode_query(self, texts, normalize_embeddings, show_progress_bar):
        v = np.array([[t.count("累"), t.count("困"), 1e-9] for t in texts], dtype=float)
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    encode_document = encode_query


def test_answer_reward_against_the_threshold(chain):
    good = render(dataclasses.replace(chain, answer="累"))
    half = render(dataclasses.replace(chain, answer="累困"))
    broken = good.replace("<L3>", "")
    texts, asked = [good, half, broken, "累", "", render(dataclasses.replace(chain, answer="困"))], ["累"] * 6
    for gated, expected in ((False, [1, 1, 1, 0, 0, 0]), (True, [1, 1, 0, 0, 0, 0])):
        assert rewards.answer_reward(Words(), 0.5, gated)(completions=texts, question=asked, prompts=asked) == expected
    assert rewards.answer_reward(Words(), 0.8)(completions=texts, question=asked)[:2] == [1, 0]  # cos = .707
    soft = rewards.answer_reward(Words(), 0.5, soft=True)(completions=texts, question=asked)
    assert soft == pytest.approx([1, 0.5**0.5, 1, 0, 0, 0])
    assert rewards.answer_reward(Words(), 0.8, soft=True)(completions=texts, question=asked)[1] == 0
    params = load_params("params/smoke.yaml")
    total = np.sum([f(completions=texts, question=asked) for f in rewards.reward_functions(Words(), 0.5, params)], axis=0)
    assert total.tolist() == [2, 2, 1, 0, 0, 1]
    soft = load_params("params/smoke.yaml", {"grpo.format": "soft"})
    total = np.sum([f(completions=texts, question=asked) for f in rewards.reward_functions(Words(), 0.5, soft)], axis=0)
    assert total == pytest.approx([2, 2, 1 + 11 / 12, 0, 0, 1])


def test_no_answer_earns_nothing_even_below_a_negative_threshold():
    r_answer = rewards.answer_reward(Words(), -1.0)
    assert r_answer(completions=["<answer> </answer>", "<answer>困</answer>", "累"], question=["累"] * 3) == [0, 1, 0]


def test_threshold_is_a_number_or_the_best_on_dev():
    recorded = {"best_threshold": {"T": 0.42}}
    for value, expected in (("auto", 0.42), (0.3, 0.3), (-0.5, -0.5)):
        assert rewards.threshold(load_params("params/smoke.yaml", {"grpo.threshold": value}), recorded) == expected


def test_verdicts_and_the_best_threshold():
    own, other = np.array([0.9, 0.8, 0.3]), np.array([0.5, 0.2, 0.1])
    assert reward_model.verdicts(own, other, 0.4) == {"T": 0.4, "precision": 2 / 3, "recall": 2 / 3, "f1": 4 / 6}
    assert reward_model.verdicts(own, other, 0.95)["precision"] is None
    assert reward_model.best_threshold(own, other) == pytest.approx(0.25)  # 3 of 3 for one mistake: F1 6/7
    from sklearn.metrics import f1_score
    rng = np.random.default_rng(0)
    own, other = rng.normal(0.3, 0.2, 60).clip(-1, 1), rng.normal(0, 0.2, 60).clip(-1, 1)
    truth, scores = np.r_[np.ones(60), np.zeros(60)], np.r_[own, other]
    best = reward_model.verdicts(own, other, reward_model.best_threshold(own, other))
    assert best["f1"] == pytest.approx(max(f1_score(truth, scores > t) for t in np.linspace(-1, 1, 4001)), abs=1e-9)
    assert best["f1"] == pytest.approx(f1_score(truth, scores > best["T"]))
