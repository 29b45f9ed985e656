"""The reward r = r_format + r_answer (arXiv 2509.14851, Eq. 6) as TRL reward functions; r_format is in ``coe``."""

from collections.abc import Callable, Sequence
from typing import Any

from empathy_lib import coe
from empathy_lib.params import Params
from empathy_lib.reward_model import similarity


def answer_reward(encoder: Any, threshold: float, gated: bool,
                  layers: Sequence[str] = coe.LAYERS) -> Callable[..., list[float]]:
    """r_answer in {0, 1}: 1 where cos(question, answer) > T. Any ``<answer>…</answer>`` is judged; gated (which is
    ours), only that of a well-formed chain. No answer is 0. Needs the dataset column ``question``."""
    def r_answer(completions: list[Any], question: list[str], **kwargs: Any) -> list[float]:
        answers = [coe.answer_of(text, layers) if gated else coe.loose_answer(text) for text in map(coe.text_of, completions)]
        near = similarity(encoder, question, answers)
        return [float(bool(answer) and cosine > threshold) for answer, cosine in zip(answers, near)]

    return r_answer


def reward_functions(encoder: Any, params: Params) -> list[Callable[..., list[float]]]:
    """The functions whose sum is the reward; their names stand in TRL's log."""
    grpo, layers = params.grpo, params.coe.layers

    def format_reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return coe.format_reward(completions, layers=layers)

    return [format_reward, answer_reward(encoder, grpo.threshold, grpo.reward == "gated", layers)]
