"""What gpu_sft.py and gpu_grpo.py share: random weights of a model's shape, data that fill every sequence, one training run in
a process of its own, and the comparison of several. Random weights take the same time as trained ones and need no download;
what they say means nothing. They seldom say the end token, so that every completion reaches its full length.

A process imports one backend only, because Unsloth patches TRL and Transformers for all that follows; the backends take turns,
so that a clock that falls as the card warms up slows all alike. What one run has said is written before the next begins."""

import argparse
import importlib.metadata
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np

from empathy_lib import BUNDLED, ROOT, demo_model, grpo, memory, policy, sft
from empathy_lib.coe import TAGS, render
from empathy_lib.params import Params, load_params
from empathy_lib.run import environment
from empathy_lib.schema import read_jsonl, read_questions, write_json, write_jsonl

CHILD = [sys.executable, str(Path(__file__).resolve())]
WARM_UP = 2  # steps not measured: kernels are compiled, the allocator finds its size
VOCABULARY, QUESTIONS = 8000, 32


def card() -> dict[str, Any]:
    """The GPU's name, and its memory in GiB."""
    import torch
    facts = torch.cuda.get_device_properties(0)
    return {"gpu": facts.name, "memory_gib": round(facts.total_memory / 2**30, 1)}


def has_gpu() -> bool:
    """Asked in the process that compares: it must not take a part of the GPU for itself."""
    import torch
    return torch.cuda.is_available()


