"""Effects of ablations: against simulation and by hand; what is said of them; what they cost."""

import json

import numpy as np
import pandas as pd
import pytest

from empathy_lib import ROOT, ablations, costs, plots, show, sweep
from empathy_lib.params import load_params
from empathy_lib.schema import write_atomic


def series(values, prefix="q"):
    return pd.Series(values, index=[f"{prefix}{i:03d}" for i in range(len(values))], dtype=float)


def test_the_interval_covers_the_truth():
    """Luck of training (sd .05) and of questions (sd .3 of a difference): three seeds, 58 questions, 400 times."""
    rng, held, naive = np.random.default_rng(0), 0, 0
    for _ in range(400):
        questions, luck = rng.normal(0.1, 0.3, 58), rng.normal(0, 0.05, (3, 1))
        full = rng.normal(0.5, 0.1, (3, 58))
        other = full + questions + luck
        x = ablations.effect([series(line) for line in full], [series(line) for line in other])
        held += x["ci95"][0] <= 0.1 <= x["ci95"][1]
        one = ablations.effect([series(full[0])], [series(other[0])])
        naive += one["ci95"][0] <= 0.1 <= one["ci95"][1]
    assert 0.93 < held / 400 <= 1 and naive < held


def test_one_seed_borrows_the_spread_between_seeds():
    variance, freedom = ablations.pooled([[0.02, -0.02, 0.06], [0.1, 0.06, 0.14], [7.0]])
    assert (variance, freedom) == (pytest.approx(0.0016), 4) and ablations.pooled([[1.0], []]) is None
    full = series(np.random.default_rng(1).normal(0.5, 0.1, 58))
    other = full + series(np.random.default_rng(2).normal(0.1, 0.05, 58))
    alone, borrowed = ablations.effect([full], [other]), ablations.effect([full], [other], (variance, freedom))
    assert alone["ci95"][1] - alone["ci95"][0] < 0.05 and borrowed["seeds"] == 1
    assert borrowed["ci95"][1] - borrowed["ci95"][0] > 2 * 2.5 * variance**0.5  # t with a little over 4 degrees of freedom


def test_questions_without_a_value_are_left_out():
    full, other = series([1, 2, np.nan, 4]), series([2, np.nan, 3, 7])
    x = ablations.effect([full], [other])
    assert x["value"] == 2 and x["questions"] == 2 and x["ci95"] is not None  # of the first and the last
    nothing = ablations.effect([series([np.nan, 1])], [series([1, np.nan])])
    assert nothing["value"] is None and nothing["ci95"] is None and show.ci(nothing) == "–"


def test_other_questions_are_not_paired():
    full, other = series(np.linspace(0, 1, 40)), series(np.linspace(0, 1, 30), "z")
    x = ablations.effect([full], [other])
    error = (full.var() / 40 + other.var() / 30) ** 0.5
    assert x["value"] == pytest.approx(0) and x["questions"] == 30 and 1.96 < x["ci95"][1] / error < 2.05
    assert ablations.effect([full], [full])["ci95"] == [0, 0]


def finished(folder, figures):
    """A run with these answers: by system the share of valid chains."""
    (folder / "05_grpo").mkdir(parents=True)
    table = "".join(f"{system},q{i},{float(i < 10 * share)},{0.1 + share / 10},{0.2}\n" for system, share in figures.items() for i in range(10))
    write_atomic(folder / "06_evaluation" / "by_question.csv", "system,question_id,valid,char navg,jieba navg\n" + table)
    return folder


def test_compare_says_what_differs(tmp_path):
    found = {"full": {s: finished(tmp_path / f"full{s}", {"empathy_r1": 0.9, "sft": 0.5}) for s in (42, 43)},
             "worse": {s: finished(tmp_path / f"worse{s}", {"empathy_r1": 0.2, "sft": 0.5}) for s in (42, 43)},
             "other_seed": {44: finished(tmp_path / "x", {"empathy_r1": 0.2, "sft": 0.5})}}
    (tmp_path / "twin").mkdir()
    (tmp_path / "twin" / "05_grpo").symlink_to(tmp_path / "full42" / "05_grpo")
    (tmp_path / "twin" / "06_evaluation").symlink_to(tmp_path / "full42" / "06_evaluation")
    found["twin"] = {42: tmp_path / "twin"}
    columns = ablations.measures("zh")
    assert list(columns) == ["valid chains", "NAvg (char)", "NAvg (jieba)"]  # ascii splits no Chinese
    said = ablations.compare(found, ["worse", "twin", "other_seed", "not_there"], columns)
    assert ablations.sentence("twin", said.pop("twin")) == "twin is the run 'full' itself: nothing that trains differs."
    assert set(said) == {"full", "worse"} and said["full"]["valid chains"]["effect"] is None
    effect = said["worse"]["valid chains"]["effect"]
    assert effect["value"] == pytest.approx(-0.7) and ablations.told(effect) and effect["seeds"] == 2
    text = ablations.sentence("worse", said["worse"])
    assert "valid chains -0.700 (" in text and "NAvg (jieba) +0.000 (+0.000 to +0.000), no difference can be told" in text and "2 seeds, 10 questions" in text
    assert ablations.compare(found, ["worse"], columns, "sft")["worse"]["valid chains"]["effect"]["value"] == 0
    rows = ablations.table(said)
    assert [row["run"] for row in rows] == ["full", "worse"] and rows[0]["effect on valid chains"] == "" and "<td" in show.table(rows).data
    drawn = plots.close(plots.effects(said, "title")).axes
    assert len(drawn) == 3 and [label.get_text() for label in drawn[0].get_yticklabels()] == ["worse"]
    plots.close(plots.effects({"full": said["full"]}, "nothing to compare"))


