"""Statistics of rankings against figures by hand, SciPy and krippendorff; the simulated studies against a bootstrap."""

import json

import krippendorff
import numpy as np
import pytest
from scipy.stats import friedmanchisquare, kendalltau, rankdata

from empathy_lib.metrics import bootstrap
from empathy_lib.ranking import _utilities, agreement_of, kendall_w, mean_ranks, plan, study, summary, wins
from empathy_lib.ratings import rate

SYSTEMS = ("a", "b", "c", "d")


def rating(question, rater, ranks, dimension="overall", kind="human"):
    given = dict(zip(SYSTEMS, ranks))
    return rate({"question_id": question, "answers": dict.fromkeys(given, "文")}, dimension, rater, given, kind)


@pytest.mark.parametrize("ranks, k, shares", [
    ([1, 2, 3], 1, [1, 0, 0]), ([1, 2, 3], 2, [1, 1, 0]), ([1, 1, 3], 1, [1 / 2, 1 / 2, 0]), ([1, 1, 3], 2, [1, 1, 0]),
    ([1, 2, 2], 1, [1, 0, 0]), ([1, 2, 2], 2, [1, 1 / 2, 1 / 2]), ([2, 2, 2], 1, [1 / 3] * 3), ([1, 1, 1], 2, [2 / 3] * 3),
    ([1, 1, 1, 4], 2, [2 / 3, 2 / 3, 2 / 3, 0]), ([3, 1, 3, 3], 3, [2 / 3, 1, 2 / 3, 2 / 3]), ([1, 2], 3, [1, 1])])
def test_a_tied_group_shares_its_places(ranks, k, shares):
    assert wins(rankdata(ranks), k).tolist() == pytest.approx(shares)
    assert sum(shares) == pytest.approx(min(k, len(ranks)))


def test_a_summary_by_hand():
    ratings = [rating("q1", "r1", [1, 2, 3]), rating("q1", "r2", [1, 3, 2]), rating("q2", "r1", [2, 1, 3]),
               rating("q3", "r1", [1, 1, 2]), rating("q3", "r1", [1, 1, 3])]  # r1 ranked q3 twice, alike
    result = summary(ratings)
    value = {s: {name: figure["value"] for name, figure in of.items()} for s, of in result["systems"].items()}
    assert value["a"] == pytest.approx({"win@1": 2.5 / 4, "win@2": 1, "win@3": 1, "mean_rank": (1 + 1 + 2 + 1.5) / 4})
    assert value["b"] == pytest.approx({"win@1": 1.5 / 4, "win@2": 3 / 4, "win@3": 1, "mean_rank": (2 + 3 + 1 + 1.5) / 4})
    assert value["c"] == pytest.approx({"win@1": 0, "win@2": 1 / 4, "win@3": 1, "mean_rank": 11 / 4})
    assert result["systems"]["a"]["win@1"]["ci95"] == bootstrap([[1, 1], [0], [0.5]], 0)
    assert result["chance"] == pytest.approx({"win@1": 1 / 3, "win@2": 2 / 3, "win@3": 1, "mean_rank": 2})
    assert result["n"] == {"questions": 3, "raters": 2, "ratings": 4, "systems": 3} and result["ties"] == 1 / 4
    assert result["kendall_w"] == {"value": pytest.approx(0.75), "chance": 0.5, "n": 1, "reason": None, "ci95": None}  # only q1
    assert (result["dimension"], result["kind"]) == ("overall", "human") and json.loads(json.dumps(result)) == result
    assert mean_ranks(ratings) == {"q1": {"a": 1, "b": 2.5, "c": 2.5}, "q2": {"a": 2, "b": 1, "c": 3},
                                   "q3": {"a": 1.5, "b": 1.5, "c": 3}}


def test_six_systems_chance_is_the_paper_s():
    item = {"question_id": "q", "answers": dict.fromkeys("abcdef", "文")}
    chance = summary([rate(item, "overall", "r", dict(zip("abcdef", (1, 2, 3, 4, 5, 6))))])["chance"]
    assert list(chance) == ["win@1", "win@2", "win@3", "mean_rank"]
    assert [round(value, 3) for value in chance.values()] == [.167, .333, .5, 3.5]


