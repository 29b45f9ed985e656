"""Statistics of rankings (``ratings.py``), one dimension and one kind of rater at a time, and how large a study must be.

Ties: the ranks of a rating are first made average ranks (1, 1, 3 and 1, 1, 2 are both 1.5, 1.5, 3). A tied group over the
places a to b gives each member the share of these places that are ≤ K, so that Win@K sums to K over the systems."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np

from empathy_lib.metrics import bootstrap
from empathy_lib.ratings import latest

PLACES = (1, 2, 3)
Z = 1.959964  # of a 95 % interval


def summary(ratings: Iterable[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """``systems``: ``win@1``, ``win@2``, ``win@3`` (0–1) and ``mean_rank`` of each, as ``{"value", "ci95"}``: means over the
    ratings, with a bootstrap over questions, all ratings of a question together (None with a single question). The raters
    are held fixed: the interval is about other questions, not other raters. ``chance``: what guessing gives.
    ``kendall_w``: mean over the questions that two or more raters ranked; m raters who guess have 1/m (``chance``).
    ``alpha``: Krippendorff's, ordinal, its units the (question, system) pairs. ``n``: questions, raters, ratings and
    systems; ``ties``: share of ratings with a tie. Of a rater's ratings of a question the last counts.

    ValueError without ratings, with several dimensions or kinds, or where a rating is not of the systems of the rest."""
    systems, tables, made = _tables(ratings)
    stacked = np.concatenate([np.stack(list(raters.values())) for raters in tables.values()])
    figures: dict[str, dict[str, Any]] = {system: {} for system in systems}
    measures = {f"win@{k}": lambda ranks, k=k: wins(ranks, k) for k in PLACES} | {"mean_rank": lambda ranks: ranks}
    for name, measure in measures.items():
        groups = [measure(np.stack(list(raters.values()))) for raters in tables.values()]
        for column, system in enumerate(systems):
            values = [group[:, column] for group in groups]
            figures[system][name] = {"value": float(np.mean(np.concatenate(values))),
                                     "ci95": bootstrap(values, seed) if len(values) > 1 else None}
    n = len(systems)
    return {"dimension": made[0]["dimension"], "kind": made[0]["kind"], "systems": figures,
            "chance": {f"win@{k}": min(k / n, 1.0) for k in PLACES} | {"mean_rank": (n + 1) / 2},
            "kendall_w": _mean_w(tables, seed), "alpha": _alpha(tables),
            "n": {"questions": len(tables), "raters": len({r["rater"] for r in made}), "ratings": len(made), "systems": n},
            "ties": float(np.mean([len(set(row)) < n for row in stacked.tolist()]))}


def wins(ranks: np.ndarray, k: int) -> np.ndarray:
    """How far each system is among the first ``k``, 0 to 1, from average ranks, shape ``[..., systems]``."""
    tied = (ranks[..., :, None] == ranks[..., None, :]).sum(-1)  # members of the group, itself included
    first = ranks - (tied - 1) / 2
    return np.clip(k + 1 - first, 0, tied) / tied


def kendall_w(ranks: np.ndarray) -> float | None:
    """Kendall's coefficient of concordance of average ranks ``[raters, systems]``, corrected for ties:
    ``12 S / (m² (n³ − n) − m Σ(t³ − t))``; None where every rater ties everything."""
    m, n = ranks.shape
    spread = ((ranks.sum(axis=0) - m * (n + 1) / 2) ** 2).sum()
    ties = sum((t**3 - t for row in ranks.tolist() for t in Counter(row).values()))
    most = m**2 * (n**3 - n) - m * ties
    return float(12 * spread / most) if most else None


def mean_ranks(ratings: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The mean over raters of the average ranks: ``{question_id: {system: rank}}``; errors as in ``summary``."""
    systems, tables, _ = _tables(ratings)
    return {name: dict(zip(systems, np.mean(list(raters.values()), axis=0).tolist())) for name, raters in tables.items()}


