"""The encoder: Eq. 5, training that separates and repeats, one tower and two, and how its ranking is measured."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from empathy_lib import negatives, reward_model
from empathy_lib.params import load_params
from empathy_lib.schema import Answer, Question

WORDS = "早饭 夜班 考试 孩子 房租 分手 婆婆 失眠 辞职 宿舍 医院 同桌".split()
DATA = [Question(question_id=w, question=f"{w}的事压着我，" * 3, topic="x", answers=[
    Answer(answer_id=w, text=f"说到{w}，你心里不好受吧。")]) for w in WORDS]
ROWS = negatives.triplets(DATA, {"random": 1}, 9)


def params_of(**more):
    return load_params("params/smoke.yaml", {"reward_model.epochs": 40, "reward_model.batch_size": 6} | {
        f"reward_model.{key}": value for key, value in more.items()})


def trained(folder, params):
    folder.mkdir()
    rows = negatives.triplets(DATA, {"random": 1}, params.seed)
    return reward_model.train(rows, ROWS, folder, params)


def judge(encoder):
    return lambda questions, answers: reward_model.similarity(encoder, questions, answers)


def test_triplet_loss_is_eq_5():
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss

    a, p, n = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    d = [1 - torch.nn.functional.cosine_similarity(a, x) for x in (p, n)]
    by_hand = torch.clamp(d[0] - d[1] + 0.3, min=0).mean()
    library = TripletLoss(torch.nn.Identity(), TripletDistanceMetric.COSINE, triplet_margin=0.3)
    assert torch.allclose(by_hand, library.compute_loss_from_embeddings([a, p, n], None), atol=1e-6)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "one"
    log = trained(folder, params_of())
    return folder, log


def test_training_separates_and_is_repeatable(one, tmp_path):
    folder, log = one
    trained(tmp_path / "two", params_of())
    losses = [row["loss"] for row in log if "loss" in row]
    assert losses[-1] < 0.2 * losses[0]
    weights = [sorted((f / "model").rglob("*.safetensors")) for f in (folder, tmp_path / "two")]
    assert weights[0] and [w.read_bytes() for w in weights[0]] == [w.read_bytes() for w in weights[1]]
    before, after = (reward_model.rank_pairs(judge(reward_model.load(folder / name)), ROWS) for name in ("untrained", "model"))
    assert after["value"] > 0.9 and after["auc"] > before["auc"] and after["n"] == len(ROWS)


def test_the_best_checkpoint_on_dev_is_kept(tmp_path):
    """On a dev split turned round, which training makes ever worse: the best look is the first."""
    wrong = [row | {"positive": row["negative"], "negative": row["positive"]} for row in ROWS]
    log = reward_model.train(negatives.triplets(DATA, {"random": 1}, 42), wrong, tmp_path, params_of())
    looks = {row["step"]: row["eval_loss"] for row in log if "eval_loss" in row}
    assert len(looks) > 5 and min(looks, key=looks.get) < max(looks)
    rows = {c: [row[c] for row in wrong] for c in ("anchor", "positive", "negative")}
    encoder = reward_model.load(tmp_path / "model")
    d = [1 - reward_model.similarity(encoder, rows["anchor"], rows[c]) for c in ("positive", "negative")]
    margin = params_of().reward_model.margin
    assert np.maximum(0, d[0] - d[1] + margin).mean() == pytest.approx(min(looks.values()), abs=1e-5)


def test_two_towers_do_not_take_a_copied_question_for_its_answer(one, tmp_path):
    trained(tmp_path / "two", params_of(encoder="two_towers"))
    encoder, asked = reward_model.load(tmp_path / "two" / "model"), [q.question for q in DATA]
    assert reward_model.similarity(reward_model.load(one[0] / "model"), asked, asked) == pytest.approx(1, abs=1e-5)
    assert reward_model.similarity(encoder, asked, asked).max() < 0.9
    assert reward_model.rank_pairs(judge(encoder), negatives.triplets(DATA, {"random": 1}, params_of().seed))["value"] > 0.9


def test_texts_without_an_embedding_have_cosine_0(one):
    encoder = reward_model.load(one[0] / "model")
    assert reward_model.similarity(encoder, ["夜班", " ", "夜班"], ["", "夜班", "夜班"]).round(5).tolist() == [0, 0, 1]


def test_rank_pairs_against_scikit_learn():
    rng = np.random.default_rng(1)
    own, other = rng.normal(0.2, 0.3, 80).round(1), rng.normal(0, 0.3, 80).round(1)  # rounded: with ties
    rows = [{"anchor": str(i), "positive": f"p{i}", "negative": f"n{i}", "question_id": str(i // 2)} for i in range(80)]

    def known(questions, answers):
        return np.array([(own if a[0] == "p" else other)[int(a[1:])] for a in answers])

    figures = reward_model.rank_pairs(known, rows)
    assert figures["auc"] == pytest.approx(roc_auc_score(np.r_[np.ones(80), np.zeros(80)], np.r_[own, other]))
    assert figures["value"] == pytest.approx((own > other).mean()) and figures["n"] == 80
    for low, high, value in ((*figures["ci95"], figures["value"]), (*figures["auc_ci95"], figures["auc"])):
        assert 0 < low < value < high < 1 and high - low < 0.4


def test_tfidf_is_finite_for_unknown_words():
    assert np.all(np.isfinite(reward_model.tfidf_similarity([q.question for q in DATA], ["夜班", "zzz"], ["上夜班", ""])))
