import dataclasses

import numpy as np
import pytest
import torch

from empathy_lib import reward_model, rewards
from empathy_lib.coe import render
from empathy_lib.params import load_params
from empathy_lib.schema import Answer, Question


class Words:
    """An encoder with known vectors: two texts are as near as the characters of 累 and 困 they share."""

    def encode(self, texts, normalize_embeddings, show_progress_bar):
        v = np.array([[t.count("累"), t.count("困"), 1e-9] for t in texts], dtype=float)
        return v / np.linalg.norm(v, axis=1, keepdims=True)


def questions(n=12):
    return [Question(question_id=str(i), question=f"问题{i}", topic="ab"[i % 2], answers=[
        Answer(answer_id=f"{i}-{k}", text=f"答{i}-{k}") for k in range(2)]) for i in range(n)]


def test_answer_reward_against_the_threshold(chain):
    good = render(dataclasses.replace(chain, answer="累"))
    half = render(dataclasses.replace(chain, answer="累困"))
    broken = good.replace("<L3>", "")
    texts, asked = [good, half, broken, "累", "", render(dataclasses.replace(chain, answer="困"))], ["累"] * 6
    for gated, expected in ((False, [1, 1, 1, 0, 0, 0]), (True, [1, 1, 0, 0, 0, 0])):
        assert rewards.answer_reward(Words(), 0.5, gated)(completions=texts, question=asked, prompts=asked) == expected
    assert rewards.answer_reward(Words(), 0.8, False)(completions=texts, question=asked)[:2] == [1, 0]  # cos = .707
    params = load_params("params/smoke.yaml", {"grpo.threshold": 0.5})
    total = np.sum([f(completions=texts, question=asked) for f in rewards.reward_functions(Words(), params)], axis=0)
    assert total.tolist() == [2, 2, 1, 0, 0, 1]


def test_similarity_of_empty_texts_is_zero():
    assert reward_model.similarity(Words(), ["累", " ", "累"], ["", "累", "累"]).tolist() == [0, 0, 1]


def test_triplets():
    rows = reward_model.triplets(questions(), 1.0, seed=3)
    assert len(rows) == 24 and rows == reward_model.triplets(questions(), 1.0, seed=3)
    for row in rows:
        anchor, positive, negative = (int("".join(filter(str.isdigit, row[k].split("-")[0]))) for k in ("anchor", "positive", "negative"))
        assert anchor == positive != negative and anchor % 2 == negative % 2  # another question of the same topic
    assert any((int(r["negative"][1:].split("-")[0]) - int(r["anchor"][2:])) % 2 for r in reward_model.triplets(questions(), 0.0, 3))
    with pytest.raises(ValueError, match="1 questions"):
        reward_model.triplets(questions()[:1], 0.5, 1)


def test_triplet_loss_is_eq_5():
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss

    a, p, n = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    d = [1 - torch.nn.functional.cosine_similarity(a, x) for x in (p, n)]
    by_hand = torch.clamp(d[0] - d[1] + 0.3, min=0).mean()
    library = TripletLoss(torch.nn.Identity(), TripletDistanceMetric.COSINE, triplet_margin=0.3)
    assert torch.allclose(by_hand, library.compute_loss_from_embeddings([a, p, n], None), atol=1e-6)


def test_training_separates_and_is_repeatable(tmp_path):
    words = "早饭 夜班 考试 孩子 房租 分手 婆婆 失眠 辞职 宿舍 医院 同桌".split()
    data = [Question(question_id=w, question=f"{w}的事压着我，" * 3, topic="x", answers=[
        Answer(answer_id=w, text=f"说到{w}，你心里不好受吧。")]) for w in words]
    p = load_params("params/smoke.yaml", {"reward_model.epochs": 40, "reward_model.batch_size": 6})
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        log = reward_model.train(data, tmp_path / name, p)
    assert log[-1]["loss"] < 0.2 * log[0]["loss"]
    weights = [sorted((tmp_path / name / "model").rglob("*.safetensors")) for name in ("one", "two")]
    assert weights[0] and [w.read_bytes() for w in weights[0]] == [w.read_bytes() for w in weights[1]]
    rows = reward_model.triplets(data, 0.0, 9)
    trained, untrained = (reward_model.load(tmp_path / "one" / name) for name in ("model", "untrained"))
    def accuracy(e):
        return reward_model.pair_accuracy(lambda q, a: reward_model.similarity(e, q, a), rows)
    assert accuracy(trained)["value"] > 0.9 and accuracy(trained)["n"] == len(rows)
    margin = [np.mean(reward_model.similarity(e, [r["anchor"] for r in rows], [r["positive"] for r in rows])
                      - reward_model.similarity(e, [r["anchor"] for r in rows], [r["negative"] for r in rows])) for e in (untrained, trained)]
    assert margin[1] > margin[0] + 0.1
    low, high = accuracy(trained)["ci95"]
    assert 0.5 < low < accuracy(trained)["value"] < high <= 1
    assert np.all(np.isfinite(reward_model.tfidf_similarity([r["anchor"] for r in rows], ["夜班"], ["上夜班"])))
