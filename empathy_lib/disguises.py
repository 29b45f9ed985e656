"""Ten ways in which people hide what they write from a filter, for Chinese texts; each takes a text and a source of chance."""

import random
import re
from collections import Counter, defaultdict

import jieba
from opencc import OpenCC
from pypinyin import Style, lazy_pinyin

from empathy_lib import BUNDLED

HAN = re.compile(r"[\u4e00-\u9fff]")
EMOJI = "😭🥀💊🙃🖤🌙🚪✨😶🍂"
TELLING = re.compile("自杀|自残|自尽|轻生|割腕|跳楼|上吊|烧炭|不想活|活不下去|结束|解脱|刀片|安眠药|遗书|伤害|消失|离开|[死药杀刀血打掐砍活走]")
_TRADITIONAL = OpenCC("s2t")
# Characters that people have at hand, by how they are said.
_COMMON = [c for c, n in Counter((BUNDLED / "crisis.jsonl").read_text(encoding="utf-8")).items() if HAN.match(c) and n >= 5]
_ALIKE = defaultdict(list)
for _character, _sound in zip(_COMMON, lazy_pinyin(_COMMON, style=Style.NORMAL)):
    _ALIKE[_sound].append(_character)


def _between(text: str, marks: str, chance: random.Random) -> str:
    return re.sub(rf"(?<={HAN.pattern})(?={HAN.pattern})", lambda _: chance.choice(marks), text)


def _telling(text: str, chance: random.Random) -> list[tuple[int, int]]:
    """Where the telling words are; of a text without any, one word in six."""
    found = [match.span() for match in TELLING.finditer(text)]
    words = [(start, end) for _, start, end in jieba.tokenize(text) if HAN.match(text[start])]
    return found or sorted(chance.sample(words, -(-len(words) // 6)))


def _replaced(text: str, chance: random.Random, new) -> str:
    for start, end in reversed(_telling(text, chance)):
        text = text[:start] + new(text[start:end]) + text[end:]
    return text


def alike(word: str, chance: random.Random) -> str:
    """Each character as another common one that sounds alike, where there is one."""
    return "".join(chance.choice([o for o in _ALIKE[lazy_pinyin(c)[0]] if o != c] or [c]) if HAN.match(c) else c for c in word)


def _full(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


DISGUISES = {
    "blanks between all characters": lambda t, r: _between(t, " ", r),
    "one sign between all characters": lambda t, r: _between(t, r.choice(".*/-_·,"), r),
    "emoji between all characters": lambda t, r: _between(t, EMOJI, r),
    "signs before and inside the telling words": lambda t, r: _replaced(t, r, lambda w: r.choice("*./_") + _between(w, "*./_", r)),
    "homophones for the telling words": lambda t, r: _replaced(t, r, lambda w: alike(w, r)),
    "homophones for one character in ten": lambda t, r: "".join(alike(c, r) if r.random() < 0.1 else c for c in t),
    "traditional characters": lambda t, r: _TRADITIONAL.convert(t),
    "full width, with invisible signs": lambda t, r: _full(_between(t, "\u200b\u200d\u2060", r)),
    "pinyin initials of the telling words": lambda t, r: _replaced(t, r, lambda w: "".join(lazy_pinyin(w, style=Style.FIRST_LETTER))),
    "pinyin of the telling words": lambda t, r: _replaced(t, r, lambda w: "".join(lazy_pinyin(w))),
}
