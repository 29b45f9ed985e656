"""The demo over several seeds, and what of the paper's directions shows at this scale.

    python tests/benchmarks/seeds.py out.json [--seeds 42 43 44]

For each seed params/demo.yaml whole (base, SFT, SFT + GRPO); for the first one also GRPO without SFT, whose base has never
seen a tag. Runs stand in outputs/seed<n>/ (the profile's own seed: outputs/demo/) and outputs/grpo_only/; a finished stage
is not run again. By system: valid chains and NAvg (``char``) on the test split,
mean reward (r_format + r_answer, a proxy) on dev, each with a 95 % bootstrap interval over questions; mean and range over seeds.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from empathy_lib import ROOT, evaluation, metrics, policy, reward_model, rewards
from empathy_lib.params import load_params
from empathy_lib.run import Run, environment
from empathy_lib.schema import read_jsonl, read_questions, write_json

GRPO_ONLY = {"sft.epochs": 0}


def finish(overrides: dict[str, Any]) -> Run:
    """Snakemake until the evaluation of the demo with these overrides; the finished run."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(["snakemake", "--cores", "all", "--rerun-incomplete", "--quiet", "all", "--until", "06_evaluation", "--config",
                    "params=params/demo.yaml", f"overrides={json.dumps(overrides)}"], cwd=ROOT, check=True, env=os.environ | {"PATH": path})
    return Run(load_params(ROOT / "params" / "demo.yaml", overrides))


def dev_reward(run: Run, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of r_format + r_answer over completions of the dev questions."""
    encoder, T = reward_model.load(run.dir / "04_reward_model" / "model"), run.metrics("05_grpo")["threshold"]
    parts = [f(completions=[r["completion"] for r in rows], question=[r["question"] for r in rows])
             for f in rewards.reward_functions(encoder, T, run.params)]
    total, by_question = np.sum(parts, axis=0), {}
    for row, value in zip(rows, total):
        by_question.setdefault(row["question_id"], []).append(value)
    return {"value": float(total.mean()), "ci95": metrics.bootstrap(list(by_question.values())), "n": len(rows)}


def figures(run: Run, systems: dict[str, str]) -> dict[str, Any]:
    """Of each system, under the name it gets here."""
    scores, dev = run.metrics("06_evaluation")["systems"], read_questions(run.dir / "01_dataset" / "dev.jsonl")[0]
    said = {"sft": "03_sft/dev.jsonl", "empathy_r1": "05_grpo/dev.jsonl", "base_coe": "dev_of_base.jsonl"}
    rows = {name: evaluation.answer_questions(policy.base(run.params, run.dir), dev, run.dir / file, run.params)
            for name, file in said.items() if name in systems}
    return {new: {"valid": scores[name]["format"], "dev_reward": dev_reward(run, rows[name]),
                  "navg_char": {"value": scores[name]["char"]["navg"], "ci95": scores[name]["char"]["ci95"]["navg"], "n": scores[name]["n"]}}
            for name, new in systems.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    arguments = parser.parse_args()
    by_seed: dict[str, dict[str, Any]] = {}
    for seed in arguments.seeds:
        whole = finish({} if seed == load_params(ROOT / "params" / "demo.yaml").seed else {"seed": seed, "run": f"seed{seed}"})
        trained = whole.metrics("04_reward_model")
        by_seed[str(seed)] = {
            "systems": figures(whole, {"base_coe": "base_coe", "sft": "sft", "empathy_r1": "sft_grpo"}),
            "pair_accuracy": trained["systems"]["trained"],
            "probes_above_median": {name: row["above_median"]["value"] for name, row in trained["probes"].items()},
            "threshold": trained["best_threshold"], "grpo": whole.metrics("05_grpo")["last_fifth"],
            "warnings": sorted(whole.metrics("05_grpo")["warnings"])}
        over = {name: {key: {"mean": float(np.mean(v)), "lowest": min(v), "highest": max(v)} for key in ("valid", "dev_reward", "navg_char")
                       if (v := [s["systems"][name][key]["value"] for s in by_seed.values()])} for name in by_seed[str(seed)]["systems"]}
        write_json(arguments.out, {"profile": "params/demo.yaml", "tokenizer": "char", "environment": environment(),
                                   "over_seeds": over, "by_seed": by_seed})
        print(f"seed {seed}: {json.dumps(over, indent=1)}", flush=True)
    alone = finish({"seed": arguments.seeds[0], "run": "grpo_only"} | GRPO_ONLY)
    log = [row for row in read_jsonl(alone.dir / "05_grpo" / "log.jsonl") if "reward" in row]
    result = json.loads(arguments.out.read_text())
    write_json(arguments.out, result | {"grpo_only": {
        "seed": arguments.seeds[0], "systems": figures(alone, {"empathy_r1": "grpo_only"}), "grpo": alone.metrics("05_grpo")["last_fifth"],
        "steps": len(log), "steps_with_any_reward": sum(row["reward"] > 0 for row in log), "warnings": alone.metrics("05_grpo")["warnings"]}})


if __name__ == "__main__":
    main()
