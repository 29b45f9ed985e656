"""What GRPO's watcher records, when it warns, and when it saves."""

import types

import pytest

from empathy_lib import watch
from empathy_lib.coe import render

STEADY = {"reward": 1.0, "rewards/format_reward/mean": 0.8, "rewards/r_answer/mean": 0.2, "frac_reward_zero_std": 0.2,
          "completions/mean_length": 100.0, "completions/clipped_ratio": 0.0, "empty_answers": 0.05, "kl": 0.1}


def log(first, last, n=24):
    """A log whose values move evenly from ``first`` to ``last``."""
    return [{"step": i + 1} | {key: a + (last.get(key, a) - a) * i / (n - 1) for key, a in (STEADY | first).items()} for i in range(n)]


@pytest.mark.parametrize("name, first, last, says", [
    ("format", {}, {"rewards/format_reward/mean": 0.0}, "gated"),
    ("spread", {}, {"frac_reward_zero_std": 0.9}, "grpo.threshold"),
    ("length", {}, {"completions/mean_length": 220.0}, "grpo.beta"),
    ("cut", {}, {"completions/clipped_ratio": 0.9}, "max_completion_tokens"),
    ("empty", {}, {"empty_answers": 0.7}, "notebook 04"),
    ("kl", {}, {"kl": 3.0}, "grpo.learning_rate")])
def test_each_illness_is_named_with_what_to_try(name, first, last, says):
    found = watch.warnings(log(first, last))
    assert list(found) == [name] and says in found[name] and found[name].count(".") >= 2
    assert watch.warnings(log(first, last)[:12]) == {}  # too early to tell


def test_a_healthy_run_is_left_alone():
    assert watch.warnings(log({}, {"reward": 1.6, "rewards/format_reward/mean": 0.95, "kl": 0.4})) == {}
    assert watch.warnings([]) == {} and watch.warnings(log({"empty_answers": 0.5}, {"empty_answers": 0.1})) == {}
    assert "format" not in watch.warnings(log({"rewards/format_reward/mean": 0.1}, {"rewards/format_reward/mean": 0.0}))


def test_reward_up_and_dev_down():
    looks = [{"step": i, "eval_reward": 1 + i / 40, "eval_navg": value} for i, value in ((6, 0.2), (12, 0.19), (18, 0.15), (24, 0.1))]
    rising = log({}, {"reward": 1.6})
    assert list(watch.warnings(rising + looks)) == ["proxy"]
    assert watch.warnings(log({}, {}) + looks) == {}  # the reward does not rise
    assert watch.warnings(rising + [row | {"eval_navg": 0.2} for row in looks]) == {}
    assert list(watch.warnings(rising + [row | {"eval_navg": 0.2, "eval_reward": 1.0} for row in looks])) == ["by_heart"]


def test_describe(chain):
    whole = render(chain)
    figures = watch.describe([whole, "<answer></answer>", "<answer>好的好的好的好的</answer>", "没有标签"], "char")
    assert figures["empty_answers"] == 0.5
    assert figures["answer_chars"] == (len(chain.answer) + 8) / 4
    # runs of four of 好的好的好的好的: five, of which two differ
    runs = [chain.answer[i:i + 4] for i in range(len(chain.answer) - 3)]
    assert figures["repetition"] == pytest.approx((1 - len(set(runs)) / len(runs) + 3 / 5) / 4)
    tokens = [*chain.answer, *"好的好的好的好的"]
    assert figures["distinct_1"] == pytest.approx(len(set(tokens)) / len(tokens), abs=0.02)


def test_rewards_are_passed_on_timed_and_described():
    def r_answer(completions, question, **kwargs):
        return [float(q in text) for q, text in zip(question, completions)]

    said, spent = {}, []
    function, = watch.observed([r_answer], "char", spent)
    assert function.__name__ == "r_answer"  # TRL's log uses it
    texts = ["<answer>我很累</answer>", "<answer>困</answer>"]
    assert function(completions=texts, question=["累", "累"], log_metric=said.__setitem__) == [1.0, 0.0]
    assert len(spent) == 1 and spent[0] >= 0 and "navg" not in said and said["empty_answers"] == 0
    function(completions=texts, question=["累", "累"], references=[["我很累"], ["困"]], log_metric=said.__setitem__)
    assert said["navg"] > 0.8 and len(spent) == 1  # a look at dev is no training time


def test_saves_by_minutes_wait_for_the_end_of_a_generation(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    callback = watch.Watch(every_minutes=10)
    args = types.SimpleNamespace(num_iterations=2, steps_per_generation=4, gradient_accumulation_steps=2)  # 4 updates each

    def asks(step, minutes):
        clock[0] = 60.0 * minutes
        control = types.SimpleNamespace(should_save=False)
        callback.on_step_end(args, types.SimpleNamespace(global_step=step), control)
        return control.should_save

    assert [asks(4, 9), asks(5, 11), asks(7, 11), asks(8, 11)] == [False, False, False, True]
    callback.on_save(args, None, None)
    assert not asks(12, 20) and asks(16, 22)
    callback = watch.Watch(every_minutes=None)
    assert not asks(20, 10_000)