def test_cost_at_paper_scale_follows_the_params():
    table = {row["stage"]: row for row in costs.at_paper_scale()}
    assert table["01_dataset"]["times"] < table["03_sft"]["times"] < table["05_grpo"]["times"] <= table["05_grpo"]["without sharing"]
    rows = sweep.rows("params/paper.yaml")
    half = rows["paper"].params.model_copy(update={"grpo": rows["paper"].params.grpo.model_copy(update={"max_steps": 500})})
    start = costs.ASSUMED["minutes a stage to start and load"] / 60
    assert (costs.hours(half)["05_grpo"] - start) * 2 == pytest.approx(costs.hours(rows["paper"].params)["05_grpo"] - start)
    assert table["05_grpo"]["hours in the sweep"] < table["05_grpo"]["times"] * table["05_grpo"]["hours in a full run"]  # sft_only makes no step


def test_readme_says_what_grpo_would_cost_on_each_gpu():
    rows, lines = costs.on_gpus(), (ROOT / "README.md").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| extrapolated"))
    cells = {line.split(" | ")[0]: line.strip(" |").split(" | ")[1:] for line in lines[start:start + 5]}
    assert cells["| extrapolated, no such GPU was measured"] == [row["GPU"] for row in rows]
    assert cells["| hours"] == [f"{row['hours']:.1f}" if row["hours"] < 10 else f"{row['hours']:.0f}" for row in rows]
    assert cells["| GiB on each GPU"] == [f"{row['GiB on each']:.0f}" for row in rows]
    assert [cell.partition(",")[0] for cell in cells["| model"]] == [row["model"].removeprefix("Qwen/") for row in rows]
    assert "a step; notebook 08" in (text := "\n".join(lines)) and "8 questions × G = 4" in text
    g = load_params("params/paper.yaml").grpo
    assert (g.batch_size * g.gradient_accumulation // g.num_generations, g.num_generations) == (8, 4)


def test_a_measured_step_replaces_the_extrapolation(tmp_path):
    p = load_params("params/paper.yaml")
    write_atomic(tmp_path / "gpu_grpo.json", json.dumps({
        "shape": "Qwen/Qwen3-8B", "machine": {"gpu": "NVIDIA H200"}, "params": {"policy": p.policy.model_dump(), "grpo": p.grpo.model_dump()},
        "backends": {"transformers": {"seconds_a_step": 40.0}, "unsloth": {"seconds_a_step": 18.0}, "unsloth_vllm": {"seconds_a_step": 9.0}}}))
    assert costs.step_seconds("H200", p, tmp_path) == 18
    assert costs.step_seconds("H100", p, tmp_path) is None
    assert costs.step_seconds("H200", load_params("params/paper.yaml", {"grpo.batch_size": 4}), tmp_path) is None
    rows = {row["GPU"]: row for row in costs.on_gpus(tmp_path)}
    assert rows["H200"]["hours"] == 5 and [row["known"] for row in rows.values()].count("measured step") == 1


def test_measured_costs_are_those_of_the_stages_made(tmp_path):
    rows = sweep.rows("params/smoke.yaml", {"outputs": str(tmp_path)}, ["gated"], 1)
    entry = {"seconds": 3.5, "peak_mb": {"process": 900}, "threads": 2}
    for name, stages in (("smoke", {"01_dataset": entry, "07_ranking": entry}), ("smoke-gated", {"01_dataset": entry | {"linked": "smoke"}, "05_grpo": entry})):
        write_atomic(tmp_path / name / "manifest.json", json.dumps({"stages": stages}))
    assert costs.measured(rows).values.tolist() == [["smoke", "01_dataset", 3.5, 900, None, 2], ["smoke-gated", "05_grpo", 3.5, 900, None, 2]]