def agreement_of(scores: Mapping[str, Mapping[str, float]], ratings: Iterable[Mapping[str, Any]],
                 seed: int = 0) -> dict[str, Any]:
    """How far a score (higher is better; a metric, the reward) orders the systems as the raters do: Kendall's tau-b with
    the mean rank over raters, the mean over the ``n`` questions where it is defined, in [-1, 1], with a bootstrap over
    them. ``all_equal``: questions where the score or the raters tell no two systems apart. Questions without a score are
    left out; ValueError where a rated system has none, and as in ``summary``."""
    from scipy.stats import kendalltau
    taus, both = [], 0
    for name, ranks in mean_ranks(ratings).items():
        if name not in scores:
            continue
        if missing := sorted(set(ranks) - set(scores[name])):
            raise ValueError(f"question {name} has no score of {', '.join(missing)}, which the raters ranked")
        both += 1
        tau = kendalltau([scores[name][system] for system in ranks], [-rank for rank in ranks.values()]).statistic
        taus += [] if np.isnan(tau) else [float(tau)]
    reason = None if taus else "no question was both scored and ranked" if not both else \
        "on every question the score or the raters' ranks are all equal"
    return {"value": float(np.mean(taus)) if taus else None, "n": len(taus), "all_equal": both - len(taus), "reason": reason,
            "ci95": bootstrap([[tau] for tau in taus], seed) if len(taus) > 1 else None}


def study(n_systems: int = 6, win_at_1: float = 0.443, n_questions: int = 100, n_raters: int = 20, between: float = 0.5,
          rounds: int = 200, seed: int = 0) -> dict[str, Any]:
    """What a study of this size can tell, simulated ``rounds`` times: ``width``, the expected width of the 95 % interval
    (over questions) of the best system's Win@1; ``covered``, how often the interval holds the true one; ``kendall_w``, how
    far such raters agree (None with one); ``ratings``. ``n_raters`` is the number who rank each question.

    Model: a rater's utility of a system's answer is ``[best] δ + √between · a + √(1 − between) · e``, ``a`` normal noise of
    the answer, shared by its raters, ``e`` of each rater and answer; the highest utility wins, δ is such that the best
    system wins with ``win_at_1``, the others are equals. A taste that a rater keeps over all questions is not in it.

    The paper had 20 raters, 100 questions and a best Win@1 of .443; whether each rater ranked all 100 or each question had
    some of the raters is not stated. By this model, ``between`` .5: width .112 if all 20 ranked every question, and
    .195 if one of the 20 ranked each."""
    rng = np.random.default_rng(seed)
    if n_questions < 2 or rounds < 1:
        raise ValueError(f"a study needs two questions and a round, got {n_questions} and {rounds}")
    utilities = _utilities(n_systems, win_at_1, rounds * n_questions, n_raters, between, rng)
    means = (utilities.argmax(-1) == 0).mean(axis=1).reshape(rounds, n_questions)
    half = Z * means.std(axis=1, ddof=1) / n_questions**0.5
    places = n_systems - utilities[:2000].argsort(-1).argsort(-1)
    return {"questions": n_questions, "raters_per_question": n_raters, "ratings": n_questions * n_raters,
            "width": float(2 * half.mean()), "covered": float((np.abs(means.mean(axis=1) - win_at_1) <= half).mean()),
            "kendall_w": float(np.mean([kendall_w(ranks) for ranks in places])) if n_raters > 1 else None}


def plan(width: float, n_systems: int = 6, win_at_1: float = 0.443, raters: Sequence[int] = (1, 2, 3, 5, 10, 20),
         between: float = 0.5, seed: int = 0) -> list[dict[str, int]]:
    """The fewest questions whose 95 % interval of the best system's Win@1 is expected to be ``width`` wide at most, for
    several numbers of raters a question, a row each; the model of ``study``, on 20,000 simulated questions."""
    if not 0 < width < 1 or min(raters) < 1:
        raise ValueError(f"a width lies between 0 and 1 and a question needs a rater, got {width} and {list(raters)}")
    utilities = _utilities(n_systems, win_at_1, 20_000, max(raters), between, np.random.default_rng(seed))
    won = utilities.argmax(-1) == 0
    needed = {m: max(2, ceil((2 * Z / width) ** 2 * won[:, :m].mean(axis=1).var())) for m in raters}
    return [{"raters_per_question": m, "questions": n, "ratings": m * n} for m, n in needed.items()]


