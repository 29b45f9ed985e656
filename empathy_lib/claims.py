"""The ledger: what the paper claims of its results (``bundled/claims.yaml``), this run's figure beside each, and whether the
run can tell. A verdict is computed by three rules, never typed in:

- a figure: only a run of the paper's scale (its base model, whole texts, 1,000 steps, its test set) can tell; it *agrees*
  where the 95 % interval of some tokenizer holds the paper's figure (the paper states no tokenizer), else *disagrees*;
- a direction: *agrees* where the interval of the paired difference lies on the claimed side of 0 with every tokenizer that
  splits the language into words or characters, *disagrees* where it lies on the other side with every one;
- anything else *cannot be told at this scale*: a system is missing, the tokenizers differ, or no person has ranked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from empathy_lib import BUNDLED, ROOT, ranking, ratings
from empathy_lib.dataset import PAPER_COUNTS, as_list
from empathy_lib.evaluation import SYSTEMS
from empathy_lib.params import load_params
from empathy_lib.run import Run
from empathy_lib.schema import read_jsonl, write_json

VERDICTS = ("agrees", "disagrees", "cannot be told at this scale")
NO_WORDS = {"zh": ("ascii",), "en": ()}  # tokenizers that are shown, but whose tokens are no words of the language


def ledger(run: Run, figures: Mapping[str, Any], people: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A row for each claim: ``claim``, ``paper`` (its figure or None), ``figures`` (this run's: tokenizer, value, ci95),
    ``scale``, ``verdict`` and ``why``. ``figures`` are the metrics of 06; ``people`` is ``ranking.summary`` of the ratings by
    people, overall, or None."""
    where, rows = scale(run), []
    for claim in OmegaConf.to_container(OmegaConf.load(BUNDLED / "claims.yaml")):
        own = _people(claim, people) if claim["score"].startswith("win@") else _scores(claim, figures)
        verdict, why = _verdict(claim, own, where, run.params.language, people)
        rows.append({"id": claim["id"], "claim": claim["claim"], "paper": claim.get("paper"), "figures": own,
                     "scale": where["text"], "verdict": verdict, "why": why})
    return rows


