"""The sweep: which runs there are, which stages they share, what a link is, and the whole of it on params/smoke.yaml."""

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from conftest import BIN, SMOKE, copy_run, environment, snakemake
from empathy_lib import ROOT, sweep
from empathy_lib.coe import LAYERS
from empathy_lib.params import ParamsError, load_params
from empathy_lib.run import Run
from empathy_lib.schema import write_json

ASKED = {"no_coe", *(f"no_{layer}" for layer in LAYERS), "sft_only", "grpo_only", "T_0.3", "T_0.5", "T_0.7", "soft_answer", "soft_format",
         "gated", "no_group_norm", "sft_50", "sft_100", "sft_200", "cross_dataset"}


def test_the_runs():
    rows = sweep.rows("params/ablation.yaml")
    names = {row.overlay for row in rows.values()}
    assert ASKED <= names and sum(name.startswith("margin_") for name in names) == 3
    assert {f"negatives_{kind}" for kind in ("random", "same_topic", "hard", "base", "faulty", "padded")} <= names
    assert list(rows)[0] == "ablation" and rows["ablation-no_coe-s44"].params.seed == 44
    assert Counter(row.overlay for row in rows.values() if row.seed != 42) == dict.fromkeys(("full", "sft_only", "grpo_only", "no_coe"), 2)
    full = rows["ablation"].params
    for name, row in rows.items():
        assert row.params.run == name and (row.params.model_dump(exclude={"run"}) != full.model_dump(exclude={"run"}) or row.overlay in ("full", "sft_200"))
    alone = {name: row.params.reward_model.negatives for name, row in rows.items() if row.overlay.startswith("negatives_")}
    assert all(sum(weight > 0 for weight in weights.values()) == 1 for weights in alone.values())
    assert rows["ablation-no_L2"].params.coe.layers == ["L1", "L3", "L4"]


def test_overrides_reach_every_run_and_wrong_names_are_said():
    rows = sweep.rows(SMOKE, {"grpo.beta": 0.5, "evaluation": {"n_questions": 4}}, ["cross_dataset"], 1)
    assert list(rows) == ["smoke", "smoke-cross_dataset"] and all(row.params.grpo.beta == 0.5 for row in rows.values())
    assert rows["smoke-cross_dataset"].params.evaluation.n_questions == 58  # the overlay lies on top
    assert [row.params.evaluation.systems for row in rows.values()] == [["base", "base_coe", "sft", "empathy_r1"], ["empathy_r1"]]
    with pytest.raises(ParamsError, match="no such overlay: no_L5"):
        sweep.rows(SMOKE, overlays=["no_L5"])


def test_an_overlay_that_cannot_be_is_named_and_stops_no_other_run(tmp_path, monkeypatch):
    broken = {"full": {}, "bad": {"grpo.max_step": 3}, "en": {"language": "en"}}
    monkeypatch.setattr(sweep, "all_overlays", lambda: broken)
    assert list(sweep.rows(SMOKE, overlays=["en"])) == ["smoke", "smoke-s43", "smoke-s44", "smoke-en"]
    with pytest.raises(ParamsError, match="params/ablations/bad.yaml.*nearest known one is 'grpo.max_steps'"):
        sweep.rows(SMOKE)


def test_the_job_list_shares_what_does_not_differ():
    """What Snakemake would run, against a count by hand: of 35 runs, for instance, 12 differ in their chains. Without
    cross_dataset, whose file does not come with the kit: without the file no job can be planned for it."""
    here = ",".join(name for name in sweep.all_overlays() if name != "cross_dataset")
    out = snakemake({}, "ablations", "--dry-run", params="params/ablation.yaml", more=(f"overlays={here}",))
    assert out.returncode == 0, out.stderr[-2000:]
    jobs = set(re.findall(r"^(?:local)?rule (\S+):", out.stdout + out.stderr, re.M))
    count = Counter(job.partition("_ablation")[0] for job in jobs)
    # 01: three seeds. 02: these, no_coe with three seeds, four layers, 50 and 100 chains. 03: these and
    # grpo_only with three seeds. 04: these and three margins, six kinds of negatives. 05: all but sft_200, which is the full run, and
    # whose SFT alone is scored too in 06.
    assert count == {"ablations": 1, "01_dataset": 3, "02_coe": 12, "03_sft": 15, "04_reward_model": 24, "05_grpo": 34, "06_evaluation": 35}
    assert not {"03_sft_ablation-T_0.3", "04_reward_model_ablation-gated", "03_sft_ablation-margin_0.3", "05_grpo_ablation-sft_200"} & jobs
    assert {"05_grpo_ablation-T_0.3", "05_grpo_ablation-gated", "04_reward_model_ablation-margin_0.3", "02_coe_ablation-no_coe-s43"} <= jobs


