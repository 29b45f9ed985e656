"""Text as people meant it, and what is no counselling text at all; the rules are ours (the paper states none)."""

import html
import re

_BREAK = re.compile(r"<(?:br|/p|/div|/li|/h\d|/tr)\s*/?>", re.I)
_MARKUP = re.compile(r"<(?:script|style)\b.*?</(?:script|style)>|<!--.*?-->|</?[a-z][^<>]{0,2000}>", re.I | re.S)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffe\uffff]")
_HAMMERED = re.compile(r"([。，、！？!?,;；：~～=\-_*#+])\1{2,}")
# Full-width forms of ASCII become ASCII, but for the punctuation that Chinese is written with.
_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code) not in "！（），：；？～"}
_WIDTH |= str.maketrans("｡､｢｣\xa0\u3000", "。、「」  ")
_HAN = r"\u4e00-\u9fff"
_HALF_WIDTH = re.compile(rf"(?<=[{_HAN}])[,?!;:](?=[{_HAN}\s]|$)")
_CHINESE = dict(zip(",?!;:", "，？！；："))

# Thanks and closings around a reply, and the signature under it: they say nothing about the person who asked.
_END = r"[。.！!~～，,\s]*"
_OPENING = re.compile(
    r"^(?:谢邀|感谢邀答|(?:感谢|谢谢|谢)(?:题主|楼主|你|您)?的?(?:邀请|信任|提问|求助)|thanks? (?:you )?(?:so much )?for "
    r"(?:your|the|this|asking (?:this|your)|posting this|submitting (?:this|your)|sharing your) ?(?:great |good )?"
    rf"question){_END}(?=\S)", re.I)
_THANKS = (
    r"(?:以上(?:仅供参考)?|仅供参考|[望求]采纳|祝好|祝(?:你|您|楼主|题主|一切)?(?:安好|顺利|一切顺利|一切安好|早安|晚安)|"
    r"(?:世界和我爱着你|我和世界爱着你)|(?:希望|但愿)(?:以上|我的?|这些|能|可以|回答|建议|分享|对|给|帮|到|你|您|有|所|些?|的|一点)*"
    r"(?:帮助|启发|帮到你|帮到您)|谢谢(?:大家|各位|老师|你们|观看|阅读)*|"
    r"(?:I )?(?:really )?hope (?:this|that) (?:information )?(?:helps|is helpful)(?: you| a bit| some)?|"
    r"thanks?(?: you)?(?: so much)?(?: in advance| for reading)?)")
_CLOSING = re.compile(rf"(?:(?<=[。.！!？?~～\n])|(?<=[。.！!？?~～\n]\s)|^){_THANKS}(?:[，, ]+{_THANKS})*{_END}$", re.I)
_SIGNATURE = re.compile(
    r"\n+ ?(?:[—–－-]{1,3} ?[^\n。！？!?]{2,40}|(?:best(?: wishes| regards)?|warm(?:ly|est regards| regards| wishes)|"
    r"kind(?:est)? regards|sincerely(?: yours)?|respectfully|regards|blessings|take care|yours(?: truly| sincerely)?|"
    r"此致|敬礼)[,.!]*(?:\n[^\n]{1,60}){0,3})\s*$", re.I)

