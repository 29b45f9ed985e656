"""What a sweep says: the effect of each overlay against the full run, with a 95 % interval over seeds and questions, and one
computed sentence. All figures are those of notebook 06, question by question (``06_evaluation/by_question.csv``)."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from empathy_lib import ROOT, negatives, policy, reward_model, sweep
from empathy_lib.claims import NO_WORDS
from empathy_lib.evaluation import TOKENIZERS
from empathy_lib.params import Params
from empathy_lib.schema import read_questions
from empathy_lib.show import ci

Part = tuple[float, int]  # a variance of a mean, and its degrees of freedom


def measures(language: str) -> dict[str, str]:
    """What is compared, and its column in ``by_question.csv``."""
    return {"valid chains": "valid"} | {f"NAvg ({t})": f"{t} navg" for t in TOKENIZERS[language] if t not in NO_WORDS[language]}


def gather(rows: Mapping[str, sweep.Row]) -> tuple[dict[str, dict[int, Path]], dict[str, str]]:
    """The finished runs (overlay: seed: folder), and by run why one has no figures."""
    made, found, absent = sweep.owners({name: row.params for name, row in rows.items()}), {}, {}
    for name, row in rows.items():
        if why := sweep.missing(row, made):
            absent[name] = why
        else:
            found.setdefault(row.overlay, {})[row.seed] = ROOT / row.params.outputs / name
    return found, absent


def values(folder: Path, column: str, system: str = "empathy_r1") -> pd.Series:
    """A figure of one run by question; NaN where there is nothing to measure."""
    scored = pd.read_csv(folder / "06_evaluation" / "by_question.csv")
    return scored[scored.system == system].set_index("question_id")[column].sort_index()


def interval(value: float, parts: Sequence[Part]) -> dict[str, Any]:
    """``value`` with ``ci95`` from the sum of independent variances (Student's t, Welch-Satterthwaite degrees of freedom); None
    where there is no part."""
    from scipy.stats import t
    if not parts or np.isnan(value):
        return {"value": None if np.isnan(value) else value, "ci95": None}
    variance = sum(v for v, _ in parts)
    freedom = variance**2 / sum(v**2 / n for v, n in parts) if variance else 1
    half = float(t.ppf(0.975, freedom)) * variance**0.5
    return {"value": value, "ci95": [value - half, value + half]}


def effect(full: Sequence[pd.Series], other: Sequence[pd.Series], spread: Part | None = None) -> dict[str, Any]:
    """``other`` minus ``full``, seed by seed: ``value``, ``ci95``, ``seeds``, ``questions``. With several seeds the interval has the
    variance between seeds and, where all answered the same questions, that between questions. With one seed, the first is
    borrowed: ``spread``. Questions without a value of some run are left out, where they can be paired."""
    if all(x.index.equals(full[0].index) for x in (*full, *other)):
        differences = pd.concat([b - a for a, b in zip(full, other, strict=True)], axis=1).dropna()  # questions × seeds
        means, questions = differences.mean().tolist(), len(differences)
        parts = [_part(differences.mean(axis=1))]
    else:
        means, questions = [float(b.mean() - a.mean()) for a, b in zip(full, other, strict=True)], len(other[0])
        parts = [_part(full[0].dropna()), _part(other[0].dropna())] if len(means) == 1 else []
    parts.append(_part(pd.Series(means)) or spread)
    return interval(float(np.mean(means)), [part for part in parts if part]) | {"seeds": len(means), "questions": questions}


def _part(sample: pd.Series) -> Part | None:
    return (float(sample.var()) / len(sample), len(sample) - 1) if len(sample) > 1 else None


def pooled(samples: Sequence[Sequence[float]]) -> Part | None:
    """The variance within samples of several seeds, pooled, with its degrees of freedom; None where none has two."""
    several = [sample for sample in samples if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in several)
    return (float(sum(np.var(x, ddof=1) * (len(x) - 1) for x in several) / freedom), freedom) if freedom else None


def compare(found: Mapping[str, Mapping[int, Path]], names: Sequence[str], columns: Mapping[str, str],
            system: str = "empathy_r1", base: str = sweep.FULL) -> dict[str, dict[str, Any]]:
    """The ``base`` and each of the overlays that has a seed with it: by label of ``columns`` the ``level`` and the ``effect``
    (None for the base itself, and for a run that trained nothing of its own)."""
    said: dict[str, dict[str, Any]] = {}
    for label, column in columns.items():
        read = {name: {seed: values(folder, column, system) for seed, folder in runs.items()} for name, runs in found.items()}
        full = read.get(base, {})
        luck = pooled([[x.mean() for x in runs.values()] for runs in read.values()])
        lucks = pooled([[runs[s].mean() - full[s].mean() for s in runs if s in full] for name, runs in read.items() if name != base])
        for name in dict.fromkeys((base, *names)):
            if seeds := sorted(set(read.get(name, {})) & set(full)):
                own, others = [read[name][s] for s in seeds], [full[s] for s in seeds]
                differs = name != base and not same(found[name][seeds[0]], found[base][seeds[0]])
                said.setdefault(name, {})[label] = {"level": _bounded(effect([x * 0 for x in own], own, luck), 1 if column == "valid" else np.inf),
                                                    "effect": effect(others, own, lucks) if differs else None}
    return said


def _bounded(figure: dict[str, Any], highest: float) -> dict[str, Any]:
    """No figure here is below 0, no share above 1."""
    return figure | {"ci95": figure["ci95"] and [float(np.clip(end, 0, highest)) for end in figure["ci95"]]}


def same(folder: Path, other: Path) -> bool:
    """Whether two runs share their last policy: then nothing that trains differs between them."""
    return (folder / "05_grpo").resolve() == (other / "05_grpo").resolve()


def encoders(folders: Mapping[str, Path], full: Path, params: Params) -> dict[str, dict[str, dict[str, Any]]]:
    """Pair accuracy of the runs' encoders on the test questions against every kind of negative, all against the same texts:
    those of the ``full`` run (``{run: {kind: {"value", "ci95", "n"}}}``)."""
    questions, place = read_questions(full / "01_dataset" / "test.jsonl")[0], full / "04_reward_model"
    every = params.model_copy(update={"reward_model": params.reward_model.model_copy(update={"negatives": dict.fromkeys(negatives.KINDS, 1.0)})})
    replies = negatives.collect(questions, reward_model.load(place / "untrained"), policy.base(params, full), place / "base_test.jsonl", every)
    rows = {kind: [row for row in negatives.triplets(questions, {kind: 1}, params.seed, replies) if row["kind"] == kind] for kind in negatives.KINDS}
    said = {}
    for name, folder in folders.items():
        encoder = reward_model.load(folder / "04_reward_model" / "model")
        said[name] = {kind: reward_model.rank_pairs(partial(reward_model.similarity, encoder), pairs) for kind, pairs in rows.items() if pairs}
    return said


def table(said: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """``compare`` as rows for ``show.table``: levels and effects with their intervals."""
    return [{"run": name, "seeds": next(iter(figures.values()))["level"]["seeds"],
             **{label: ci(x["level"]) for label, x in figures.items()},
             **{f"effect on {label}": "" if x["effect"] is None else ci(x["effect"], "+.3f") for label, x in figures.items()}}
            for name, figures in said.items()]


def told(figure: Mapping[str, Any]) -> bool:
    """Whether an effect can be told from none: its interval leaves 0 out."""
    return bool(figure["ci95"]) and not figure["ci95"][0] <= 0 <= figure["ci95"][1]


def sentence(name: str, figures: Mapping[str, Mapping[str, Any]], base: str = sweep.FULL) -> str:
    """One overlay's effects in one sentence."""
    effects = {label: x["effect"] for label, x in figures.items() if x["effect"]}
    if not effects:
        return f"{name} is the run '{base}' itself: nothing that trains differs."
    parts = [f"{label} {ci(x, '+.3f')}" + ("" if told(x) else ", no difference can be told at this scale") for label, x in effects.items()]
    x = next(iter(effects.values()))
    return f"{name} against {base}: {'; '.join(parts)}. {_n(x['seeds'], 'seed')}, {_n(x['questions'], 'question')}."


def _n(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
