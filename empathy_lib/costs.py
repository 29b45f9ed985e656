"""What runs cost: measured, from their manifests, and extrapolated to the paper's scale by counting operations."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from empathy_lib import ROOT, many_gpus, memory, sweep
from empathy_lib.dataset import PAPER_COUNTS
from empathy_lib.params import Params, load_params
from empathy_lib.run import manifest

# FLOP/s in 16 bit without sparsity, by NVIDIA's data sheets (of a T4 in float16); the first name that fits a GPU's counts.
PEAKS = {"T4": 6.5e13, "L4": 1.21e14, "A100": 3.12e14, "H100 PCIe": 7.56e14, "H100": 9.89e14, "H200": 9.89e14}
# Assumptions of the extrapolation. None was measured here.
ASSUMED = {"parameters of the policy": 8.2e9, "parameters of the encoder": 1.0e8, "tokens of a prompt": 400, "tokens of a completion": 600,
           "peak of the GPU, bfloat16, FLOP/s": PEAKS["H200"], "share of the peak reached in training": 0.4,
           "share reached in generation, plain Transformers": 0.02, "minutes a stage to start and load": 3}
# GPUs: of which kind, with which profile, how many.
GPUS = {"T4": ("T4", "colab_t4", 1), "A100, 80 GB": ("A100", "paper", 1), "H200": ("H200", "paper", 1), "8 × H100": ("H100", "paper", 8)}


def measured(rows: Mapping[str, sweep.Row]) -> pd.DataFrame:
    """Seconds and peak memory (MB, of the notebook's process, and what torch held on the GPU) of each stage that a run of the sweep made itself, from its
    manifest; of a stage that was interrupted, those of its last session."""
    found = []
    for name, row in rows.items():
        stages = manifest(ROOT / row.params.outputs / name).get("stages", {})
        found += [{"run": name, "stage": stage, "seconds": entry["seconds"], "peak MB": entry.get("peak_mb", {}).get("process"),
                   "peak GPU MB": entry.get("peak_mb", {}).get("gpu"), "threads": entry.get("threads")}
                  for stage, entry in stages.items() if stage in sweep.MADE and "linked" not in entry]
    return pd.DataFrame(found, columns=["run", "stage", "seconds", "peak MB", "peak GPU MB", "threads"])


def hours(p: Params, **changes: float) -> dict[str, float]:
    """GPU hours of each stage of one run by ``ASSUMED``, with ``changes`` of it: 2 operations a parameter and token forward, 6
    forward and backward."""
    n, encoder, prompt, completion, peak, training, generation, start = (ASSUMED | changes).values()
    whole, e, g = prompt + completion, p.evaluation, p.grpo

    def generated(texts: float) -> float:
        return texts * completion * 2 * n / (peak * generation)

    rollouts, answers = g.max_steps * g.batch_size * g.gradient_accumulation, PAPER_COUNTS["answers"]
    seen = answers * (1 - p.dataset.dev_fraction - p.dataset.test_fraction) * p.reward_model.epochs
    asked = e.n_questions or PAPER_COUNTS["questions"] * p.dataset.test_fraction
    seconds = {
        "03_sft": p.coe.n_chains * p.sft.epochs * whole * 6 * n / (peak * training) + generated(2 * 200 * e.samples_per_question),
        "04_reward_model": seen * 3 * 512 * 6 * encoder / (peak * training) + generated(3 * 500),
        "05_grpo": generated(rollouts) + rollouts * whole * (6 + 2 + 2) * n / (peak * training),  # trained; old policy; reference
        "06_evaluation": generated((asked * e.samples_per_question + 2 * e.n_safety) * len(e.systems))}
    return {stage: (seconds.get(stage, 0) + 60 * start) / 3600 for stage in sweep.MADE}


def at_paper_scale() -> list[dict[str, Any]]:
    """The sweep on ``params/paper.yaml``: by stage, how often it runs, its GPU hours in a full run, and in all."""
    rows = sweep.rows("params/paper.yaml")
    made = sweep.owners({name: row.params for name, row in rows.items()})
    own = [(name, stage) for (name, stage), owner in made.items() if owner == name]
    each = {name: hours(row.params) for name, row in rows.items()}
    full, times = hours(load_params("params/paper.yaml")), Counter(stage for _, stage in own)
    return [{"stage": stage, "times": times[stage], "without sharing": len(rows), "hours in a full run": full[stage],
             "hours in the sweep": sum(each[name][stage] for name, s in own if s == stage)} for stage in sweep.MADE]


def step_seconds(kind: str, p: Params, folder: Path) -> float | None:
    """What a GRPO step of ``p`` took on one such GPU with prompts and completions of full length, by ``folder/gpu_grpo.json``
    (tests/benchmarks/gpu_grpo.py writes it); None where nobody has measured it."""
    said = json.loads((folder / "gpu_grpo.json").read_text()) if (folder / "gpu_grpo.json").exists() else {}
    used = {block: {key: value for key, value in getattr(p, block).model_dump().items() if key not in ("max_steps", "backend", "model")}
            for block in ("policy", "grpo")}
    same = said and said["shape"] == p.policy.model and re.search(rf"\b{kind}\b", said["machine"]["gpu"]) and all(
        said["params"][block] | values == said["params"][block] for block, values in used.items())
    return said["backends"].get(p.policy.backend, {}).get("seconds_a_step") if same else None


def on_gpus(folder: Path = ROOT / "outputs" / "reference" / "benchmarks") -> list[dict[str, Any]]:
    """What GRPO at the paper's number of steps, with as many questions in each, costs on each of ``GPUS`` with its profile:
    hours, from a measured step where ``folder`` has one for a single GPU, else extrapolated; and GiB on each GPU, planned.
    Several GPUs lose nothing to each other."""
    g, rows = load_params("params/paper.yaml").grpo, []
    planned: dict[Any, float] = {}
    for name, (kind, profile, count) in GPUS.items():
        own = load_params(f"params/{profile}.yaml").grpo
        p = load_params(f"params/{profile}.yaml", {
            "grpo.max_steps": g.max_steps, "grpo.gradient_accumulation": g.batch_size * g.gradient_accumulation // own.batch_size})
        step = step_seconds(kind, p, folder)
        took = hours(p, **{"peak of the GPU, bfloat16, FLOP/s": PEAKS[kind] * count,
                           "parameters of the policy": sum(w.numel() for key, w in memory.new_model(p).named_parameters() if "lora" not in key)})
        if (profile, count) not in planned:
            planned[profile, count] = memory.plan(many_gpus.share(p, count, ["grpo"]))[1]["total"] + memory.RESERVED
        rows.append({"GPU": name, "profile": profile, "model": p.policy.model, "in 4 bit": p.policy.load_in_4bit,
                     "GRPO steps": p.grpo.max_steps, "hours": p.grpo.max_steps * step / count / 3600 if step else took["05_grpo"],
                     "known": "measured step" if step and count == 1 else "extrapolation", "GiB on each": planned[profile, count] / 2**30})
    return rows