# An invitation to get in touch, to buy, or to click: a person who tells that someone added them on WeChat stays.
_CHANNEL = r"(?:微信|薇信|威信|[vw]x|v信|微 ?x|qq|扣扣|企鹅|公众号|二维码|小程序)"
_ADVERTISING = {
    "contact": re.compile(
        r"(?:请|可以|欢迎|快来?|需要的?|想[^，。！？\n]{0,8}[的就]|有意者?|有需要|详情|直接|赶紧|速|感兴趣的?|名额有限|马上)[^。！？\n]{0,6}?"
        rf"(?:加|扫|联系|添加|咨询|搜|关注|私信?)\s*(?:一下|我们?|本人|客服|老师|助理|店主|上方|下方)*\s*(?:的)?\s*{_CHANNEL}"
        rf"|(?:加|扫|添加)\s*(?:我们?|客服|老师|助理)?\s*(?:的)?\s*{_CHANNEL}\s*[：:]?\s*(?:[a-z0-9_-]{{5,}}|领|免费|了解|咨询|预约|进群)"
        r"|(?:加|➕|联系)\s*[vV微]\s*信?\s*[：:]?\s*[a-zA-Z0-9_-]{5,}|➕\s*[a-zA-Z0-9_-]{5,}|扫描?(?:下方|文末|上方|下图)[^。\n]{0,4}二维码"
        r"|关注(?:我们?的?)?公众号[^。\n]{0,15}(?:回复|领|获取|免费)|(?:需要|想要|感兴趣)的?(?:可以|请)?(?:私|戳|滴)我"
        r"|(?:咨询|服务|联系)(?:热线|电话|专线)\s*[：:]?\s*(?:1[3-9]\d{9}|0\d{2,3}-?\d{7,8})(?!\d)"
        r"|\b(?:text|call|e-?mail|whatsapp|dm) (?:me|us) (?:at|on|now|today) ", re.I),
    "promotion": re.compile(
        r"限时(?:优惠|免费|特价|秒杀)|免费(?:领取|试听|测评|体验课)|(?:原价|现价|仅需)\s*\d+(?:\.\d+)?\s*元|优惠券|立减|包(?:治好|复合|通过)|"
        r"(?:代写|兼职|刷单|[贷借]款|推广|代购|挽回)[^。！？\n]{0,14}(?:请[加找联]|加[vV微qQ]|联系[vV微qQ电我]|包过|放款|日结)|"
        r"私聊下单|戳我主页|名额(?:只剩|仅剩|有限)|前 ?\d+ ?[位名](?:免费|半价|[一二三四五六七八九]折)|"
        r"日(?:赚|入)\s*\d{2,}|点击(?:下方|这里|链接|领取)|戳(?:下方|这里|链接)"
        r"|click here to (?:buy|order|book)|promo ?code|\d+ ?% off|buy now|limited[- ]time offer|free trial", re.I)}
_LINK = re.compile(rf"(?:https?://|www\.)[^\s，。；、）){_HAN}]+", re.I)


def clean(text: str) -> str:
    """The text without markup, entities, full-width letters, control characters, hammered punctuation; Chinese with
    Chinese commas; without thanks, closings and signatures around it."""
    text = html.unescape(text)
    text = _MARKUP.sub("", _BREAK.sub("\n", text)) if "<" in text else text
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).translate(_WIDTH)
    text = _HALF_WIDTH.sub(lambda found: _CHINESE[found.group()], text)
    text = re.sub(r"[ \t]+", " ", _HAMMERED.sub(r"\1", text))
    text = re.sub(r" ?\n[ \n]*", "\n", text).strip()
    body = _OPENING.sub("", text)
    while (shorter := _CLOSING.sub("", _SIGNATURE.sub("", body)).rstrip()) != body:
        body = shorter
    return body or text


def noise(text: str) -> str | None:
    """Why a (cleaned) text is no counselling text, else None: ``advertising: contact``, ``advertising: promotion``,
    ``advertising: links``, ``gibberish``, ``repetition`` (the same words pasted again and again)."""
    for kind, pattern in _ADVERTISING.items():
        if pattern.search(text):
            return f"advertising: {kind}"
    links = _LINK.findall(text) if "://" in text or "www." in text.lower() else []
    if len(links) > 4 or links and sum(map(len, links)) > 0.5 * len(text):
        return "advertising: links"
    letters = sum(map(str.isalpha, text))
    broken = text.count("\ufffd") + text.count("锟斤拷") + len(re.findall("[À-ÿ]{2}", text))
    if letters < 0.5 * len(text.replace(" ", "")) or broken > 0.05 * len(text):
        return "gibberish"
    if not links and re.search(r"[A-Za-z0-9]{40}|[bcdfghjklmnpqrstvwxz]{9}", text):  # a hand on the keyboard
        return "gibberish"
    start = text[:2000]  # a long text repeats its four-character runs by itself
    if len(start) >= 40 and len({start[i:i + 4] for i in range(len(start) - 3)}) < 0.3 * len(start):
        return "repetition"
    return None
