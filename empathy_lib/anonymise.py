"""Personal data out of texts: each span becomes a typed placeholder such as ``[电话]``. Public hotlines stay, because
a reply may need them. The patterns are ours; the paper says only that its data were anonymised."""

import re
from typing import NamedTuple

HOTLINES = "110 119 120 122 12320 12338 12345 12348 12355 12356 01082951332 4001619995".split()
_HANDLE = r"[：:是为]?\s*(?:号码?)?\s*[：:是为]?\s*"
# In order of precedence: the first pattern that matches a span names its type.
_PATTERNS = [(kind, re.compile(pattern, re.I | re.A)) for kind, pattern in (
    ("邮箱", r"[\w.+-]+\s?(?:@|＠|\(at\)|\[at\])\s?[\w-]+(?:\.[\w-]+)+"),
    ("链接", r"(?:https?://|www\.)[^\s，。；、）)\u4e00-\u9fff]+"),
    ("微信", rf"(?<=微信)(?!群){_HANDLE}[a-z][\w-]{{5,19}}|(?<=薇信|威信|v信|Ｖ信){_HANDLE}[a-z0-9][\w-]{{5,19}}"
             rf"|(?<![a-z])(?:vx|wx|wechat){_HANDLE}[a-z0-9][\w-]{{5,19}}"),
    ("QQ", rf"(?<![a-z])(?:qq|扣扣|企鹅)群?{_HANDLE}[1-9]\d{{4,11}}"),
    ("身份证", r"(?<!\d)[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])\d{3}[\dx](?!\d)"),
    ("电话", r"(?<!\d)(?:\+?86[-\s]?)?1[3-9]\d(?:[-\s]?\d{4}){2}(?!\d)|(?<!\d)0\d{2,3}[-\s]\d{7,8}(?!\d)"
             r"|(?<!\d)400[-\s]?\d{3}[-\s]?\d{4}(?!\d)|(?<![\d-])\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}(?![\d-])"),
    ("银行卡", r"(?<!\d)62\d{2}(?:\s?\d{4}){3}(?:\s?\d{1,3})?(?!\d)"),
)]
# The place of a replaced span in the original text (never the span itself), and the text with placeholders.
Found = NamedTuple("Found", [("kind", str), ("start", int), ("end", int)])
Anonymised = NamedTuple("Anonymised", [("text", str), ("found", list[Found])])


def anonymise(text: str) -> Anonymised:
    """Replace personal data by placeholders: 我的电话是13912345678，打12356也行 → 我的电话是[电话]，打12356也行."""
    taken: list[Found] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            span = Found(kind, *match.span())
            public = re.sub(r"\D", "", match.group()) in HOTLINES
            if not public and not any(f.start < span.end and span.start < f.end for f in taken):
                taken.append(span)
    taken.sort(key=lambda f: f.start)
    for found in reversed(taken):
        text = f"{text[:found.start]}[{found.kind}]{text[found.end:]}"
    return Anonymised(text, taken)