def test_kendall_s_w():
    # three judges and six objects; Siegel & Castellan's example of judged applicants: W = .16
    applicants = np.array([[1, 6, 3, 2, 5, 4], [1, 5, 6, 4, 2, 3], [6, 3, 2, 5, 4, 1]], float)
    assert kendall_w(applicants) == pytest.approx(0.162, abs=5e-4)
    drawn = np.random.default_rng(0)
    for _ in range(20):  # with ties: W = chi² / (m (n − 1)), chi² as SciPy corrects it
        ranks = rankdata(drawn.integers(1, 5, (6, 5)), axis=1)
        assert kendall_w(ranks) == pytest.approx(friedmanchisquare(*ranks.T).statistic / (6 * 4))
    assert kendall_w(np.array([[1.0, 2, 3], [1, 2, 3]])) == 1 and kendall_w(np.full((3, 4), 2.5)) is None
    guesses = np.stack([drawn.permuted(np.tile(np.arange(1.0, 7), (4, 1)), axis=1) for _ in range(2000)])
    assert np.mean([kendall_w(ranks) for ranks in guesses]) == pytest.approx(1 / 4, abs=0.01)  # what "chance" says


def test_alpha_is_krippendorff_s_and_single_ratings_are_no_evidence():
    rows = [rating(f"q{q}", f"r{r}", ranks) for q, r, ranks in (
        (1, 1, [1, 2, 3, 4]), (1, 2, [1, 3, 2, 4]), (1, 3, [2, 1, 3, 4]), (2, 1, [4, 3, 2, 1]), (2, 3, [4, 2, 2, 1]),
        (3, 2, [1, 2, 3, 4]))]
    blank = [np.nan] * 4
    table = [[1, 2, 3, 4, 4, 3, 2, 1], [1, 3, 2, 4, *blank], [2, 1, 3, 4, 4, 2.5, 2.5, 1]]
    assert summary(rows)["alpha"] == {"value": pytest.approx(krippendorff.alpha(table, level_of_measurement="ordinal")),
                                      "n": 2, "reason": None}
    same = [rating(f"q{q}", f"r{r}", [1, 2, 3, 4]) for q in range(3) for r in range(2)]
    assert summary(same)["alpha"]["value"] == summary(same)["kendall_w"]["value"] == 1
    alone = [rating("q1", "r1", [1, 2, 3])]
    level = [rating(q, r, [1, 1, 1]) for q in ("q1", "q2") for r in ("r1", "r2")]
    for ratings, reason in ((alone, "no question has two raters"), (level, "the raters tie all systems")):
        result = summary(ratings)
        assert result["alpha"]["value"] is result["kendall_w"]["value"] is None
        assert result["alpha"]["reason"] == result["kendall_w"]["reason"] == reason
    assert summary(alone)["systems"]["a"]["win@1"] == {"value": 1, "ci95": None}  # one question has no interval


GOOD = [rating("q1", "r1", [1, 2, 3]), rating("q2", "r1", [1, 2, 3])]


@pytest.mark.parametrize("ratings, why", [
    ([], "no ratings"),
    ([*GOOD, rating("q2", "r9", [1, 2, 3, 4])], "unknown system d.*q2 by r9"),
    ([*GOOD, rating("q2", "r9", [1, 2])], "no rank of c.*q2 by r9"),
    ([rating("q1", "r1", [1, 2]), rating("q1", "r1", [1, 2], "fluency")], "more than one dimension .fluency, overall"),
    ([rating("q1", "r1", [1, 2]), rating("q1", "judge:m", [1, 2], kind="llm")], "more than one kind .human, llm")])
def test_ratings_that_do_not_belong_together(ratings, why):
    for statistic in (summary, mean_ranks, lambda r: agreement_of({}, r)):
        with pytest.raises(ValueError, match=why):
            statistic(ratings)


