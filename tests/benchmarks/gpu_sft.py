"""SFT on a GPU at the paper's scale: Unsloth against plain Transformers + PEFT + TRL, side by side.

    python tests/benchmarks/gpu_sft.py [--shape Qwen/Qwen3-8B] [--steps 10]

Random weights of the shape (16 GB of disk for 8B, in TMPDIR), LoRA and batch as in params/paper.yaml, every sequence as long as
``policy.max_seq_length``; see gpu.py. It writes outputs/reference/benchmarks/gpu_sft.json. A step is everything from one
optimizer step to the next. ``tokens_a_second``: of all tokens that enter the model, at the median step.

MFU is the arithmetic that the step needs, over what the GPU could do in that time (dense, by NVIDIA's data sheets). Let N be
the weights that multiply each token: all matrices and the output head, not the embedding, which is looked up.
``mfu``: 4 N a token, 2 forward and 2 backward to the activations (frozen weights need no gradient of their own); 6 for each of
the adapters' weights; attention 6 × length × heads × head_dim × layers, that is 2 forward and 4 backward, each position
seeing half of the sequence on average. ``mfu_6n``: the conventional 6 N, as if all were trained, without attention.
What gradient checkpointing computes again is in neither."""

import re
from typing import Any

import gpu

from empathy_lib import memory
from empathy_lib.costs import PEAKS
from empathy_lib.params import Params

GOALS = {"mfu": .40, "times_faster": 1.5}  # at least: Unsloth's MFU, and against plain


def peak(name: str) -> float | None:
    """FLOP/s of the GPU of that name; None where it is not known here."""
    return next((value for kind, value in PEAKS.items() if re.search(rf"\b{kind}\b", name)), None)


def flops_a_token(params: Params) -> dict[str, float]:
    """By both formulas above, with the parts of the first."""
    model, length = memory.new_model(params), params.policy.max_seq_length
    c = model.config
    adapters = sum(w.numel() for w in model.parameters() if w.requires_grad)
    head = model.get_output_embeddings().weight.numel()
    layers = sum(w.numel() for name, w in model.named_parameters() if w.dim() == 2 and ".layers." in name and not w.requires_grad)
    attention = 6 * length * c.num_attention_heads * c.head_dim * c.num_hidden_layers
    n = layers + head
    return {"N": n, "adapters": adapters, "attention": attention, "mfu": 4 * n + 6 * adapters + attention, "mfu_6n": 6 * n}


def figures(result: dict[str, Any], params: Params) -> None:
    """Tokens a second and MFU of each backend, and how much faster Unsloth is."""
    most, needed, backends = peak(result["machine"]["gpu"]), flops_a_token(params), result["backends"]
    result |= {"peak_flops": most, "flops_a_token": needed}
    for name, b in backends.items():
        if "seconds_a_step" not in b:
            continue
        b["tokens_a_step"] = next(run["tokens_a_step"] for run in b["runs"] if "error" not in run)
        b["tokens_a_second"] = b["tokens_a_step"] / b["seconds_a_step"]
        for key in ("mfu", "mfu_6n"):
            b[key] = b["tokens_a_second"] * needed[key] / most if most else None
        shares = f"MFU {b['mfu']:.1%}, by 6 N {b['mfu_6n']:.1%}" if most else "MFU unknown: this GPU's peak is not listed"
        print(f"{name}: {b['seconds_a_step']:.2f} s a step (quartiles {b['quartiles'][0]:.2f} to {b['quartiles'][1]:.2f}, "
              f"{b['steps']} steps), {b['tokens_a_second']:.0f} tokens/s, {shares}, {b['peak_gib']:.1f} GiB at most", flush=True)
    times = [backends.get(name, {}).get("seconds_a_step") for name in ("transformers", "unsloth")]
    result["times_faster"] = times[0] / times[1] if all(times) else None


def main() -> None:
    asked = gpu.arguments(__doc__, "gpu_sft", 10)
    variants = {name: {"policy.backend": name} for name in ("unsloth", "transformers")}
    result = gpu.compare("sft", asked, variants, figures, {"goals": GOALS})
    share, times = result["backends"]["unsloth"].get("mfu"), result["times_faster"]
    print(f"Unsloth's MFU: {f'{share:.1%}' if share else 'not measured'} (goal: at least {GOALS['mfu']:.0%}); "
          f"times faster than plain: {f'{times:.2f}' if times else 'not measured'} (goal: at least {GOALS['times_faster']})")


if __name__ == "__main__":
    main()
