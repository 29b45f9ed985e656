"""The paper's own stack: files by which LLaMA-Factory (SFT) and verl (GRPO on Ray) train what notebooks 03 and 05 train, with
the values of the same params. For llamafactory 0.9.5 and verl 0.9.1; ``make check-exports`` tries them on the real packages.
https://llamafactory.readthedocs.io, https://verl.readthedocs.io"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from empathy_lib import policy, sft
from empathy_lib.evaluation import references
from empathy_lib.params import Params
from empathy_lib.schema import Question, write_atomic, write_json

HERE = "${here}/"  # the folder of the export, which launch.sh names
NO_CLIP = 1e6  # verl bounds the loss of a bad answer besides, at clip_ratio_c × |A|; Eq. 2 does not


def llama_factory(chains: Sequence[dict[str, Any]], base: str | Path, folder: Path, params: Params) -> Path:
    """``coe.json``, ``dataset_info.json`` and ``sft.yaml`` in ``folder``, for ``llamafactory-cli train sft.yaml`` there (its
    paths are relative). Returns the path of the YAML. The chains are those that SFT sees, ``base`` is the model it starts from."""
    s, p = params.sft, params.policy
    rows = []
    for question, text in sft.texts(chains, params):
        system, user = policy.messages(question, params)
        rows.append({"instruction": user["content"], "input": "", "system": system["content"], "output": text})
    write_json(folder / "coe.json", rows)
    write_json(folder / "dataset_info.json", {"coe": {"file_name": "coe.json", "columns": {
        "prompt": "instruction", "query": "input", "response": "output", "system": "system"}}})
    lora = {"finetuning_type": "lora", "lora_rank": p.lora_rank, "lora_alpha": p.lora_alpha, "lora_dropout": 0.0,
            "lora_target": ",".join(policy.LORA_TARGETS)} if p.lora_rank else {"finetuning_type": "full"}
    return write_yaml(folder / "sft.yaml", {
        "stage": "sft", "do_train": True, "model_name_or_path": seen_from(folder, base), "trust_remote_code": False, **lora,
        **({"quantization_bit": 4, "quantization_method": "bnb"} if p.load_in_4bit else {}),
        "dataset": "coe", "dataset_dir": ".", "template": "qwen3", "enable_thinking": False,
        "cutoff_len": p.max_seq_length, "output_dir": "model", "num_train_epochs": float(s.epochs),
        "per_device_train_batch_size": s.batch_size, "gradient_accumulation_steps": s.gradient_accumulation,
        "learning_rate": s.learning_rate, "lr_scheduler_type": "cosine", "warmup_steps": s.warmup_steps, "weight_decay": 0.0,
        "bf16": p.dtype in ("bfloat16", "auto"), "fp16": p.dtype == "float16", "seed": params.seed, "data_seed": params.seed,
        "disable_gradient_checkpointing": not p.gradient_checkpointing, "save_steps": s.save_steps, "save_total_limit": 2,
        "logging_steps": 1, "report_to": "none"})


def verl(train: Sequence[Question], dev: Sequence[Question], start: Path, encoder: Path, threshold: float, folder: Path,
         params: Params) -> Path:
    """``train.parquet``, ``dev.parquet``, ``grpo.yaml`` (Hydra: verl's own configuration, and what differs from it) and
    ``launch.sh`` in ``folder``. Returns the path of the script. ``start`` is the merged SFT model, ``encoder`` and
    ``threshold`` the reward's. On a cluster the run's folder must lie in a file system that all machines share."""
    from datasets import Dataset
    g, p = params.grpo, params.policy
    for name, questions in (("train", train), ("dev", dev)):
        Dataset.from_list([row(q, i, name, params) for i, q in enumerate(questions)]).to_parquet(folder / f"{name}.parquet")
    write_yaml(folder / "params.yaml", params.model_dump())
    asked = g.batch_size * g.gradient_accumulation // g.num_generations
    room = p.max_seq_length - g.max_completion_tokens
    tokens = {"use_dynamic_bsz": True, "ppo_max_token_len_per_gpu": g.batch_size * p.max_seq_length}
    write_yaml(folder / "grpo.yaml", {
        "hydra": {"searchpath": ["pkg://verl.trainer.config"]}, "defaults": ["ppo_trainer", "_self_"], "here": ".",
        "data": {"train_files": HERE + "train.parquet", "val_files": HERE + "dev.parquet",
                 "train_batch_size": asked, "max_prompt_length": room, "max_response_length": g.max_completion_tokens,
                 "filter_overlong_prompts": True, "apply_chat_template_kwargs": {"enable_thinking": False}, "seed": params.seed},
        "algorithm": {"adv_estimator": "grpo", "norm_adv_by_std_in_grpo": g.scale_rewards == "group", "use_kl_in_reward": False},
        "actor_rollout_ref": {
            "model": {"path": HERE + seen_from(folder, start), "lora_rank": p.lora_rank, "lora_alpha": p.lora_alpha,
                      "target_modules": policy.LORA_TARGETS, "enable_gradient_checkpointing": p.gradient_checkpointing},
            "actor": {"optim": {"lr": g.learning_rate, "weight_decay": 0.0}, "ppo_mini_batch_size": asked, "ppo_epochs": 1,
                      "clip_ratio": g.epsilon, "clip_ratio_low": g.epsilon, "clip_ratio_high": g.epsilon,
                      "clip_ratio_c": NO_CLIP, "loss_agg_mode": "seq-mean-token-mean", "entropy_coeff": 0,
                      "use_kl_loss": True, "kl_loss_coef": g.beta, "kl_loss_type": "low_var_kl", "data_loader_seed": params.seed,
                      **tokens},
            "rollout": {"name": "vllm", "n": g.num_generations, "temperature": g.temperature, "top_p": 1.0, "seed": params.seed,
                        "tensor_model_parallel_size": 1, "load_format": "safetensors"}},
        "reward": {"custom_reward_function": {
            "path": "pkg://empathy_lib.verl_score", "name": "compute_score",
            "reward_kwargs": {"params": HERE + "params.yaml", "encoder": HERE + seen_from(folder, encoder), "threshold": threshold}}},
        "trainer": {"total_training_steps": g.max_steps, "total_epochs": -(-g.max_steps * asked // max(1, len(train))) + 1,
                    "save_freq": g.save_steps, "test_freq": g.save_steps, "logger": ["console"], "project_name": "empathy-r1",
                    "experiment_name": params.run, "default_local_dir": HERE + "checkpoints",
                    "nnodes": 1, "n_gpus_per_node": 1, "max_actor_ckpt_to_keep": 2}})
    script = folder / "launch.sh"
    write_atomic(script, LAUNCH)
    script.chmod(0o755)
    return script


LAUNCH = """#!/usr/bin/env bash
# GRPO by verl. One machine: NODES=1 GPUS=8 ./launch.sh. More: `ray start --head` on the first of them, `ray start
# --address=<its address>:6379` on the others, then this script on the first, with RAY_ADDRESS=auto and NODES=<how many>.
# Besides verl and vllm, the kit must be installed in that environment: pip install --no-deps -e <the kit>, and
# pip install sentence-transformers rapidfuzz
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec "${PYTHON:-python}" -m verl.trainer.main_ppo --config-path "$here" --config-name grpo here="$here" \\
  trainer.nnodes="${NODES:-1}" trainer.n_gpus_per_node="${GPUS:-8}" "$@"
"""


def row(question: Question, index: int, split: str, params: Params) -> dict[str, Any]:
    """One line of verl's parquet. ``ground_truth``: the reference answer; it is not scored against, the reward needs the
    question alone, which stands in ``extra_info``."""
    return {"data_source": "empathy-r1", "prompt": policy.messages(question.question, params), "ability": "support",
            "reward_model": {"style": "model", "ground_truth": references(question, params)[0]},
            "extra_info": {"split": split, "index": index, "question_id": question.question_id, "question": question.question}}


def seen_from(folder: Path, path: str | Path) -> str:
    """A file's or folder's relative path; a hub name as it is."""
    return os.path.relpath(path, folder) if Path(path).exists() else str(path)


def write_yaml(path: Path, values: dict[str, Any]) -> Path:
    write_atomic(path, OmegaConf.to_yaml(OmegaConf.create(values)))
    return path
