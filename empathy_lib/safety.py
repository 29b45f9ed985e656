"""How grave a text is, Chinese or English: rules for plain statements (``bundled/crisis_rules.yaml``) and a small classifier
for the many other ways of saying it (``crisis_model.py``). Both know words, not people: ``none`` proves nothing.
``crisis``: active suicidal thoughts, plans, self-harm, harm to others, violence or abuse going on. ``concern``: passive
wishes, hopelessness, the past, somebody else's danger."""

import re
from functools import cache
from typing import NamedTuple

from omegaconf import OmegaConf

from empathy_lib import BUNDLED, crisis_model
from empathy_lib.undisguise import normalise

LEVELS = ("none", "concern", "crisis")
Screen = NamedTuple("Screen", [("level", str), ("reasons", list[str])])
# Log odds, set on the development texts (tests/crisis_dev_zh.jsonl), where .973 of the crises are seen.
CRISIS, ACUTE, CONCERN, ENGLISH = -0.7, -1.6, 0.5, -0.3  # the last is added to the others for a text without Han characters
CONTRADICTED = -2.0  # of the sentence; below it a rule's match is taken for a turn of speech
EXCUSED = 1.0  # so much more is asked of the wording of a text whose plain statements are denied, past or others'
LEAST = 6  # characters or words that the classifier can say something of
_HAN = re.compile(r"[\u3400-\u9fff]")
_STOP = re.compile(r"[。!?\n]|\.\s")


@cache
def _patterns() -> tuple[dict[str, re.Pattern], dict[str, re.Pattern], re.Pattern]:
    """The rules, the contexts and the idioms, compiled."""
    file = OmegaConf.to_container(OmegaConf.load(BUNDLED / "crisis_rules.yaml"))

    def compiled(lines: str) -> re.Pattern:
        for name, words in {**file["lists"], "~": r"[^,。!?\n]{0,6}?", "…": r"[^。!?\n]{0,10}?"}.items():
            lines = lines.replace(name, f"(?:{words})" if name in file["lists"] else words)
        return re.compile("|".join(lines.split("\n")).strip("|"))

    return *({name: compiled(lines) for name, lines in file[part].items()} for part in ("rules", "context")), compiled(file["idioms"])


def _judge(name: str, text: str, start: int, end: int) -> tuple[str, bool]:
    """The level that its clause and sentence, 40 characters each way, leave a match; and whether its clause is put aside."""
    context = _patterns()[1]
    head, tail = _STOP.split(text[max(0, start - 40):start])[-1], _STOP.split(text[end:end + 40])[0]
    clause, sentence = re.split("[,;:]", head)[-1], head + text[start:end] + tail
    told = max((found.end() for found in context["told"].finditer(clause)), default=None)
    if told is not None and not re.search(r"我|\bi\b", clause[told:] + text[start:end]) or context["told"].search(re.split("[,;:]", tail)[0]):
        return "none", True
    if context["denied"].search(clause) or context["denied after"].match(tail):
        return "none", True
    if name.startswith("suicid") and text[start] != "我" and context["others"].search(clause):
        return "concern", True
    if context["long ago"].search(sentence) or not context["now"].search(sentence) and context["past"].search(f"{head}|{tail[:1]}"):
        return "concern", tail.startswith("过") or bool(context["long ago"].search(sentence))
    # thirty tablets are no turn of speech, whatever the wording weighs
    turn = name != "suicidal act" and crisis_model.size(sentence) >= LEAST and crisis_model.scores(sentence).crisis < CONTRADICTED
    return "none" if turn else "crisis", False


def screen(text: str) -> Screen:
    """How grave a text is, and why ("rule: matched words", or the clause whose wording weighs most), the gravest first.
    Time grows linearly with the length."""
    text, found = normalise(text), {}
    rest = text = _patterns()[2].sub(lambda idiom: idiom[0].replace("打死", "").replace("死", "坏"), text)  # tired to death is worn out
    for name, pattern in _patterns()[0].items():
        for match in pattern.finditer(text):
            reason = f"{name}: {match.group()}"
            if found.get(reason) != "crisis":  # said again, it may be meant
                level, aside = _judge(name, text, *match.span())
                found[reason] = max(level, found.get(reason, "none"), key=LEVELS.index)
                if aside and (clause := _clause(text, *match.span())) in rest:  # it says nothing more to the classifier
                    rest = rest.replace(clause, " ")
    odds, doubt = crisis_model.scores(rest), EXCUSED * (rest != text) + ENGLISH * (not _HAN.search(text))
    if (rest == text or crisis_model.size(rest) >= LEAST) and (odds.crisis >= CRISIS + doubt or odds.concern >= CONCERN + doubt):
        grave = odds.crisis >= CRISIS + doubt and odds.acute >= ACUTE
        found[f"wording: {crisis_model.evidence(rest)}"] = "crisis" if grave else "concern"
    found = {reason: level for reason, level in found.items() if level != "none"}
    level = max(found.values(), key=LEVELS.index, default="none")
    return Screen(level, sorted(found, key=lambda reason: -LEVELS.index(found[reason])))


def _clause(text: str, start: int, end: int) -> str:
    """The clause around a match, up to 40 characters each way."""
    return re.split(r"[,;:。!?\n]", text[max(0, start - 40):start])[-1] + text[start:end] + re.split(r"[,;:。!?\n]", text[end:end + 40])[0]
