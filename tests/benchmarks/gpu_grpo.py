"""GRPO on a GPU at the paper's scale: Unsloth (with and without vLLM) against plain Transformers + PEFT + TRL, side by side.

    python tests/benchmarks/gpu_grpo.py [--shape Qwen/Qwen3-8B] [--steps 4]

Random weights of the shape (16 GB of disk for 8B, in TMPDIR), LoRA, group and batch as in params/paper.yaml; see gpu.py. It
writes outputs/reference/benchmarks/gpu_grpo.json. A step is everything from one optimizer step to the next: rollouts, rewards
(here the completion's length, which costs nothing), reference, update. Prompts fill the room that ``policy.max_seq_length``
leaves, and completions reach ``grpo.max_completion_tokens``, because random weights choose the end token once in some 150,000;
``mean_completion_tokens`` says whether they did. A trained policy stops earlier, and its steps are shorter.
``tokens_a_second``: of the completions alone, over the whole median step. vLLM is tried where it is installed."""

import importlib.util
from typing import Any

import gpu

from empathy_lib.params import Params

GOALS = {"times_faster": 2.0}  # at least: Unsloth's faster variant against plain


def variants() -> tuple[dict[str, dict[str, Any]], str]:
    """Name and overrides of what can be compared here; what is not, and why."""
    found = {name: {"policy.backend": name, "grpo.fast_inference": False} for name in ("unsloth", "transformers")}
    if not importlib.util.find_spec("vllm"):
        return found, "Unsloth with vLLM: vllm is not installed"
    return {"unsloth_vllm": {"policy.backend": "unsloth", "grpo.fast_inference": True}} | found, ""


def figures(result: dict[str, Any], params: Params) -> None:
    """Tokens a second of each variant, and how much faster Unsloth's are."""
    backends, completions = result["backends"], params.grpo.batch_size * params.grpo.gradient_accumulation
    for name, b in backends.items():
        if "seconds_a_step" not in b:
            continue
        b["mean_completion_tokens"] = next(run["mean_completion_tokens"] for run in b["runs"] if "error" not in run)
        b["tokens_a_second"] = completions * b["mean_completion_tokens"] / b["seconds_a_step"]
        print(f"{name}: {b['seconds_a_step']:.2f} s a step (quartiles {b['quartiles'][0]:.2f} to {b['quartiles'][1]:.2f}, "
              f"{b['steps']} steps), {b['tokens_a_second']:.0f} completion tokens/s, {b['mean_completion_tokens']:.0f} tokens a "
              f"completion (at most {params.grpo.max_completion_tokens}), {b['peak_gib']:.1f} GiB at most", flush=True)
    plain = backends.get("transformers", {}).get("seconds_a_step")
    result["times_faster"] = {name: plain / b["seconds_a_step"] for name, b in backends.items()
                              if plain and name != "transformers" and "seconds_a_step" in b}


def main() -> None:
    asked = gpu.arguments(__doc__, "gpu_grpo", 4)
    compared, missing = variants()
    result = gpu.compare("grpo", asked, compared, figures, {"goals": GOALS, "left_out": missing or None})
    times = ", ".join(f"{name} {value:.2f}" for name, value in result["times_faster"].items()) or "not measured"
    print(f"times faster than plain: {times} (goal: at least {GOALS['times_faster']}){'; ' if missing else ''}{missing}")


if __name__ == "__main__":
    main()
