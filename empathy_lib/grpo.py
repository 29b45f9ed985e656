"""GRPO: reinforcement learning against the group's own mean (TRL's GRPOTrainer).
Advantage (Eq. 1): ``A_i = (r_i - mean(r)) / std(r)`` over the G completions of one question. Objective (Eq. 2): the
clipped ratio times the advantage, minus beta times the KL to the SFT reference."""

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from empathy_lib import policy
from empathy_lib.evaluation import TOKENIZERS, references
from empathy_lib.params import Params
from empathy_lib.schema import Question, write_json

DEV_QUESTIONS = 32  # looked at every save_steps, one completion each: enough to see a fall, cheap enough to keep


def arguments(params: Params, folder: Path) -> Any:
    """TRL's configuration for Eq. 1 and Eq. 2 (its default is another loss) with the values of ``params.grpo``."""
    from trl import GRPOConfig
    g = params.grpo
    return GRPOConfig(
        **policy.trainer_arguments(params, folder, g), max_steps=g.max_steps, save_steps=g.save_steps, beta=g.beta,
        epsilon=g.epsilon, loss_type="grpo", use_bias_correction_kl=False, scale_rewards=g.scale_rewards, num_iterations=1,
        num_generations=g.num_generations, temperature=g.temperature, max_completion_length=g.max_completion_tokens,
        gradient_checkpointing=params.policy.gradient_checkpointing, lr_scheduler_type="constant",
        gradient_accumulation_steps=g.gradient_accumulation, log_completions=True, num_completions_to_print=0,
        eval_steps=g.save_steps, per_device_eval_batch_size=g.batch_size, num_generations_eval=1)


def make_trainer(questions: Sequence[Question], dev: Sequence[Question], start: str | Path, rewards: list[Any],
                 params: Params, config: Any) -> tuple[Any, Any]:
    """TRL's trainer of ``start`` on the questions that leave room for a whole completion, and the tokenizer; ValueError
    where fewer are left than a step needs."""
    model, tokenizer = policy.load(start, params, train=True, vllm=params.grpo.fast_inference)  # before trl: Unsloth must be imported first
    from datasets import Dataset
    from trl import GRPOTrainer

    class Trainer(GRPOTrainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> Any:  # TRL's would write dev's completions over the step's rollouts
            kept, self._logs, self.log_completions = self._logs, copy.deepcopy(self._logs), False
            try:
                return super().evaluate(*args, **kwargs)
            finally:
                self._logs, self.log_completions = kept, self.args.log_completions

    room = params.policy.max_seq_length - params.grpo.max_completion_tokens

    def rows(part: Sequence[Question]) -> list[dict[str, Any]]:
        asked = [{"prompt": policy.prompt(tokenizer, q.question, params), "question": q.question,
                  "references": references(q, params)} for q in part]
        return [row for row in asked if len(tokenizer(row["prompt"]).input_ids) <= room]

    asked, needed = rows(questions), config.generation_batch_size // config.num_generations
    if len(asked) < len(questions):
        print(f"{len(questions) - len(asked)} of {len(questions)} questions are too long for policy.max_seq_length")
    if len(asked) < needed:
        raise ValueError(f"GRPO needs {needed} questions a step and has {len(asked)}: lower grpo.batch_size or raise "
                         "dataset.max_questions or policy.max_seq_length")
    train = Dataset.from_list(asked).remove_columns("references")  # only dev's completions are scored against answers
    unseen = Dataset.from_list(rows(dev[:DEV_QUESTIONS])) if dev else None
    config.eval_strategy = "steps" if unseen else "no"
    return Trainer(model=model, processing_class=tokenizer, reward_funcs=rewards, args=config, train_dataset=train,
                   eval_dataset=unseen), tokenizer


def train(questions: Sequence[Question], dev: Sequence[Question], start: str | Path, rewards: list[Any], folder: Path,
          params: Params) -> list[dict[str, Any]]:
    """Optimise ``start`` (the merged SFT model, also the KL reference) into ``folder/model``; resumes; returns the log, one
    dict a step and one a look at ``dev``. ``timing.json`` has the share of the step time that the rewards took."""
    if not params.grpo.max_steps:
        return policy.untouched(start, folder, params)
    policy.import_backend(params)
    from empathy_lib.watch import Watch, observed
    spent: list[float] = []
    trainer, tokenizer = make_trainer(questions, dev, start, observed(rewards, TOKENIZERS[params.language][0], spent),
                                      params, arguments(params, folder))
    trainer.add_callback(Watch(params.grpo.save_every_minutes))
    log = policy.fit(trainer, folder / "model", lambda target: policy.save(trainer.model, tokenizer, target, params))
    times = [row["step_time"] for row in trainer.state.log_history if "step_time" in row]
    times = times[-len(spent) // len(rewards):] if spent else []  # of this session, where it was resumed
    if times and trainer.is_world_process_zero():
        write_json(folder / "timing.json", {"steps": len(times), "median_step_seconds": float(np.median(times)),
                                            "reward_share": sum(spent) / sum(times)})
    return log


def small_batch(questions: Sequence[Question], start: str | Path, rewards: list[Any], params: Params,
                groups: int = 4) -> dict[str, Any]:
    """What Eq. 2 is made of, at the last of four updates of a copy of ``start``, two on each batch of completions: there
    the policy, the old policy and the reference are three. Tensors are completions × tokens; ``gradient`` is that of the
    trainer's loss by ``logp``. Keeps no file and no model."""
    import torch
    g = params.grpo.model_copy(update={"batch_size": groups * params.grpo.num_generations, "gradient_accumulation": 1})
    few, seen = params.model_copy(update={"grpo": g}), {}
    with TemporaryDirectory() as folder:
        config = arguments(few, Path(folder))
        config.num_iterations, config.max_steps, config.save_strategy, config.log_completions = 2, 4, "no", False
        trainer, tokenizer = make_trainer(questions, [], start, rewards, few, config)
        compute_loss, log_probabilities = trainer.compute_loss, trainer._get_per_token_logps_and_entropies

        def kept(*args: Any, **kwargs: Any) -> Any:
            values = log_probabilities(*args, **kwargs)
            seen["logp"] = values[0]
            return values

        def watched(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            loss = compute_loss(model, inputs, *args, **kwargs)
            seen.update(gradient=torch.autograd.grad(loss, seen["logp"], retain_graph=True)[0], loss=loss.item(),
                        logp_old=inputs["old_per_token_logps"], logp_ref=inputs["ref_per_token_logps"],
                        mask=inputs["completion_mask"], advantages=inputs["advantages"],
                        tokens=[tokenizer.batch_decode(row[:, None]) for row in inputs["completion_ids"]])
            return loss

        trainer.compute_loss, trainer._get_per_token_logps_and_entropies = watched, kept
        trainer.train()
    return seen | {"logp": seen["logp"].detach()}
