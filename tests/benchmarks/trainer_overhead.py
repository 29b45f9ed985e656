"""What the kit costs over a bare TRL script with the same model, data and arguments: the step time of SFT and of GRPO.

    python tests/benchmarks/trainer_overhead.py MODEL_FOLDER out.json [--steps N]

MODEL_FOLDER is the demo model after SFT; the rest is params/demo.yaml. Kit and bare train in processes of their own that
take turns step by step, so that a busy machine slows both alike; N GRPO steps or 10 N SFT steps, PAIRS times. Generation,
rewards, logging, checkpoints and every callback count; the first WARM_UP steps do not. Where other programs run beside it,
OMP_NUM_THREADS=1 steadies the figures: threads that lose their core in the middle of a sum make the others wait.
The bare side writes no log of completions and describes none: that is the kit's own choice, and counts as its overhead.
The looks at the dev split, which the kit takes at checkpoints, are left out: they are evaluation, not steps.

Figures: ``ratio``: median step of the kit over the bare script's, with a 95 % bootstrap interval (pairs and step numbers
are redrawn; a step number means the same work on both sides); ``ratio_of_means``, which occasional work moves too;
``ratio_of_cpu``: of the medians of processor time; ``largest_difference`` of the sides at any step (0: equal to the last
bit); ``arguments_that_differ``: [kit, bare]; ``reward_share``: the reward functions' share of the kit's GRPO steps.
"""

import argparse
import functools
import json
import multiprocessing
import os
import platform
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path

import numpy as np

from empathy_lib import ROOT, dataset, grpo, policy, reward_model, rewards, sft, teacher
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl, read_questions, write_json, write_jsonl

PAIRS, WARM_UP, SIDES = 3, 2, ("kit", "bare")
GOALS = {"ratio": 1.05, "reward_share": .05}