def prepare(folder: Path, params: Params, chains: int, seed: int = 0) -> None:
    """``folder/base``: random weights of the shape of ``policy.model`` with the demo's tokenizer; ``chains.jsonl``, each longer
    than ``policy.max_seq_length``, where SFT cuts; ``questions.jsonl``, whose prompts leave just the room for a completion."""
    import torch
    p, questions = params.policy, [q for q in read_questions(BUNDLED / "questions.jsonl")[0] if q.split == "train"]
    bundled = read_jsonl(BUNDLED / "coe.jsonl")
    size = min(VOCABULARY, memory.shape(params).vocab_size - len(TAGS))
    tokenizer = demo_model.tokenizer([q.question for q in questions] + [render(sft.as_coe(c)) for c in bundled], size)
    torch.manual_seed(seed)
    whole = params.model_copy(update={"policy": p.model_copy(update={"lora_rank": 0, "gradient_checkpointing": False})})
    model = memory.new_model(whole, "cuda" if policy.on_gpu() else "cpu")
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")

    def length(text: str) -> int:
        return len(tokenizer(text).input_ids)

    def filled(text: str, tokens: int) -> str:
        """So much of the text, repeated, that its prompt has at most so many tokens, and hardly fewer."""
        text *= 1 + 4 * tokens // len(text)  # a token has fewer than four of these characters
        return text[:bisect_right(range(len(text)), tokens, key=lambda n: length(policy.prompt(tokenizer, text[:n], params))) - 1]

    asked = {q.question_id: q.question for q in questions}
    rows = [{"question": asked[c["question_id"]][:60]} | c for c in bundled if c["question_id"] in asked]
    write_jsonl(folder / "chains.jsonl", [
        row | {"answer": row["answer"] * (1 + p.max_seq_length // length(row["answer"]))} for row in itertools.islice(itertools.cycle(rows), chains)])
    room = p.max_seq_length - params.grpo.max_completion_tokens
    write_jsonl(folder / "questions.jsonl", [q.model_copy(update={"question": filled(q.question, room)}) for q in questions[:QUESTIONS]])


def longer(completions: list[str], **kwargs: Any) -> list[float]:
    """A reward that costs nothing and seldom gives a group equal values."""
    return [float(len(text)) for text in completions]


def trained(task: str, folder: Path, params: Params) -> dict[str, Any]:
    """One training run by the library's own functions, nothing saved: seconds of each step after the warm-up, tokens that went
    through the model at a step of SFT, the mean length of GRPO's completions, the losses, and the memory that PyTorch took."""
    policy.import_backend(params)  # before transformers
    import torch
    from transformers import TrainerCallback
    ends, tokens, logs = [], [], []

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            torch.cuda.reset_peak_memory_stats()  # loading is not training
            self.on_step_end(args, state, control)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    def fit(trainer: Any, *rest: Any) -> list[Any]:
        trainer.args.save_strategy = "no"
        trainer.add_callback(Clock())
        trainer.model.get_input_embeddings().register_forward_hook(lambda module, told, out: tokens.append(told[0].numel()))
        trainer.train()
        logs.extend(trainer.state.log_history)
        return []

    policy.fit, work = fit, folder / "work"  # the library makes its trainer inside
    if task == "sft":
        sft.train(read_jsonl(folder / "chains.jsonl"), folder / "base", work, params)
    else:
        grpo.train(read_questions(folder / "questions.jsonl")[0], [], folder / "base", [longer], work, params)
    seconds = np.diff(ends)
    lengths = [row["completions/mean_length"] for row in logs if "completions/mean_length" in row]
    return {"seconds": seconds[WARM_UP:].tolist(), "warm_up_seconds": seconds[:WARM_UP].tolist(),
            "tokens_a_step": sum(tokens) / len(seconds) if task == "sft" else None,
            "mean_completion_tokens": float(np.mean(lengths)) if lengths else None,
            "losses": [row["loss"] for row in logs if "loss" in row],
            "peak_allocated": torch.cuda.max_memory_allocated(), "peak_reserved": torch.cuda.max_memory_reserved()}


def in_a_process(task: str, folder: Path, overrides: dict[str, Any], chains: int = 0) -> dict[str, Any]:
    """``prepare`` or ``trained`` in a fresh process: what it returned, or its last words as ``error``."""
    out, told = folder / "said.json", folder / f"{task}.log"
    out.unlink(missing_ok=True)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with open(told, "w", encoding="utf-8") as log:  # Unsloth writes what it compiles into the working folder
        code = subprocess.run([*CHILD, json.dumps([task, str(folder), overrides, chains])], cwd=folder, stdout=log, stderr=log,
                              env=os.environ | {"PYTHONPATH": path}).returncode
    if code == 0:
        return json.loads(out.read_text())
    return {"error": f"exit {code}: " + "\n".join(told.read_text("utf-8", errors="replace").splitlines()[-15:])}


def child(task: str, folder: str, overrides: dict[str, Any], chains: int) -> None:
    params, said = load_params(ROOT / "params" / "paper.yaml", overrides), {}
    if task == "prepare":
        prepare(Path(folder), params, chains)
        names = {d.name.lower() for d in importlib.metadata.distributions()} & {"bitsandbytes", "vllm", "unsloth_zoo", "xformers", "flash-attn", "triton"}
        found = environment()
        said = {"machine": card() | found["machine"], "commit": found["commit"],
                "versions": found["versions"] | {name: importlib.metadata.version(name) for name in sorted(names)}}
    else:
        said = trained(task, Path(folder), params)
    write_json(Path(folder) / "said.json", said)


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all runs of a backend together: median and spread of the seconds a step, the memory of the hungriest."""
    whole = [run for run in runs if "error" not in run]
    if not whole:
        return {"runs": runs}
    seconds = [s for run in whole for s in run["seconds"]]
    return {"seconds_a_step": float(np.median(seconds)), "quartiles": np.percentile(seconds, [25, 75]).tolist(),
            "fastest": min(seconds), "slowest": max(seconds), "steps": len(seconds),
            "peak_gib": max(run["peak_allocated"] for run in whole) / 2**30,
            "peak_reserved_gib": max(run["peak_reserved"] for run in whole) / 2**30, "runs": runs}


def arguments(doc: str, name: str, steps: int) -> argparse.Namespace:
    """The command line of both benchmarks."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--shape", default="Qwen/Qwen3-8B", help="a name in empathy_lib/bundled/qwen3.yaml, or a folder with a config.json")
    parser.add_argument("--steps", type=int, default=steps, help=f"measured steps of each run, after {WARM_UP} others")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each backend, in turns")
    parser.add_argument("--overrides", type=json.loads, default={}, help="of params/paper.yaml, as JSON: for a smaller GPU")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/reference/benchmarks" / f"{name}.json")
    asked = parser.parse_args()
    if min(asked.steps, asked.rounds) < 1:
        parser.error("--steps and --rounds: at least 1")
    if not has_gpu():
        raise SystemExit("This benchmark needs a GPU that torch can use (torch.cuda.is_available() is false here). Nothing was measured.")
    return asked


def compare(task: str, asked: argparse.Namespace, variants: dict[str, dict[str, Any]], figures: Any, result: dict[str, Any]) -> dict[str, Any]:
    """Run the variants (name: overrides) in turns and write ``result`` after each; ``figures(result, params)`` adds to it what
    can be told so far, and prints it. A variant that fails is recorded with its error and not run again."""
    shape = str(Path(asked.shape).resolve()) if Path(asked.shape).is_dir() else asked.shape
    every = {"policy.model": shape, "sft.epochs": 1, "grpo.max_steps": WARM_UP + asked.steps} | asked.overrides
    params, runs = load_params(ROOT / "params" / "paper.yaml", every), {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = in_a_process("prepare", folder, every, (WARM_UP + asked.steps) * params.sft.batch_size * params.sft.gradient_accumulation)
        if "error" in made:
            raise SystemExit(f"The random weights could not be made; nothing was measured.\n{made['error']}")
        used = {block: getattr(params, block).model_dump() for block in ("policy", task)}
        del used["policy"]["backend"], used["policy"]["model"]  # ``shape`` names it
        result |= {"shape": asked.shape, "weights": "random", "params": used, "warm_up": WARM_UP, **made}
        for round_, (variant, overrides) in itertools.product(range(asked.rounds), variants.items()):
            if any("error" in run for run in runs[variant]):
                continue
            print(f"{task}, round {round_ + 1} of {asked.rounds}: {variant} ...", flush=True)
            runs[variant].append(in_a_process(task, folder, every | overrides))
            if error := runs[variant][-1].get("error"):
                print(f"{variant} failed, the others go on:\n{error}", flush=True)
            result["backends"] = {each: summary(those) for each, those in runs.items() if those}
            figures(result, params)
            write_json(asked.out, result)
    print(f"written: {asked.out}")
    return result


if __name__ == "__main__":
    child(*json.loads(sys.argv[1]))
