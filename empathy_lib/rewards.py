"""The reward r = r_format + r_answer (arXiv 2509.14851, Eq. 6) as TRL reward functions; r_format is in ``coe``."""

from collections.abc import Callable, Sequence
from typing import Any

from empathy_lib import coe
from empathy_lib.params import Params
from empathy_lib.reward_model import similarity

Reward = Callable[..., list[float]]


def threshold(params: Params, recorded: dict[str, Any]) -> float:
    """T: the number of ``grpo.threshold``, or for ``auto`` the best one on dev in stage 04's ``recorded`` metrics."""
    return recorded["best_threshold"]["T"] if params.grpo.threshold == "auto" else params.grpo.threshold


def answer_reward(encoder: Any, threshold: float, gated: bool = False, soft: bool = False,
                  layers: Sequence[str] = coe.LAYERS) -> Reward:
    """r_answer where cos(question, answer) > T: 1, or (``soft``) the cosine; else 0. Any ``<answer>…</answer>`` is judged;
    ``gated`` (which is ours), only that of a well-formed chain. No answer is 0. Needs the dataset column ``question``."""
    def r_answer(completions: list[Any], question: list[str], **kwargs: Any) -> list[float]:
        answers = [coe.answer_of(text, layers) if gated else coe.loose_answer(text) for text in map(coe.text_of, completions)]
        near = similarity(encoder, question, answers)
        return [float(cosine if soft else 1.0) if answer and cosine > threshold else 0.0 for answer, cosine in zip(answers, near)]

    return r_answer


def reward_functions(encoder: Any, threshold: float, params: Params) -> list[Reward]:
    """The functions whose sum is the reward; their names stand in TRL's log."""
    grpo, layers = params.grpo, params.coe.layers

    def format_reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return coe.format_reward(completions, layers=layers, soft=grpo.format == "soft")

    return [format_reward, answer_reward(encoder, threshold, grpo.reward == "gated", grpo.answer == "soft", layers)]
