"""Text as people meant it, and what is no counselling text at all; the rules are ours (the paper states none)."""

import html
import re

_BREAK = re.compile(r"<(?:br|/p|/div|/li)\s*/?>", re.I)
_MARKUP = re.compile(r"</?[a-z][^<>]{0,300}>", re.I)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_HAMMERED = re.compile(r"([。，、！？!?,;；~～=\-_*#])\1{2,}")
_FULL_WIDTH = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_ADVERTISING = re.compile(
    r"(?:加|扫|联系|添加|咨询)\s*(?:我|我们|客服|老师|助理)?\s*(?:的)?\s*(?:微信|薇信|威信|vx|v信|qq|公众号|二维码)"
    r"|(?:点击|戳)\s*(?:下方|这里|链接)|限时(?:优惠|免费)|免费(?:领取|试听|测评)|(?:代写|兼职|刷单|贷款|推广)\s*(?:请|找|加|联系)"
    r"|click here to (?:buy|order|book)|promo code|% off", re.I)


def clean(text: str) -> str:
    """The text without markup, entities, full-width letters, control characters and hammered punctuation."""
    text = _MARKUP.sub("", _BREAK.sub("\n", html.unescape(text)))
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " "))
    text = _HAMMERED.sub(r"\1", text.translate(_FULL_WIDTH))
    text = re.sub(r"[ \t\u3000]+", " ", text)
    return re.sub(r" ?\n[ \n]*", "\n", text).strip()


def noise(text: str) -> str | None:
    """Why a (cleaned) text is no counselling text: ``advertising``, ``gibberish``, ``repetition``; else None."""
    if _ADVERTISING.search(text):
        return "advertising"
    letters = sum(char.isalpha() for char in text)
    if letters < 0.5 * len(text.replace(" ", "")):
        return "gibberish"
    if len(text) >= 40 and len({text[i:i + 4] for i in range(len(text) - 3)}) < 0.25 * len(text):
        return "repetition"
    return None
