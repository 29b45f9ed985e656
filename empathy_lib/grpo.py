r"""GRPO: reinforcement learning against the group's own mean (TRL's GRPOTrainer).

Advantage (Eq. 1): ``A_i = (r_i - mean(r)) / std(r)`` over the G completions of one question. Objective (Eq. 2): the
clipped ratio times the advantage, minus beta times the KL to the SFT reference. TRL's defaults are another loss, so
``arguments`` sets ``loss_type="grpo"`` and ``use_bias_correction_kl=False``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lib import policy
from empathy_lib.params import Params
from empathy_lib.run import building, checkpoint
from empathy_lib.schema import write_jsonl


def arguments(params: Params, folder: Path) -> Any:
    """TRL's configuration for Eq. 1 and Eq. 2 with the values of ``params.grpo``."""
    from trl import GRPOConfig

    g = params.grpo
    return GRPOConfig(
        **policy.trainer_arguments(params, folder, g.save_steps), max_steps=g.max_steps,
        num_generations=g.num_generations, per_device_train_batch_size=g.batch_size,
        gradient_accumulation_steps=g.gradient_accumulation, learning_rate=g.learning_rate,
        lr_scheduler_type="constant", beta=g.beta, epsilon=g.epsilon, temperature=g.temperature,
        max_completion_length=g.max_completion_tokens, loss_type="grpo", use_bias_correction_kl=False,
        scale_rewards="group", num_iterations=1, log_completions=True, num_completions_to_print=0,
        gradient_checkpointing=params.policy.gradient_checkpointing)


def train(questions: Sequence[str], start: str | Path, reward_functions: list[Any], folder: Path,
          params: Params) -> list[dict[str, Any]]:
    """Optimise the policy ``start`` (the merged SFT model, also the KL reference) into ``folder/model``.

    Goes on from a checkpoint. Each step's completions, rewards and advantages are kept by TRL in
    ``folder/completions/*.parquet``. Questions whose prompt leaves no room for a completion are left out and counted.

    Returns:
        The training log, one dict a step (also ``folder/log.jsonl``).

    Raises:
        ValueError: fewer questions are left than one step needs.
    """
    model, tokenizer = policy.load(start, params, train=True)
    from datasets import Dataset
    from trl import GRPOTrainer

    rows = [{"prompt": policy.prompt(tokenizer, q, params), "question": q} for q in questions]
    rows = [row for row in rows if policy.fits(tokenizer, row["prompt"], params)]
    if len(rows) < len(questions):
        print(f"{len(questions) - len(rows)} of {len(questions)} questions are too long for policy.max_seq_length")
    needed = params.grpo.batch_size * params.grpo.gradient_accumulation // params.grpo.num_generations
    if len(rows) < needed:
        raise ValueError(f"GRPO needs {needed} questions a step and has {len(rows)}: lower grpo.batch_size or "
                         "raise dataset.max_questions or policy.max_seq_length")
    trainer = GRPOTrainer(model=model, processing_class=tokenizer, reward_funcs=reward_functions,
                          args=arguments(params, folder), train_dataset=Dataset.from_list(rows))
    trainer.train(resume_from_checkpoint=checkpoint(folder))
    log = policy.history(trainer)
    write_jsonl(folder / "log.jsonl", log)
    if not (folder / "model").exists():
        with building(folder / "model") as target:
            policy.save(trainer.model, tokenizer, target, params)
    return log
