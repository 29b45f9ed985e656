"""Texts as they would be written by somebody who hides nothing: half width, simplified characters, no blanks, symbols or
emoji inside words, the commonest spellings that get around filters."""

import re
import unicodedata

from opencc import OpenCC

_SIMPLIFIED = OpenCC("t2s")
_HAN = r"[\u3400-\u9fff]"
_UNSEEN = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\u20d0-\u20ff"
                     r"\u2190-\u2bff\U0001f000-\U0001ffff]|[“”‘’「」『』\"]")  # invisible, emoji, quotation marks
_APART = re.compile(rf"{_HAN}(?:[^\w\u3400-\u9fff]+{_HAN}){{3,}}")  # four single characters in a row
_LETTERS = re.compile(r"\b[a-z](?:[ .*_-][a-z]){3,}\b")
_SYMBOL = re.compile(rf"(?<={_HAN})[\s]?[*_·|/+.^#~=-]{{1,3}}[\s]?(?={_HAN})")
_BLANK = re.compile(r"(?<=[自轻割跳上烧去寻不遗杀砍])\s(?=[杀残尽伤腕楼吊炭死活书生])")
_SPELT = [(re.compile(pattern), word) for pattern, word in (
    (r"自\s?(?:s(?![a-z])|sha|鲨|沙(?!漠)|刹)|(?<![a-z])(?:zi\s?sha|(?<=[想要去])\s?zs|zi?杀)(?![a-z])|紫(?:砂(?![壶锅杯泥茶])|杀)", "自杀"),
    (r"(?<=[想去])(?:4(?![\d.a-z个天点次本楼层号路])|si?(?![a-z市省县店区])|四(?=了|算|$))|亖", "死"),
    (r"(?:(?<![a-z])zi|自)\s?c(?:an)?(?![a-z])", "自残"), (r"[噶嘎]腕|(?<![a-z])ge?\s?wan(?![a-z])", "割腕"), (r"[噶嘎刀]了?自己", "杀了自己"))]


def normalise(text: str) -> str:
    """The text in half width, simplified characters and lower case, disguises undone. Time grows linearly."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half an emoji
    text = _UNSEEN.sub("", _SIMPLIFIED.convert(unicodedata.normalize("NFKC", text)).lower())
    text = _APART.sub(lambda run: re.sub(r"[^\w\u3400-\u9fff]+", "", run[0]), text)
    text = _LETTERS.sub(lambda run: re.sub("[^a-z]", "", run[0]), text)
    text = _BLANK.sub("", _SYMBOL.sub("", text))
    for pattern, word in _SPELT:
        text = pattern.sub(word, text)
    return text