def test_agreement_of_a_score():
    ratings = [rating("q1", "r1", [1, 2, 3]), rating("q1", "r2", [2, 1, 3]), rating("q2", "r1", [1, 2, 3]),
               rating("q3", "r1", [3, 2, 1]), rating("q4", "r1", [1, 1, 1])]
    scores = {"q1": {"a": .9, "b": .5, "c": .1}, "q2": {"a": .3, "b": .2, "c": .1}, "q3": {"a": .3, "b": .2, "c": .1, "x": 9},
              "q4": {"a": 1, "b": 2, "c": 3}, "q9": {}}
    tied = kendalltau([3, 2, 1], [-1.5, -1.5, -3]).statistic  # two raters tie a and b on q1
    assert agreement_of(scores, ratings) == {"value": pytest.approx((tied + 1 - 1) / 3), "n": 3, "all_equal": 1, "reason": None,
                                             "ci95": bootstrap([[tied], [1], [-1]], 0)}
    assert agreement_of({"q4": scores["q4"]}, ratings)["reason"].endswith("all equal")
    assert agreement_of({"q9": {}}, ratings) == {"value": None, "n": 0, "all_equal": 0, "ci95": None,
                                                 "reason": "no question was both scored and ranked"}
    with pytest.raises(ValueError, match="question q2 has no score of b, c"):
        agreement_of({"q2": {"a": 1}}, ratings)


@pytest.mark.parametrize("n_systems, win, between", [(6, .443, .5), (6, 1 / 6, .2), (3, .7, 0), (2, .6, 1)])
def test_simulated_raters_win_and_agree_as_told(n_systems, win, between):
    drawn = _utilities(n_systems, win, 20_000, 2, between, np.random.default_rng(1))
    assert (drawn.argmax(-1) == 0).mean() == pytest.approx(win, abs=0.012)
    assert np.corrcoef(drawn[:, 0, 1], drawn[:, 1, 1])[0, 1] == pytest.approx(between, abs=0.025)


def test_the_width_of_a_study_is_the_bootstrap_s_and_its_interval_covers():
    widths = [np.subtract(*bootstrap(group.reshape(100, 5), 0)[::-1]) for group in np.split(
        _utilities(6, .443, 1000, 5, .5, np.random.default_rng(3)).argmax(-1) == 0, 10)]
    result = study(n_raters=5, seed=1)
    assert np.mean(widths) == pytest.approx(result["width"], rel=0.05)
    assert 0.9 <= result["covered"] <= 0.99 and result["ratings"] == 500 and study(n_raters=5, seed=1) == result


def test_the_paper_s_study_as_the_docstring_has_it():
    all_of_them, one_each = study(), study(n_raters=1)
    for figure in (all_of_them, one_each):
        assert f"{figure['width']:.3f}".lstrip("0") in study.__doc__
    assert all_of_them["kendall_w"] == pytest.approx(0.5, abs=0.03) and one_each["kendall_w"] is None


def test_a_plan_reaches_its_width_and_not_with_fewer():
    rows = plan(0.15)
    assert [row["raters_per_question"] for row in rows] == [1, 2, 3, 5, 10, 20]
    questions = [row["questions"] for row in rows]
    assert questions == sorted(questions, reverse=True)
    assert [row["ratings"] for row in rows] == [row["questions"] * row["raters_per_question"] for row in rows]
    for row in rows[::2]:
        reached = study(n_questions=row["questions"], n_raters=row["raters_per_question"], rounds=100)["width"]
        assert reached == pytest.approx(0.15, rel=0.03)
    assert rows[0]["questions"] == pytest.approx(4 * 1.96**2 * .443 * .557 / .15**2, rel=0.02)  # one rater: binomial


@pytest.mark.parametrize("call", [
    lambda: study(win_at_1=.1), lambda: study(win_at_1=1.0), lambda: study(between=1.5), lambda: study(n_systems=1),
    lambda: study(n_raters=0), lambda: study(n_questions=1), lambda: plan(0.0), lambda: plan(0.1, raters=(0, 1))])
def test_impossible_studies(call):
    with pytest.raises(ValueError, match="needs|a width"):
        call()