def write(run: Run, figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ledger of a run with the metrics of its notebook 06 and the ratings there are; kept in ``claims.json``."""
    rows = ledger(run, figures, people(run))
    write_json(run.dir / "claims.json", rows)
    return rows


def people(run: Run) -> dict[str, Any] | None:
    """What people said overall of this run's answers, as ``ranking.summary`` gives it; None where nobody has ranked them."""
    made, _ = ratings.read(run.dir / "ratings" / "ratings.jsonl")
    said = ratings.fresh(items(run), made) if made else []
    overall = [r for r in said if r["kind"] == "human" and r["dimension"] == "overall"]
    return ranking.summary(overall) if overall else None


def items(run: Run) -> list[dict[str, Any]]:
    """What is ranked of a run (``ratings.items``): the answers of its systems, the kit's six and no more, as they are now."""
    files = {name: run.dir / "06_evaluation" / "generations" / f"{name}.jsonl" for name in SYSTEMS}
    return ratings.items({name: read_jsonl(file) for name, file in files.items() if file.exists()}, run.params.ranking.n_questions,
                         run.params.seed)


def scale(run: Run) -> dict[str, Any]:
    """What this run was made with: whether that is the paper's scale and the full system, its test set's name where it is
    known, and all in words. Empathy-QA has no public address: a file of your own with about as many questions is taken for it."""
    p, built, tested = run.params, run.metrics("01_dataset"), as_list(run.params.dataset.test_source or [])
    own_splits = [part["questions"] for name, part in built["splits"].items() if not (tested and name == "test")]
    n, sources = sum(own_splits) + built.get("aside", {}).get("not_used", 0), [str(name) for name in as_list(p.dataset.source)]
    own = p.language == "zh" and "bundled" not in sources and not any(":" in name for name in sources)
    test_set = "Empathy-QA" if own and 0.9 < n / PAPER_COUNTS["questions"] < 1.1 else None
    if tested:  # in the paper the other set is PsyQA
        test_set = "PsyQA" if test_set and all(name.startswith("psyqa:") for name in tested) else None
    base = "a demo model trained in the run" if p.policy.model == "demo" else p.policy.model
    paper = load_params(ROOT / "params" / "paper.yaml")
    there = (p.policy.model, p.view) == (paper.policy.model, paper.view) and p.grpo.max_steps >= paper.grpo.max_steps
    return {"paper": there, "needs": f"{paper.policy.model}, whole texts, {paper.grpo.max_steps:,} GRPO steps",
            "test_set": test_set, "whole": p.whole,
            "text": f"{base}, {n:,} questions ({test_set or ', '.join(Path(name.partition(':')[0]).name for name in sources)}), "
                    f"{'short' if any(p.view.model_dump().values()) else 'whole'} texts, {p.grpo.max_steps} GRPO steps, seed {p.seed}"}


def _scores(claim: Mapping[str, Any], figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    name, systems = claim["score"], figures["systems"]
    if any(system not in systems for system in claim["systems"]):
        return []
    if len(claim["systems"]) == 1:
        own = systems[claim["systems"][0]]
        return [{"tokenizer": t, "value": own[t][name], "ci95": own[t]["ci95"][name], "n": own["n"]} for t in figures["tokenizers"]]
    pair = figures["comparisons"].get(" − ".join(claim["systems"]))  # none with a single question
    return [] if not pair else [{"tokenizer": t, "value": row["value"], "ci95": row["ci95"], "p": row["p"], "n": row["questions"]}
            for t in figures["tokenizers"] for row in [pair[f"{t} {name}"]]]


def _people(claim: Mapping[str, Any], people: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if not people or claim["systems"][0] not in people["systems"] or people["n"]["questions"] < 2:
        return []  # one question has no interval
    return [{"tokenizer": None, **people["systems"][claim["systems"][0]][claim["score"]], "n": people["n"]["ratings"]}]


def _verdict(claim: Mapping[str, Any], own: list[dict[str, Any]], where: Mapping[str, Any], language: str,
             people: Mapping[str, Any] | None) -> tuple[str, str]:
    agrees, disagrees, unknown = VERDICTS
    if not where["whole"]:
        return unknown, "the run leaves out layers, SFT or GRPO: its last policy is not the full system"
    if not own:
        if claim["score"].startswith("win@"):
            return unknown, "one question has no interval" if people else "no person has ranked the answers"
        return unknown, f"not all here: {', '.join(claim['systems'])}"
    if sign := {"higher": 1, "lower": -1}.get(claim.get("direction")):
        counted = [row for row in own if row["tokenizer"] not in NO_WORDS[language]]
        with_it, against = (all(s * row["ci95"][0 if s > 0 else 1] > 0 for row in counted) for s in (sign, -sign))
        if with_it or against:
            return (agrees if with_it else disagrees), f"every interval lies {'above' if (sign > 0) == with_it else 'below'} 0"
        return unknown, "an interval holds 0, or the tokenizers differ"
    if not where["paper"]:
        return unknown, f"not the paper's scale: {where['needs']}"
    if where["test_set"] != (wanted := claim.get("test_set", "Empathy-QA")):
        return unknown, f"the test set is not {wanted}"
    if people and claim["score"].startswith("win@") and (people["n"]["systems"] != 6 or people["n"]["raters"] < 2):
        return unknown, f"{people['n']['systems']} systems, {people['n']['raters']} raters: needs six, and two or more"
    holds = [row for row in own if row["ci95"][0] <= claim["paper"] <= row["ci95"][1]]
    ours = "five other systems and 'overall'" if claim["score"].startswith("win@") else "tokenizer and NAvg"
    return (agrees if holds else disagrees), f"the paper's figure lies in {'an' if holds else 'no'} interval; {ours} are ours"
