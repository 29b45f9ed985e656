"""Watching GRPO: what each step's rollouts look like, one figure that follows them, and plain words when they go wrong.
Every limit in ``warnings`` is ours; each is there to make somebody read rollouts, not to judge a run."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from empathy_lib import coe, metrics, plots

PANELS = {"reward": ("rewards/format_reward/mean", "rewards/r_answer/mean", "eval_reward"),
          "dev split": ("eval_rewards/format_reward/mean", "eval_rewards/r_answer/mean", "eval_navg"),
          "groups without spread, empty answers": ("frac_reward_zero_std", "empty_answers"),
          "KL to the start, clip ratio": ("kl", "clip_ratio/region_mean"), "entropy": ("entropy",),
          "length (tokens)": ("completions/mean_length",), "variety of the answers": ("distinct_1", "repetition")}
KEYS = ["reward", "rewards/format_reward/mean", "frac_reward_zero_std", "completions/mean_length", "completions/clipped_ratio",
        "empty_answers", "kl", "eval_reward", "eval_navg"]  # what ``warnings`` looks at


def describe(completions: Sequence[Any], tokenizer: str) -> dict[str, float]:
    """Of a batch of completions: share of empty answers, mean answer length in characters, distinct-1 of all answers,
    and repetition, the share of an answer's 4-character runs that occurred in it before."""
    answers = [coe.loose_answer(coe.text_of(text)) for text in completions]
    runs = [[text[i:i + 4] for i in range(len(text) - 3)] for text in answers]
    tokens = [token for text in answers for token in metrics.tokenize(text, tokenizer)]
    return {"empty_answers": float(np.mean([not text for text in answers])),
            "answer_chars": float(np.mean([len(text) for text in answers])),
            "distinct_1": len(set(tokens)) / len(tokens) if tokens else 0.0,
            "repetition": float(np.mean([1 - len(set(r)) / len(r) if r else 0.0 for r in runs]))}


def observed(functions: Sequence[Callable[..., list[float]]], tokenizer: str, spent: list[float]) -> list[Any]:
    """The reward functions, with their seconds in training appended to ``spent``; the first also logs ``describe`` and,
    where the rows bring ``references`` (the dev split), the batch's NAvg."""
    def timed(function: Callable[..., list[float]], first: bool) -> Callable[..., list[float]]:
        @wraps(function)
        def reward(completions: list[Any], log_metric: Callable[[str, float], None], **kwargs: Any) -> list[float]:
            began = time.perf_counter()
            scores = function(completions=completions, **kwargs)
            if "references" not in kwargs:
                spent.append(time.perf_counter() - began)
            if first:
                for name, value in describe(completions, tokenizer).items():
                    log_metric(name, value)
                if references := kwargs.get("references"):
                    answers = [coe.loose_answer(coe.text_of(text)) for text in completions]
                    log_metric("navg", metrics.score(answers, references, tokenizer)["navg"])
            return scores

        return reward

    return [timed(function, i == 0) for i, function in enumerate(functions)]


class Watch(TrainerCallback):
    """Redraws the figure in a notebook, prints each new warning once, and saves a checkpoint after so many minutes, at a
    step that ends a generation (saved in between, a resumed run would not see the same rollouts)."""

    def __init__(self, every_minutes: float | None, every_seconds: float = 20):
        self.save_after, self.draw_after = every_minutes and 60 * every_minutes, every_seconds
        self.saved = self.drawn = time.monotonic()
        self.said: set[str] = set()
        self.shown = None

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for name, text in warnings(state.log_history).items():
            if name not in self.said:
                print(f"step {state.global_step}: {text}", flush=True)
            self.said.add(name)
        if time.monotonic() - self.drawn > self.draw_after:
            self.draw(state.log_history)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.draw(state.log_history)

    def draw(self, log: Sequence[Mapping[str, Any]]) -> None:
        """The figure, in a notebook: one display that is replaced each time."""
        from IPython import get_ipython
        from IPython.display import display
        self.drawn = time.monotonic()
        if get_ipython() and log:
            figure = plots.close(plots.curves(log, PANELS))
            if self.shown:
                self.shown.update(figure)
            else:
                self.shown = display(figure, display_id=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        whole = state.global_step % (args.num_iterations * max(1, args.steps_per_generation // args.gradient_accumulation_steps)) == 0
        if self.save_after and whole:  # clocks differ, and a checkpoint holds a part of every process: rank 0's decides
            control.should_save |= broadcast_object_list([time.monotonic() - self.saved > self.save_after])[0]

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.saved = time.monotonic()


def warnings(log: Sequence[Mapping[str, Any]], window: int = 8) -> dict[str, str]:
    """What the last ``window`` steps of a GRPO log should make somebody look at: by name one sentence with what to try.
    They are compared with the first ``window``; nothing is said before there are twice as many."""
    table = pd.DataFrame(log, columns=KEYS).astype(float)
    steps, looks = table.dropna(subset="reward"), table.dropna(subset="eval_reward")
    if len(steps) < 2 * window:
        return {}
    means = steps.fillna(0).rolling(window).mean()
    first, best, now, half = means.iloc[window - 1], means.max(), means.iloc[-1], len(looks) // 2
    early, late = looks[:half].mean(), looks[len(looks) - half:].mean()  # NaN, and so no warning, where there is no dev split
    form, length, rise = "rewards/format_reward/mean", "completions/mean_length", now["reward"] - first["reward"]
    learned, cut, empty = late["eval_reward"] - early["eval_reward"], now["completions/clipped_ratio"], now["empty_answers"]
    found = {
        "format": (best[form] > 0.2 and now[form] < 0.5 * best[form],
                   f"Format collapse: {now[form]:.2f} of the completions are chains, {best[form]:.2f} were. Lower "
                   "grpo.learning_rate, raise grpo.beta, or set grpo.reward: gated."),
        "spread": (now["frac_reward_zero_std"] > 0.5,
                   f"{now['frac_reward_zero_std']:.0%} of the groups have no spread (all rewards equal) and teach nothing. Move "
                   "grpo.threshold, try grpo.answer: soft, raise grpo.num_generations, or train SFT longer."),
        "length": (now[length] > 1.5 * first[length],
                   f"Length runs away: {now[length]:.0f} tokens, {first[length]:.0f} at the start. Read rollouts for padding; "
                   "lower grpo.learning_rate or raise grpo.beta."),
        "cut": (cut > 0.5, f"{cut:.0%} of the completions are cut off before their end. Raise grpo.max_completion_tokens, or "
                           "look at whether SFT taught the policy to stop."),
        "empty": (empty > 0.2 and empty > first["empty_answers"] + 0.1,
                  f"Empty answers win: {empty:.0%}, {first['empty_answers']:.0%} at the start. See what notebook 04's probes "
                  "say of empty text; set grpo.reward: gated."),
        "kl": (now["kl"] > 1, f"KL runs away: {now['kl']:.2f} nats a token from the start. Lower grpo.learning_rate or raise "
                              "grpo.beta."),
        "by_heart": (rise > 0.1 and learned < 0.1 * rise,
                     f"The reward rises by {rise:.2f} on the training questions and by {learned:.2f} on dev: the policy learns "
                     "what pleases the reward about these questions. Use more questions, or fewer steps."),
        "proxy": (rise > 0.1 and late["eval_navg"] < 0.9 * early["eval_navg"],
                  f"The reward rises while NAvg on dev falls ({early['eval_navg']:.3f} to {late['eval_navg']:.3f}): the reward "
                  "may be gamed. Read the rollouts; raise grpo.beta, or stop earlier.")}
    return {name: text for name, (is_so, text) in found.items() if is_so}
