"""The whole chain on params/smoke.yaml: what it writes, that it repeats, and what a rerun does."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from conftest import NOTEBOOKS, all_metrics, copy_run, run_notebook, snakemake
from empathy_lib import ratings
from empathy_lib.claims import VERDICTS
from empathy_lib.negatives import KINDS
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl
from teaching import answering, completion

SCORES = {"bleu_1", "rouge_l", "meteor", "distinct_1", "navg"}


def test_results(smoke_run):
    assert set(all_metrics(smoke_run)) == set(NOTEBOOKS)
    systems = json.loads((smoke_run / "06_evaluation/metrics.json").read_text())["systems"]
    assert set(systems) == {"base", "base_coe", "sft", "empathy_r1"}
    for figures in systems.values():
        assert figures["n"] == 12 and "longest_copy" in figures
        assert (figures["format_valid"] is None) == (figures is systems["base"])  # it was asked for no format
        for tokenizer in ("char", "jieba", "ascii"):
            assert SCORES <= set(figures[tokenizer]) and all(0 <= figures[tokenizer][s] <= 1 for s in SCORES)
    reward = json.loads((smoke_run / "04_reward_model/metrics.json").read_text())
    assert 0 <= reward["pair_accuracy"] <= 1 and reward["n_pairs"] >= 100
    for system in ("trained", "untrained", "tfidf"):
        assert set(reward["systems"][system]) == set(KINDS)
        assert all(0 <= row[key] <= 1 for row in reward["systems"][system].values() for key in ("value", "auc"))
    assert len(reward["probes"]) == 13 and set(reward["two_towers"]["probes"]) == set(reward["probes"])
    assert reward["probes"]["empty"]["above_median"]["value"] == 0
    assert [row["T"] for row in reward["threshold"]] == [0.3, 0.5, 0.7] and -1 <= reward["best_threshold"]["T"] <= 1
    assert json.loads((smoke_run / "05_grpo/metrics.json").read_text())["threshold"] == 0.0
    for name in systems:
        rows = read_jsonl(smoke_run / "06_evaluation/generations" / f"{name}.jsonl")
        assert len(rows) == 12 and not any("<think>" in row["completion"] for row in rows)


def test_grpo_really_trained(smoke_run):
    log = [row for row in read_jsonl(smoke_run / "05_grpo/log.jsonl") if "reward" in row]
    assert len(log) == 6 and log[0]["kl"] == 0 and log[-1]["kl"] > 0.01  # else resuming could not be seen to fail
    assert any(row["reward_std"] > 0 for row in log)
    sft, final = ((smoke_run / stage / "model/model.safetensors").read_bytes() for stage in ("03_sft", "05_grpo"))
    assert sft != final


def test_advantages_are_eq_1(smoke_run):
    seen = 0
    for file in sorted((smoke_run / "05_grpo/completions").glob("*.parquet")):
        rows = pd.read_parquet(file)
        r = (rows.format_reward + rows.r_answer).to_numpy().reshape(-1, 4)
        assert (rows.prompt.to_numpy().reshape(-1, 4) == rows.prompt.to_numpy()[::4, None]).all()  # G in a row
        by_hand = (r - r.mean(1, keepdims=True)) / (r.std(1, ddof=1, keepdims=True) + 1e-4)
        assert np.allclose(by_hand.ravel(), rows.advantage, atol=1e-4)
        seen += (r.std(1) > 0).sum()
    assert seen > 0


def test_the_loss_is_eq_2():
    from pathlib import Path

    from empathy_lib.grpo import arguments

    a = arguments(load_params("params/paper.yaml", {"policy.dtype": "float32"}), Path("x"))
    assert (a.loss_type, a.use_bias_correction_kl, a.scale_rewards) == ("grpo", False, "group")
    assert (a.num_generations, a.max_steps, a.beta, a.epsilon, a.temperature) == (4, 1000, 0.01, 0.2, 1.0)


def test_ranking_and_ledger(smoke_run):
    ranked = json.loads((smoke_run / "07_ranking/metrics.json").read_text())
    assert ranked["questions"] == 4 and set(ranked["summaries"]) == {"reward model (proxy)"}  # nobody has ranked, and no judge
    assert sum(x["win@1"]["value"] for x in ranked["summaries"]["reward model (proxy)"]["overall"]["systems"].values()) == pytest.approx(1)
    ledger = json.loads((smoke_run / "claims.json").read_text())
    assert len(ledger) == 10 and all(row["verdict"] in VERDICTS and row["why"] for row in ledger)
    assert [row["verdict"] for row in ledger if row["id"].startswith("win")] == [VERDICTS[2]] * 2
    assert ledger[0]["claim"] in (smoke_run / "report.html").read_text(encoding="utf-8")


def test_a_judge_and_people_rank_in_the_notebook(smoke_run, tmp_path):
    """The judge is a server on this machine that prefers the first answer shown; people prefer empathy_r1."""
    run = copy_run(smoke_run, tmp_path / "smoke", "07_ranking")
    items = read_jsonl(smoke_run / "07_ranking/items.jsonl")
    for item in items:
        ranks = {name: 1 if name == "empathy_r1" else 2 for name in item["answers"]}
        ratings.add(run / "ratings/ratings.jsonl", ratings.rate(item, "overall", "r1", ranks))
    verdict = json.dumps(dict.fromkeys(ratings.DIMENSIONS, "ABCD"))
    with answering(200, lambda asked: (200, completion(verdict))) as url:
        judge = {"base_url": url, "model": "m", "api_key_env": None, "temperature": 0.0, "max_tokens": 100, "concurrency": 4, "retries": 0,
                 "timeout": 20.0, "price_prompt": None, "price_completion": None, "spending_limit": None}
        run_notebook("07_ranking", tmp_path / "executed", {"outputs": str(tmp_path), "judge": judge})
    ranked = json.loads((run / "07_ranking/metrics.json").read_text())
    assert set(ranked["summaries"]) == {"people", "reward model (proxy)", "judge (proxy)"}
    assert ranked["summaries"]["people"]["overall"]["systems"]["empathy_r1"]["win@1"]["value"] == 1
    assert ranked["judge"]["n"] == 4 * 5 and ranked["judge"]["first_wins"] == 1 and ranked["judge"]["same_winner"] == 0
    said = {row["id"]: row for row in json.loads((run / "claims.json").read_text())}["win_in_domain"]
    assert said["figures"][0]["value"] == 1 and said["verdict"] == VERDICTS[2]  # one rater, a smoke run: no scale to tell


def test_manifest(smoke_run):
    manifest = json.loads((smoke_run / "manifest.json").read_text())
    assert set(manifest["stages"]) == set(NOTEBOOKS) and {"machine", "versions", "commit"} <= set(manifest)
    assert manifest["stages"]["05_grpo"]["params"]["grpo"]["max_steps"] == 6
    assert all(stage["seconds"] > 0 for stage in manifest["stages"].values())


def test_report(smoke_run):
    counts = {}

    class Count(HTMLParser):
        def handle_starttag(self, tag, attrs):
            counts[tag] = counts.get(tag, 0) + 1

    html = (smoke_run / "report.html").read_text(encoding="utf-8")
    Count().feed(html)
    assert counts["table"] >= 5 and counts["img"] >= 3 and counts["details"] >= 20
    assert "<details" in html and "summary>code" in html and "Traceback" not in html
    body = re.sub(r"data:image/png;base64,[^\"]+", "", html)
    assert not re.search(r"(?<![\w.])/(home|root|work)/\w", re.sub(r"<(script|style).*?</\1>", "", body, flags=re.S).replace(str(smoke_run.parent), ""))


def test_rerun_does_only_what_changed(smoke_run):
    outputs = {"outputs": str(smoke_run.parent)}

    def planned(overrides):
        out = snakemake(outputs | overrides, "--dry-run", "--quiet", "progress")
        assert out.returncode == 0, out.stderr[-2000:]
        return set(re.findall(r"^(?:local)?rule (\w+):", out.stdout + out.stderr, re.M)) - {"all"}

    assert planned({}) == set()
    assert planned({"grpo.max_steps": 7}) == {"05_grpo", "06_evaluation", "07_ranking", "report"}
    assert planned({"evaluation.temperature": 0.9}) == {"06_evaluation", "07_ranking", "report"}
    assert planned({"grpo.save_every_minutes": 5.0}) == set()  # it changes no result
    assert planned({"reward_model.margin": 0.2}) == {"04_reward_model", "05_grpo", "06_evaluation", "07_ranking", "report"}
    assert planned({"dataset.min_answer_chars": 90}) == {*NOTEBOOKS, "report"}


def test_two_runs_are_byte_identical(two_smoke_runs):
    first, second = two_smoke_runs
    assert all_metrics(first) == all_metrics(second)
    for weights in ("03_sft/model/model.safetensors", "05_grpo/model/model.safetensors"):
        assert (first / weights).read_bytes() == (second / weights).read_bytes()


@pytest.mark.slow
def test_another_seed_differs_and_the_other_backend_runs(smoke_run, tmp_path):
    run = copy_run(smoke_run, tmp_path / "smoke", "03_sft", "05_grpo", "06_evaluation")
    for stage in ("03_sft", "05_grpo", "06_evaluation"):
        run_notebook(stage, tmp_path / "executed", {"outputs": str(tmp_path), "policy.backend": "transformers"})
    other = all_metrics(run)
    assert other["04_reward_model"] == all_metrics(smoke_run)["04_reward_model"]
    assert json.loads(other["06_evaluation"])["systems"]["empathy_r1"]["n"] == 12
    run_notebook("04_reward_model", tmp_path / "executed", {"outputs": str(tmp_path), "reward_model.margin": 0.2})
    assert all_metrics(run)["04_reward_model"] != other["04_reward_model"]


@pytest.mark.slow
@pytest.mark.parametrize("overrides, same, steps", [({"sft.epochs": 0}, ("base_coe", "sft"), (0, 6)), ({"grpo.max_steps": 0}, ("sft", "empathy_r1"), (120, 0))],
                         ids=["grpo only", "sft only"])
def test_one_training_without_the_other_by_params_alone(smoke_run, tmp_path, overrides, same, steps):
    run = copy_run(smoke_run, tmp_path / "smoke", "03_sft", "04_reward_model", "05_grpo", "06_evaluation")
    for stage in list(NOTEBOOKS)[2:]:
        run_notebook(stage, tmp_path / "executed", {"outputs": str(tmp_path)} | overrides)
    said = [[row["completion"] for row in read_jsonl(run / f"06_evaluation/generations/{name}.jsonl")] for name in same]
    assert said[0] == said[1]  # the stage without steps left the model as it was
    logs = [read_jsonl(run / stage / "log.jsonl") for stage in ("03_sft", "05_grpo")]
    assert tuple(sum("eval_reward" not in row for row in log) for log in logs) == steps
