"""GRPO: reinforcement learning against the group's own mean (TRL's GRPOTrainer).
Advantage (Eq. 1): ``A_i = (r_i - mean(r)) / std(r)`` over the G completions of one question. Objective (Eq. 2): the
clipped ratio times the advantage, minus beta times the KL to the SFT reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lib import policy
from empathy_lib.params import Params


def arguments(params: Params, folder: Path) -> Any:
    """TRL's configuration for Eq. 1 and Eq. 2 (its default is another loss) with the values of ``params.grpo``."""
    from trl import GRPOConfig
    g = params.grpo
    return GRPOConfig(
        **policy.trainer_arguments(params, folder, g), max_steps=g.max_steps, save_steps=g.save_steps, beta=g.beta,
        epsilon=g.epsilon, loss_type="grpo", use_bias_correction_kl=False, scale_rewards="group", num_iterations=1,
        num_generations=g.num_generations, temperature=g.temperature, max_completion_length=g.max_completion_tokens,
        gradient_checkpointing=params.policy.gradient_checkpointing, lr_scheduler_type="constant",
        gradient_accumulation_steps=g.gradient_accumulation, log_completions=True, num_completions_to_print=0)


def train(questions: Sequence[str], start: str | Path, reward_functions: list[Any], folder: Path,
          params: Params) -> list[dict[str, Any]]:
    """Optimise ``start`` (the merged SFT model, also the KL reference) into ``folder/model``; resumes; returns the log.
    Questions too long for a whole completion are left out; ValueError where fewer are left than a step needs."""
    model, tokenizer = policy.load(start, params, train=True)  # before trl: Unsloth must be imported first
    from datasets import Dataset
    from trl import GRPOTrainer
    g, room = params.grpo, params.policy.max_seq_length - params.grpo.max_completion_tokens
    rows = [{"prompt": policy.prompt(tokenizer, q, params), "question": q} for q in questions]
    rows = [row for row in rows if len(tokenizer(row["prompt"]).input_ids) <= room]
    if len(rows) < len(questions):
        print(f"{len(questions) - len(rows)} of {len(questions)} questions are too long for policy.max_seq_length")
    needed = g.batch_size * g.gradient_accumulation // g.num_generations
    if len(rows) < needed:
        raise ValueError(f"GRPO needs {needed} questions a step and has {len(rows)}: lower grpo.batch_size or raise "
                         "dataset.max_questions or policy.max_seq_length")
    trainer = GRPOTrainer(model=model, processing_class=tokenizer, reward_funcs=reward_functions,
                          args=arguments(params, folder), train_dataset=Dataset.from_list(rows))
    return policy.fit(trainer, folder / "model", lambda target: policy.save(trainer.model, tokenizer, target, params))
