"""SFT and GRPO on all GPUs of one host, one process a GPU (DDP). Run the notebooks before the stage, then this, then the stage's
own notebook, which finds the model: all with the same params. Killed, the same command goes on from the newest checkpoint. Of GRPO's log,
``distinct_1`` and ``navg`` are means over the processes' parts of a batch.

``torchrun --nproc-per-node 8 -m empathy_lib.many_gpus 03_sft params/paper.yaml '{"policy.backend": "transformers"}'``"""

import json
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from math import gcd

from accelerate import PartialState

from empathy_lib import demo_model, grpo, policy, reward_model, rewards, sft
from empathy_lib.params import Params, ParamsError, load_params
from empathy_lib.run import Run
from empathy_lib.schema import read_jsonl, read_questions

BLOCKS = {"03_sft": ("demo_model", "sft"), "05_grpo": ("grpo",)}  # whose batches each stage trains on


def share(params: Params, processes: int, blocks: Sequence[str] = ("demo_model", "sft", "grpo")) -> Params:
    """The parameters of one of ``processes``, so that all together see as many chains or completions an update as one alone:
    ``gradient_accumulation`` is divided first, then ``batch_size``; ValueError where that leaves a remainder."""
    shared = {}
    for name in blocks:
        if block := getattr(params, name):
            accumulation = getattr(block, "gradient_accumulation", 1)  # the demo's base has none
            rest = processes // gcd(accumulation, processes)
            if block.batch_size % rest:
                raise ValueError(f"{name}.batch_size: {block.batch_size} (gradient accumulation {accumulation}) cannot be "
                                 f"shared by {processes} processes: make it a multiple of {rest}, or start another number of them")
            parts = {"batch_size": block.batch_size // rest, "gradient_accumulation": accumulation * rest // processes}
            shared[name] = block.model_copy(update={key: n for key, n in parts.items() if hasattr(block, key)})
    return params.model_copy(update=shared)


def train(stage: str, params: Params) -> None:
    """Train ``stage`` into its folder, as one of the processes that torchrun started; rank 0 alone writes and prints."""
    # Unsloth documents DDP but has yet to announce official support (https://unsloth.ai/docs/basics/multi-gpu-training-with-unsloth),
    # and GRPO was reported to hang under it (https://github.com/unslothai/unsloth/issues/4559): here it is plain TRL.
    if params.policy.backend != "transformers":
        raise ParamsError(f"policy.backend: {params.policy.backend} is for one GPU here; set it to transformers for the whole run")
    if not policy.on_gpu():  # as in the tests; Accelerate's own "cpu:0" is no place that torch.load knows on resuming
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    # Rank 0 merges and saves a model while the others wait: longer than the ten minutes that NCCL would give it.
    state = PartialState(cpu=not policy.on_gpu(), timeout=timedelta(hours=1))
    run, part = Run(params), share(params, state.num_processes, BLOCKS[stage])
    data, folder = run.dir / "01_dataset", run.dir / stage
    if state.is_main_process:
        run.begin(stage)  # the lock is rank 0's; it ends with the process, and the notebook takes it
    else:
        sys.stdout = open(os.devnull, "w")
    state.wait_for_everyone()
    questions, dev = (read_questions(data / f"{name}.jsonl")[0] for name in ("train", "dev"))
    if stage == "03_sft":
        chains, base = read_jsonl(run.dir / "02_coe" / "coe.jsonl"), policy.base(params, run.dir)
        if params.policy.model == "demo":
            demo_model.build(questions, chains, base, part)
        sft.train(chains, base, folder, part)
    else:
        encoder = reward_model.load(run.dir / "04_reward_model" / "model")
        functions = rewards.reward_functions(encoder, rewards.threshold(params, run.metrics("04_reward_model")), params)
        grpo.train(questions, dev, run.dir / "03_sft" / "model", functions, folder, part)
    state.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in BLOCKS:
        sys.exit(f"many_gpus: name the stage ({' or '.join(BLOCKS)}), the params file and, if any, the overrides as JSON")
    train(sys.argv[1], load_params(sys.argv[2], json.loads((sys.argv + ["{}"])[3])))