def _utilities(n_systems: int, win_at_1: float, n_questions: int, n_raters: int, between: float,
               rng: np.random.Generator) -> np.ndarray:
    """Draws of the model of ``study``, shape ``[questions, raters, systems]``, the best system first."""
    from scipy.optimize import brentq
    from scipy.stats import norm
    if n_systems < 2 or n_raters < 1 or not 1 / n_systems <= win_at_1 < 0.999 or not 0 <= between <= 1:
        raise ValueError(f"needs two systems, a rater a question, Win@1 of the best from chance ({1 / max(n_systems, 1):.3f}) to "
                         f".999 and between in 0–1, got {n_systems}, {n_raters}, {win_at_1} and {between}")
    x = np.linspace(-10, 20, 6001)
    others = norm.cdf(x) ** (n_systems - 1)
    delta = brentq(lambda d: np.trapezoid(norm.pdf(x - d) * others, x) - win_at_1, -1, 10)
    drawn = between**0.5 * rng.normal(size=(n_questions, 1, n_systems)) \
        + (1 - between) ** 0.5 * rng.normal(size=(n_questions, n_raters, n_systems))
    drawn[..., 0] += delta
    return drawn


def _tables(ratings: Iterable[Mapping[str, Any]]) -> tuple[list[str], dict[str, dict[str, np.ndarray]], list[Any]]:
    """The systems, the average ranks in their order by question and rater, and the ratings that counted."""
    from scipy.stats import rankdata
    if not (made := latest(ratings)):
        raise ValueError("there are no ratings")
    for what in ("dimension", "kind"):
        if len(several := {rating[what] for rating in made}) > 1:
            raise ValueError(f"ratings of more than one {what} ({', '.join(sorted(several))}): take one at a time")
    usual = Counter(tuple(sorted(rating["ranks"])) for rating in made).most_common(1)[0][0]
    tables: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for rating in made:
        unknown, absent = sorted(set(rating["ranks"]) - set(usual)), sorted(set(usual) - set(rating["ranks"]))
        if unknown or absent:
            what = f"unknown system {', '.join(unknown)}" if unknown else f"no rank of {', '.join(absent)}"
            raise ValueError(f"{what} in the rating of question {rating['question_id']} by {rating['rater']}: most ratings "
                             f"rank {', '.join(usual)}; take out this one")
        tables[rating["question_id"]][rating["rater"]] = rankdata([rating["ranks"][system] for system in usual])
    return list(usual), dict(tables), made


def _mean_w(tables: Mapping[str, Mapping[str, np.ndarray]], seed: int) -> dict[str, Any]:
    shared = [np.stack(list(raters.values())) for raters in tables.values() if len(raters) > 1]
    values = [(w, 1 / len(ranks)) for ranks in shared if (w := kendall_w(ranks)) is not None]
    reason = None if values else "no question has two raters" if not shared else "the raters tie all systems"
    mean, chance = np.mean(values, axis=0).tolist() if values else (None, None)
    return {"value": mean, "chance": chance, "n": len(values), "reason": reason,
            "ci95": bootstrap([[w] for w, _ in values], seed) if len(values) > 1 else None}


def _alpha(tables: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    import krippendorff
    shared = [raters for raters in tables.values() if len(raters) > 1]
    names, given = sorted({rater for raters in shared for rater in raters}), [r for raters in shared for r in raters.values()]
    if not given or len(np.unique(given)) == 1:
        reason = "the raters tie all systems" if given else "no question has two raters"
        return {"value": None, "n": len(shared), "reason": reason}
    blank = np.full(len(given[0]), np.nan)
    table = [np.concatenate([raters.get(name, blank) for raters in shared]) for name in names]
    return {"value": float(krippendorff.alpha(table, level_of_measurement="ordinal")), "n": len(shared), "reason": None}
