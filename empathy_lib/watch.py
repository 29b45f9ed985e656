"""Watching GRPO: what each step's rollouts look like, one figure that follows them, and plain words when they go wrong.
Every limit in ``warnings`` is ours; each is there to make somebody read rollouts, not to judge a run."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np
from transformers import TrainerCallback

from empathy_lib import coe, metrics, plots

PANELS = {"reward": ("rewards/format_reward/mean", "rewards/r_answer/mean", "eval_reward"),
          "dev split": ("eval_rewards/format_reward/mean", "eval_rewards/r_answer/mean", "eval_navg"),
          "groups without spread, empty answers": ("frac_reward_zero_std", "empty_answers"),
          "KL to the start, clip ratio": ("kl", "clip_ratio/region_mean"), "entropy": ("entropy",),
          "length (tokens)": ("completions/mean_length",), "variety of the answers": ("distinct_1", "repetition")}


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
        if self.save_after and whole and time.monotonic() - self.saved > self.save_after:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.saved = time.monotonic()


def warnings(log: Sequence[Mapping[str, Any]], window: int = 8) -> dict[str, str]:
    """What the last ``window`` steps of a GRPO log should make somebody look at: by name one sentence with what to try.
    They are compared with the first ``window``; nothing is said before there are twice as many."""
    steps, looks = ([row for row in log if key in row] for key in ("reward", "eval_reward"))
    if len(steps) < 2 * window:
        return {}

    def mean(key: str, rows: Sequence[Mapping[str, Any]]) -> float:
        return float(np.mean([row.get(key) or 0.0 for row in rows]))

    def ends(key: str) -> tuple[float, float, float]:
        means = [mean(key, steps[i:i + window]) for i in range(len(steps) - window + 1)]
        return means[0], max(means), means[-1]

    found = {}
    _, best, now = ends("rewards/format_reward/mean")
    if best > 0.2 and now < 0.5 * best:
        found["format"] = (f"Format collapse: {now:.2f} of the completions are chains, {best:.2f} were. Lower "
                           "grpo.learning_rate, raise grpo.beta, or set grpo.reward: gated.")
    if (now := ends("frac_reward_zero_std")[2]) > 0.5:
        found["spread"] = (f"{now:.0%} of the groups have no spread (all rewards equal) and teach nothing. Move grpo.threshold, "
                           "try grpo.answer: soft, raise grpo.num_generations, or train SFT longer.")
    first, _, now = ends("completions/mean_length")
    if now > 1.5 * first:
        found["length"] = (f"Length runs away: {now:.0f} tokens, {first:.0f} at the start. Read rollouts for padding; lower "
                           "grpo.learning_rate or raise grpo.beta.")
    if (now := ends("completions/clipped_ratio")[2]) > 0.5:
        found["cut"] = (f"{now:.0%} of the completions are cut off before their end. Raise grpo.max_completion_tokens, or look "
                        "at whether SFT taught the policy to stop.")
    first, _, now = ends("empty_answers")
    if now > 0.2 and now > first + 0.1:
        found["empty"] = (f"Empty answers win: {now:.0%}, {first:.0%} at the start. See what notebook 04's probes say of empty text; "
                          "set grpo.reward: gated.")
    if (now := ends("kl")[2]) > 1:
        found["kl"] = f"KL runs away: {now:.2f} nats a token from the start. Lower grpo.learning_rate or raise grpo.beta."
    half, rise = len(looks) // 2, mean("reward", steps[-window:]) - mean("reward", steps[:window])
    if half and rise > 0.1:
        early, late = mean("eval_reward", looks[:half]), mean("eval_reward", looks[-half:])
        if late - early < 0.1 * rise:
            found["by_heart"] = (f"The reward rises by {rise:.2f} on the training questions and by {late - early:.2f} on dev: the policy "
                                 "learns what pleases the reward about these questions. Use more questions, or fewer steps.")
        early, late = mean("eval_navg", looks[:half]), mean("eval_navg", looks[-half:])
        if late < 0.9 * early:
            found["proxy"] = (f"The reward rises while NAvg on dev falls ({early:.3f} to {late:.3f}): the reward may be gamed. "
                              "Read the rollouts; raise grpo.beta, or stop earlier.")
    return found