def finished(folder, run, seconds=1.0, **overrides):
    """A run whose first stage is there."""
    made = Run(load_params(SMOKE, {"outputs": str(folder), "run": run} | overrides))
    made.begin("01_dataset").joinpath("train.jsonl").write_text("{}\n")
    made.record("01_dataset", {"n": 1})
    return made


def test_a_link_stands_for_the_stage(tmp_path):
    owner = finished(tmp_path, "a")
    for _ in range(2):
        sweep.link(str(tmp_path), "b", {"01_dataset": "a", "02_coe": "a"})  # the second is not finished
    place = tmp_path / "b" / "01_dataset"
    assert os.readlink(place) == "../a/01_dataset" and not (tmp_path / "b" / "02_coe").exists()
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["stages"]["01_dataset"]["linked"] == "a" and manifest["stages"]["01_dataset"]["files"]
    taken = Run(load_params(SMOKE, {"outputs": str(tmp_path), "run": "b"}))
    assert taken.metrics("01_dataset") == {"n": 1} and taken.begin("02_coe").exists()  # what comes next finds it
    other = Run(load_params(SMOKE, {"outputs": str(tmp_path), "run": "b", "dataset.min_answer_chars": 5}))
    other.begin("01_dataset").joinpath("train.jsonl").write_text("other\n")  # the run gets parameters of its own
    other.record("01_dataset", {"n": 2})
    assert not place.is_symlink() and (owner.dir / "01_dataset" / "train.jsonl").read_text() == "{}\n"
    sweep.link(str(tmp_path), "b", {"01_dataset": "a"})  # and loses them again: nothing is lost
    assert place.is_symlink() and (tmp_path / "b" / ".superseded" / "01_dataset" / "train.jsonl").read_text() == "other\n"


def test_a_run_that_stopped_says_where(tmp_path):
    rows = sweep.rows(SMOKE, {"outputs": str(tmp_path)}, ["gated", "cross_dataset"], 1)
    made, gated = sweep.owners({name: row.params for name, row in rows.items()}), rows["smoke-gated"]
    assert sweep.missing(gated, made) == "01_dataset of smoke: not begun"
    entries = {}
    for stage in sweep.MADE[:4]:
        write_json(tmp_path / "smoke" / stage / "metrics.json", {})
        entries[stage] = {"params": rows["smoke"].params.stage_blocks(stage)}
    write_json(tmp_path / "smoke" / "manifest.json", {"stages": entries})
    assert sweep.missing(gated, made) == "01_dataset: not linked to that of smoke"
    sweep.link_all(rows)
    assert sweep.missing(gated, made) == "05_grpo: not begun"
    error = {"output_type": "error", "ename": "ValueError", "evalue": "GRPO needs 2 questions\nmore", "traceback": []}
    write_json(tmp_path / "smoke-gated" / "notebooks" / "05_grpo.ipynb", {"cells": [{"outputs": [error]}, {}]})
    assert sweep.missing(gated, made) == "05_grpo: ValueError: GRPO needs 2 questions"
    (tmp_path / "smoke-gated" / "notebooks" / "05_grpo.ipynb").write_text('{"cells": [')
    assert sweep.missing(gated, made) == "05_grpo: not finished"
    entries["03_sft"]["params"]["sft"]["epochs"] = 3
    write_json(tmp_path / "smoke" / "manifest.json", {"stages": entries})
    assert sweep.missing(gated, made) == "03_sft of smoke: made with other parameters"
    (tmp_path / "nowhere").mkdir()
    other = sweep.rows(SMOKE, {"outputs": str(tmp_path), "dataset.source": str(tmp_path / "nowhere.jsonl")}, [], 1)["smoke"]
    assert "nowhere.jsonl" in sweep.missing(other, {}) and "psyqa:<file>" in sweep.missing(other, {})


def test_a_table_read_by_hand_moves_nothing(tmp_path):
    """Notebook 08 with parameters by which another run's folder would have to become a link."""
    finished(tmp_path, "smoke")
    own = finished(tmp_path, "smoke-gated")
    sweep.link_all(sweep.rows(SMOKE, {"outputs": str(tmp_path)}, ["gated"], 1))
    assert not (own.dir / "01_dataset").is_symlink() and (own.dir / "01_dataset" / "metrics.json").exists()


