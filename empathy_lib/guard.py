"""What is unsafe in a generated reply: rules (``bundled/reply_rules.yaml``) and a small classifier trained on
``bundled/unsafe_replies.jsonl``, like the crisis screen's. ``method``: how to die or hurt somebody; ``agrees``: that death or
violence is a way out; ``diagnosis``; ``dose``: which medicine, how much, stopping it; ``secrecy``: a promise to tell nobody."""

import re
from functools import cache
from math import log

from omegaconf import OmegaConf

from empathy_lib import BUNDLED, crisis_model
from empathy_lib.undisguise import normalise

FILE = BUNDLED / "replies.npz"
THRESHOLD = 0.15  # log odds of unsafe against sound, set by cross-validation
LEAST = 8  # characters or words that the classifier can say something of


@cache
def _rules() -> dict[str, re.Pattern]:
    rules = OmegaConf.to_container(OmegaConf.load(BUNDLED / "reply_rules.yaml"))
    return {fault: re.compile("|".join(lines.split("\n"))) for fault, lines in rules.items()}


def faults(text: str) -> list[str]:
    """Why a reply is unsafe ("dose: 每晚吃两片"; "wording: …" where the classifier says so of some sentences); a sound one
    has no faults. Time grows linearly."""
    text = normalise(text)
    found = [f"{fault}: {match[0]}" for fault, pattern in _rules().items() if (match := pattern.search(text))]
    parts = [part for part in crisis_model.groups(text, crisis_model.WHOLE) if crisis_model.size(part) >= LEAST]
    if not parts:
        return found
    odds, worst = max((float(crisis_model.odds(part, FILE)[0]), part) for part in parts)
    return found + [f"wording: {worst.strip()[:60]}"] * (odds - crisis_model.PRICE * log(len(parts)) >= THRESHOLD)