def bare(task: str, name: str, rows, functions: list, folder: str):
    """The trainer of a plain script, the values of params/demo.yaml written out; nothing here imports Unsloth."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    both = dict(output_dir=folder, seed=42, data_seed=42, report_to="none", logging_steps=1, bf16=False, fp16=False,
                save_strategy="steps", save_total_limit=2, gradient_accumulation_steps=1, gradient_checkpointing=False)
    if task == "sft":
        config = SFTConfig(**both, num_train_epochs=8, per_device_train_batch_size=4, learning_rate=2e-3, warmup_steps=10,
                           lr_scheduler_type="cosine", save_steps=100, completion_only_loss=True, max_length=512)
        return SFTTrainer(model=model, processing_class=tokenizer, args=config,
                          train_dataset=Dataset.from_list(rows(tokenizer)))
    config = GRPOConfig(**both, max_steps=52, per_device_train_batch_size=64, num_generations=4, learning_rate=3e-4,
                        lr_scheduler_type="constant", save_steps=13, beta=0.01, epsilon=0.2, loss_type="grpo",
                        use_bias_correction_kl=False, scale_rewards="group", num_iterations=1, temperature=1.0,
                        max_completion_length=160)
    return GRPOTrainer(model=model, processing_class=tokenizer, reward_funcs=functions, args=config,
                       train_dataset=Dataset.from_list(rows(tokenizer)))


def take_turns(trainer, turn, steps: int, spent: list[float]) -> None:
    """Have the trainer wait for its turn before each step, and send what the step took: seconds, of processor, of rewards."""
    from transformers import TrainerCallback

    class Turns(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            turn.send("ready")
            self.wait()

        def on_step_end(self, args, state, control, **kwargs):
            turn.send([now - then for now, then in zip(self.clocks(), self.before)])
            control.should_training_stop |= state.global_step >= steps  # max_steps would change the schedule
            self.wait()

        def wait(self):
            turn.recv()
            self.before = self.clocks()

        def clocks(self):
            return time.perf_counter(), time.process_time(), spent[0]

    trainer.add_callback(Turns())


def train(side: str, task: str, model: str, data: Path, turn, steps: int) -> None:
    """One side, in this process; last, it sends the trainer's log and arguments."""
    params, spent, made, fit = load_params(ROOT / "params" / "demo.yaml"), [0.], [], policy.fit

    def timed(function):
        @functools.wraps(function)  # TRL logs a reward under the function's name
        def call(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            spent[0] += time.perf_counter() - start
            return result
        return call

    def watched(trainer, *rest):
        made.append(trainer)
        take_turns(trainer, turn, steps, spent)
        return fit(trainer, *rest) if rest else trainer.train()

    def rows(tokenizer):
        return sft.rows(chains, tokenizer, params) if task == "sft" else [
            {"prompt": policy.prompt(tokenizer, q.question, params), "question": q.question} for q in questions]

    policy.fit = watched  # the kit makes its trainer inside
    chains, questions = read_jsonl(data / "chains.jsonl"), read_questions(data / "questions.jsonl")[0]
    threshold = rewards.threshold(params, {"best_threshold": {"T": 0.}})  # of this encoder, which is untrained, none is best
    functions = list(map(timed, rewards.reward_functions(reward_model.load(data / "encoder"), threshold, params)))
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, \
            redirect_stdout(nowhere), redirect_stderr(nowhere):  # bars and tables are drawn, on both sides, and not shown
        if side == "bare":
            watched(bare(task, model, rows, functions, folder))
        elif task == "sft":
            sft.train(chains, model, Path(folder), params)
        else:
            grpo.train(questions, [], model, functions, Path(folder), params)
    turn.send({"arguments": json.loads(made[0].args.to_json_string()), "log": [
        {k: row[k] for k in ("loss", "grad_norm", "reward") if k in row} for row in made[0].state.log_history if "loss" in row]})


def pair(task: str, model: str, data: Path, steps: int) -> tuple[list, list]:
    """Both sides in turn: [side][step] of (seconds, of processor, of rewards), and what each side sent at its end."""
    spawn, turns, times = multiprocessing.get_context("spawn"), [], [[], []]
    for side in SIDES:
        ours, theirs = spawn.Pipe()
        spawn.Process(target=train, args=(side, task, model, data, theirs, steps)).start()
        theirs.close()
        turns.append(ours)
    try:
        for turn in turns:
            turn.recv()
        for step in range(steps):
            for i in (0, 1) if step % 2 else (1, 0):  # neither is always the first
                turns[i].send("go")
                times[i].append(turns[i].recv())
        for turn in turns:  # only now, or one would save its model beside the other's last step
            turn.send("go")
        return times, [turn.recv() for turn in turns]
    except (EOFError, ConnectionError):
        raise SystemExit(f"{task}: a side failed; its traceback is above") from None
    finally:
        for turn in turns:
            turn.close()  # ends a side that waits
        for process in multiprocessing.active_children():
            process.join()


def figures(times: list, ends: list) -> dict:
    """What all pairs of a task say; ``times``: [pair][side][step][clock]."""
    seconds, cpu, spent = np.moveaxis(np.array(times)[:, :, WARM_UP:], -1, 0)  # each [pair, side, step]
    rng, (pairs, _, steps) = np.random.default_rng(0), seconds.shape
    draws = np.array([np.median(seconds[rng.integers(pairs, size=pairs)][..., rng.integers(steps, size=steps)], axis=(0, 2))
                      for _ in range(2000)])
    kit, plain = np.median(seconds, axis=(0, 2))
    here, there = (ends[0][side]["arguments"] for side in (0, 1))
    return {
        "ratio": kit / plain, "ci95": np.quantile(draws[:, 0] / draws[:, 1], (.025, .975)).tolist(),
        "ratio_of_means": seconds[:, 0].mean() / seconds[:, 1].mean(),
        "ratio_of_cpu": np.divide(*np.median(cpu, axis=(0, 2))), "kit_seconds": kit, "bare_seconds": plain,
        "reward_share": spent[:, 0].sum() / seconds[:, 0].sum() if spent.any() else None, "pairs": pairs, "steps": steps,
        "largest_difference": {key: max(abs(x[key] - y[key]) for a, b in ends for x, y in zip(a["log"], b["log"], strict=True))
                               for key in ends[0][0]["log"][0]},
        "arguments_that_differ": {key: [here[key], there[key]] for key in here
                                  if here[key] != there[key] and key != "output_dir"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=12, choices=range(WARM_UP + 1, 41), metavar="N", help="3 to 40")
    arguments = parser.parse_args()
    cpuinfo = Path("/proc/cpuinfo")  # on Linux platform.processor() is only the architecture
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")] + [platform.processor()]
    params, result = load_params(ROOT / "params" / "demo.yaml"), {"goals": GOALS, "machine": {
        "processor": names[0], "cores": os.cpu_count(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "load_before": round(os.getloadavg()[0], 2), "python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "trl", "unsloth")}}
    with tempfile.TemporaryDirectory() as name:
        data, train_split = Path(name), dataset.build(params.dataset, params.language, params.seed).splits["train"]
        write_jsonl(data / "questions.jsonl", train_split)
        write_jsonl(data / "chains.jsonl", teacher.bundled_chains(train_split, params)[0])
        texts = [text for q in train_split for text in (q.question, *(a.text for a in q.answers))]
        reward_model.new_encoder(params, texts).save(str(data / "encoder"))  # trained, it would cost the same
        for task, steps in (("sft", 10 * arguments.steps), ("grpo", arguments.steps)):
            times, ends = [], []
            for number in range(PAIRS):
                for results, new in zip((times, ends), pair(task, str(arguments.model.resolve()), data, steps)):
                    results.append(new)
                f = result[task] = figures(times, ends)
                share = f"{f['reward_share']:.2%} of the kit's in rewards; " if f["reward_share"] else ""
                print(f"{task}, {number + 1} of {PAIRS} pairs: kit {f['kit_seconds']:.3f} s a step, bare "
                      f"{f['bare_seconds']:.3f} s, ratio {f['ratio']:.3f} (95 % interval {f['ci95'][0]:.3f} to "
                      f"{f['ci95'][1]:.3f}), of processor time {f['ratio_of_cpu']:.3f}; {share}"
                      f"largest differences {f['largest_difference']}", flush=True)
                write_json(arguments.out, result)
    print("goals, at most:", GOALS)


if __name__ == "__main__":
    main()
