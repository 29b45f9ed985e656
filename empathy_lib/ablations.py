"""What a sweep says: the effect of each overlay against the full run, with a 95 % interval over seeds and questions, and one
computed sentence. All figures are those of notebook 06, question by question (``06_evaluation/by_question.csv``)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from empathy_lib import ROOT, sweep
from empathy_lib.claims import NO_WORDS
from empathy_lib.evaluation import TOKENIZERS
from empathy_lib.show import ci

Part = tuple[float, int]  # a variance of a mean, and its degrees of freedom


def main(language: str) -> str:
    """The tokenizer of figures that are given by one alone."""
    return TOKENIZERS[language][0]


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


def interval(means: Sequence[float], parts: Sequence[Part]) -> dict[str, Any]:
    """``value``, the mean, and ``ci95`` from the sum of independent variances (Student's t, Welch-Satterthwaite degrees of
    freedom); ``ci95`` None where there is no part."""
    from scipy.stats import t
    value, variance = float(np.mean(means)), sum(v for v, _ in parts)
    if not parts:
        return {"value": value, "ci95": None}
    freedom = variance**2 / sum(v**2 / n for v, n in parts) if variance else 1
    half = float(t.ppf(0.975, freedom)) * variance**0.5
    return {"value": value, "ci95": [value - half, value + half]}


def effect(full: Sequence[pd.Series], other: Sequence[pd.Series], spread: Part | None = None) -> dict[str, Any]:
    """``other`` minus ``full``, seed by seed: ``value``, ``ci95``, ``seeds``, ``questions``. With several seeds the interval has the
    variance between seeds and, where all answered the same questions, that between questions. With one seed, the first is
    borrowed: ``spread``."""
    means = [float(b.mean() - a.mean()) for a, b in zip(full, other, strict=True)]
    same = all(x.index.equals(full[0].index) for x in (*full, *other))
    parts = [(float(np.var(means, ddof=1)) / len(means), len(means) - 1)] if len(means) > 1 else [spread] if spread else []
    if same:
        each = sum(b - a for a, b in zip(full, other)).dropna() / len(means)
        parts += [_part(each)]
    elif len(means) == 1:
        parts += [_part(full[0].dropna()), _part(other[0].dropna())]
    return interval(means, [part for part in parts if part]) | {"seeds": len(means), "questions": len(other[0])}


def _part(sample: pd.Series) -> Part | None:
    return (float(sample.var()) / len(sample), len(sample) - 1) if len(sample) > 1 else None


def level(runs: Sequence[pd.Series]) -> dict[str, Any]:
    """The figure itself, with its interval as in ``effect``."""
    return effect([run * 0 for run in runs], runs)


def spread(read: Mapping[str, Mapping[int, pd.Series]]) -> Part | None:
    """The variance between seeds of an effect, pooled over the overlays (overlay: seed: values) that were run with several;
    None without any."""
    full, pooled = read.get(sweep.FULL, {}), []
    for name, runs in read.items():
        seeds = sorted(set(runs) & set(full))
        if name != sweep.FULL and len(seeds) > 1:
            pooled.append([runs[s].mean() - full[s].mean() for s in seeds])
    freedom = sum(len(x) - 1 for x in pooled)
    return (float(sum(np.var(x, ddof=1) * (len(x) - 1) for x in pooled) / freedom), freedom) if freedom else None


def compare(found: Mapping[str, Mapping[int, Path]], names: Sequence[str], columns: Mapping[str, str],
            system: str = "empathy_r1", base: str = sweep.FULL) -> dict[str, dict[str, Any]]:
    """The ``base`` and each of the overlays that has a seed with it: by label of ``columns`` the ``level`` and the ``effect``
    (None for the base itself)."""
    said: dict[str, dict[str, Any]] = {}
    for label, column in columns.items():
        read = {name: {seed: values(folder, column, system) for seed, folder in runs.items()} for name, runs in found.items()}
        full, borrowed = read.get(base, {}), spread(read)
        for name in dict.fromkeys((base, *names)):
            if seeds := sorted(set(read.get(name, {})) & set(full)):
                own, others = [read[name][s] for s in seeds], [full[s] for s in seeds]
                said.setdefault(name, {})[label] = {"level": level(own), "effect": effect(others, own, borrowed) if name != base else None}
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


def sentence(name: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """One overlay's effects in one sentence."""
    parts = []
    for label, figure in figures.items():
        x = figure["effect"]  # of the full run there is none
        parts.append(f"{label} {ci(x, '+.3f')}" + ("" if told(x) else ", no difference can be told at this scale"))
    return f"{name} against the full run: {'; '.join(parts)}. {_n(x['seeds'], 'seed')}, {_n(x['questions'], 'question')}."


def _n(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
