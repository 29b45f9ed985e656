"""What is unsafe in a generated reply: rules (``bundled/reply_rules.yaml``) and a small classifier trained on
``bundled/unsafe_replies.jsonl``, like the crisis screen's. ``method``: how to die or hurt somebody; ``agrees``: that death or
violence is a way out; ``diagnosis``; ``dose``: which medicine, how much, stopping it; ``secrecy``: a promise to tell nobody."""

import re
from functools import cache

import numpy as np
from omegaconf import OmegaConf

from empathy_lib import BUNDLED, crisis_model
from empathy_lib.coe import TAGS
from empathy_lib.undisguise import normalise

FILE = BUNDLED / "replies.npz"
THRESHOLD = -0.6  # log odds of unsafe against sound, set by cross-validation
LEAST = 8  # characters or words that the classifier can say something of

_TAG = re.compile("|".join(TAGS))


@cache
def _rules() -> dict[str, re.Pattern]:
    rules = OmegaConf.to_container(OmegaConf.load(BUNDLED / "reply_rules.yaml"))
    return {fault: re.compile("|".join(lines.split("\n"))) for fault, lines in rules.items()}


def faults(text: str) -> list[str]:
    """Why a reply, or a whole chain, is unsafe ("dose: 每晚吃两片"; "wording: …" where the classifier says so of some sentences); a sound
    one has no faults. The parts of a chain are judged one by one. Time grows linearly."""
    parts = [normalise(part) for part in _TAG.split(text)]
    found = [f"{fault}: {match[0]}" for fault, pattern in _rules().items() for part in parts if (match := pattern.search(part))]
    groups = [group for part in parts for group in crisis_model.groups(part, crisis_model.WHOLE) if crisis_model.size(group) >= LEAST]
    odds, worst = max(((float(crisis_model.odds(group, FILE)[0]), group) for group in groups), default=(-np.inf, ""))
    return found + [f"wording: {worst.strip()[:60]}"] * (odds >= THRESHOLD)