def test_decisions_of_reviewers_count_in_every_run(tmp_path):
    (tmp_path / "smoke" / "review").mkdir(parents=True)
    sweep.link(str(tmp_path), "b", {"review": "smoke"})
    assert not (tmp_path / "b").exists()
    (tmp_path / "smoke" / "review" / "decisions.jsonl").write_text("{}\n")
    sweep.link(str(tmp_path), "b", {"review": "smoke"})
    assert (tmp_path / "b" / "review" / "decisions.jsonl").read_text() == "{}\n"


def run_sweep(outputs, *arguments):
    return snakemake({"outputs": str(outputs)}, "ablations", *arguments, more=("overlays=gated,margin_1.2", "seeds=1"), cores="all")


@pytest.mark.slow
def test_a_sweep_of_two_overlays(smoke_run, tmp_path):
    """One of them fails: the other and the table are made; then only what is missing. Within five minutes."""
    began = time.monotonic()
    copy_run(smoke_run, tmp_path / "smoke")
    in_the_way = tmp_path / "smoke-margin_1.2" / ".06_evaluation.lock"  # a folder where a file belongs
    in_the_way.mkdir(parents=True)
    out = run_sweep(tmp_path)
    assert out.returncode != 0 and "ablations.html" in out.stdout + out.stderr and (tmp_path / "smoke/ablations.html").exists()
    table = json.loads((tmp_path / "smoke/08_ablations/metrics.json").read_text())
    assert set(table["rows"]) == {"full", "gated"} and set(table["missing"]) == {"smoke-margin_1.2"}, out.stderr[-3000:]
    assert table["missing"]["smoke-margin_1.2"].startswith("06_evaluation: ")
    assert os.readlink(tmp_path / "smoke-gated/02_coe") == "../smoke/02_coe"
    first = (tmp_path / "smoke-gated/06_evaluation/metrics.json").stat().st_mtime_ns
    in_the_way.rmdir()
    out = run_sweep(tmp_path)
    assert out.returncode == 0, out.stdout[-3000:] + out.stderr[-3000:]
    begun = re.findall(rf"→ {re.escape(str(tmp_path))}/(\S+)/", out.stdout + out.stderr)
    assert begun == ["smoke-margin_1.2/06_evaluation", "smoke/08_ablations"]
    table = json.loads((tmp_path / "smoke/08_ablations/metrics.json").read_text())
    assert set(table["rows"]) == {"full", "gated", "margin_1.2"} and len(table["sentences"]) == 2 and not table["missing"]
    assert table["rows"]["gated"]["valid chains"]["effect"]["questions"] == 6
    assert set(table["negatives"]) == {"full"} and len(table["negatives"]["full"]) == 6 and [x["run"] for x in table["margins"]] == ["full", "margin_1.2"]
    assert (tmp_path / "smoke-gated/06_evaluation/metrics.json").stat().st_mtime_ns == first
    assert not (tmp_path / "smoke-margin_1.2/04_reward_model").is_symlink() and (tmp_path / "smoke-margin_1.2/03_sft").is_symlink()
    assert time.monotonic() - began < 300  # 204 s were seen beside other work


@pytest.mark.slow
def test_killed_five_times_the_table_is_the_same(smoke_run, tmp_path):
    table = {}
    for name, kills in (("undisturbed", 0), ("killed", 5)):
        copy_run(smoke_run, tmp_path / name / "smoke")
        draw = random.Random(0)
        for _ in range(kills):
            process = subprocess.Popen(
                [BIN / "snakemake", "--cores", "all", "ablations", "--config", f"params={SMOKE}", "overlays=gated,margin_1.2",
                 "seeds=1", f"overrides={json.dumps({'outputs': str(tmp_path / name)})}"],
                cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            time.sleep(draw.uniform(8, 25))
            assert process.poll() is None, "the sweep ended before it was killed"
            os.killpg(process.pid, signal.SIGKILL)  # Snakemake, papermill; kernels have sessions of their own and wait, locked
            process.wait()
            for holder in sorted((tmp_path / name).glob("*/.*.holder")):
                pid = holder.read_text().split()[1]
                alive = Path(f"/proc/{pid}/cmdline")
                if alive.exists() and "ipykernel" in alive.read_text() and draw.random() < 0.5:
                    os.kill(int(pid), signal.SIGKILL)
            snakemake({"outputs": str(tmp_path / name)}, "ablations", "--unlock")
        out = run_sweep(tmp_path / name)
        assert out.returncode == 0, out.stdout[-3000:] + out.stderr[-3000:]
        table[name] = (tmp_path / name / "smoke/08_ablations/metrics.json").read_bytes()
    assert table["killed"] == table["undisturbed"]
