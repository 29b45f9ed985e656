"""A synthetic counselling corpus with planted dirt, the same for the same size and seed; no text is a person's.

Bodies are clauses of the bundled corpus, drawn at random: long enough that two texts never share half of their
5-grams by chance. ``corpus`` also returns the truth, one record for each planted item::

    {"kind": "personal data", "variant": "mobile", "question_id": "q00007", "answer_id": "q00007-a2", "string": "…"}
    {"kind": "near-duplicate answer", …, "original": "q00003-a1", "jaccard": 0.71}

``answer_id`` is missing where the item is in a question; ``original`` is the id of the text it was copied from.
"""

import random
import re
from pathlib import Path

from empathy_lib import BUNDLED
from empathy_lib.schema import read_jsonl, write_jsonl

PAPER = {"questions": 40959, "answers": 168470}
# Share of the answers (of the questions, where the kind ends in "question") that get an item; no text gets two.
RATES = {"advertising": .02, "gibberish": .01, "repetition": .01, "personal data": .02, "public data": .01,
         "exact duplicate": .02, "near-duplicate answer": .02, "personal data question": .02,
         "near-duplicate question": .02}
LENGTH = {"question": (180, 600), "answer": (150, 500)}  # characters
JACCARD = (.6, .9)  # of the 5-grams of letters and digits, a near-duplicate with its original

ADVERTISING = {
    "wechat": ["加我微信{wx}，免费送你一份情绪自测资料。", "添加老师薇信：{wx}，一对一咨询前十名半价。",
               "找{surname}老师挽回感情，成功率{n}%，联系V：{wx}。", "免费试听名师婚姻课，➕{wx}备注“听课”。"],
    "group or account": ["扫描下方二维码，进群领取疗愈音频{n}节。", "关注公众号“心晴驿站{n}”，回复“放松”领课程。",
                         "需要的私我，资料包免费领取，名额只剩{n}个。"],
    "link": ["点击链接 http://www.{word}.example.com/{n} 立即报名，限时优惠{n}元。"],
    "price": ["原价{n}元的心理课现在只要9.9元，戳我主页购买。", "塔罗占卜复合率，私聊下单，前{n}位八折。"],
    "services": ["专业小额借款，当天放款，联系QQ{qq}。", "兼职日结{n}元，在家就能做，有意加V信{wx}。",
                 "代写论文、作业，包过，电话{mobile}。", "本工作室提供催眠疗愈服务，咨询热线{mobile}，可上门。"],
    "english": ["Use promo code CALM{n} for 20% off your first session at our online clinic today."]}
PERSONAL = {
    "mobile": ["我的电话是{mobile}，", "手机号{mobile}，晚上可以打，"],
    "mobile spaced": ["打我电话{mobile_spaced}，", "手机：{mobile_dashed}，", "电话+86 {mobile_spaced}，"],
    "mobile full width": ["我电话{mobile_wide}，"],
    "landline": ["家里座机{landline}，", "单位电话是{landline}，"],
    "e-mail": ["可以发邮件到{email}，", "我的邮箱：{email}，"],
    "e-mail obscured": ["邮箱{email_at}，"],
    "link": ["我写在https://blog.{word}.example.com/u/{n}，"],
    "WeChat": ["我的微信是{wx}，", "我vx：{wx}，", "微信号 {wx}，"],
    "QQ": ["我QQ是{qq}，", "扣扣：{qq}，"],
    "identity card": ["身份证号{identity}，", "我的身份证是{identity}，"],
    "bank card": ["钱打到卡号{card}，", "银行卡{card_spaced}，"]}
PUBLIC = ["难受的时候可以打12356，", "北京的热线010-82951332一直有人接，", "希望24热线400-161-9995半夜也通，",
          "我SCL-90总分{n}，", "2023年3月15日那天，", "他欠了1{n}00块，", "高考考了{n}分，全省排名12{n}，",
          "每天加班到22:30，", "危险的时候打110或者120，"]
MASH = ["asdf", "jkl;", "qwer", "zxcv", "uiop", "ghfj", "dkfl", "vbnm"]
MOJIBAKE = ["锟斤拷", "烫烫烫", "ï»¿", "å¿ƒ", "\ufffd\ufffd", "ä½ å¥½", "æˆ‘", "çš„"]
SURNAMES, SYMBOLS = "王李张刘陈杨赵黄周吴", "★☆◆※→~@#$%^&*_+=|0123456789"


def corpus(answers: int, seed: int) -> tuple[list[dict], list[dict]]:
    """About as many questions for ``answers`` answers as the paper has, in the kit's schema; and the truth."""
    rng = random.Random(f"{seed} {answers}")
    topics, clauses = _clauses()
    n = round(answers * PAPER["questions"] / PAPER["answers"])
    questions = [{"question_id": f"q{i:05}", "question": _body(rng, clauses, "question"), "topic": rng.choice(topics),
                  "answers": []} for i in range(n)]
    owners = questions + rng.choices(questions, k=answers - n)
    for owner in owners:
        name = f"{owner['question_id']}-a{len(owner['answers']) + 1}"
        owner["answers"].append({"answer_id": name, "text": _body(rng, clauses, "answer")})
    # where a text lies: the record, its field, the ids for the truth
    slots = {"question": [(q, "question", {"question_id": q["question_id"]}) for q in questions],
             "answer": [(a, "text", {"question_id": q["question_id"], "answer_id": a["answer_id"]})
                        for q in questions for a in q["answers"]]}
    free = {level: rng.sample(range(len(found)), len(found)) for level, found in slots.items()}
    truth = []
    for kind, rate in RATES.items():
        level = "question" if kind.endswith("question") else "answer"
        for _ in range(round(rate * len(slots[level]))):
            place, source = free[level].pop(), {}
            if "duplicate" in kind:  # the later of two texts becomes a copy of the earlier one
                first, place = sorted((place, free[level].pop()))
                original, field, ids = slots[level][first]
                source = {"original": ids.get("answer_id") or ids["question_id"]}
                new, extra = _duplicate(rng, original[field], clauses[level], near="near" in kind)
            record, field, ids = slots[level][place]
            if not source:
                new, extra = _dirty(rng, kind.removesuffix(" question"), record[field], clauses[level])
            record[field] = new
            truth.append({"kind": kind.replace("data question", "data"), "variant": ""} | ids | source | extra)
    return questions, truth


def write(folder: Path, answers: int, seed: int) -> None:
    """``corpus`` as the JSON Lines files corpus.jsonl and truth.jsonl of a folder."""
    for name, rows in zip(("corpus", "truth"), corpus(answers, seed)):
        write_jsonl(folder / f"{name}.jsonl", rows)


def five_grams(text: str) -> set[str]:
    """The character 5-grams of the letters and digits of a text."""
    letters = "".join(filter(str.isalnum, text)).lower()
    return {letters[i:i + 5] for i in range(len(letters) - 4)}


def jaccard(a: set, b: set) -> float:
    """Shared items over all items, 0 to 1."""
    return len(a & b) / (len(a | b) or 1)


def _clauses() -> tuple[list[str], dict[str, list[str]]]:
    """The topics of the bundled corpus, and its clauses of 6 to 30 characters without figures or Latin words."""
    rows = read_jsonl(BUNDLED / "questions.jsonl")
    texts = {"question": [r["question"] for r in rows], "answer": [a["text"] for r in rows for a in r["answers"]]}
    return sorted({r["topic"] for r in rows}), {
        level: sorted({c for text in found for c in re.findall(r"[^，。！？；：“”\sA-Za-z0-9]{5,29}[，。！？]", text)})
        for level, found in texts.items()}


def _body(rng: random.Random, clauses: dict[str, list[str]], level: str) -> str:
    length, parts, size = rng.randint(*LENGTH[level]), [], 0
    while size < length:
        parts.append(rng.choice(clauses[level]))
        size += len(parts[-1])
    return "".join(parts)[:-1] + "。"


def _digits(rng: random.Random, n: int, first: str = "123456789") -> str:
    return rng.choice(first) + "".join(rng.choices("0123456789", k=n - 1))


def _fill(rng: random.Random, template: str) -> tuple[str, str]:
    """A template with made-up values, and the (last) value."""
    m, word = "1" + _digits(rng, 10, "3456789"), "".join(rng.choices("abcdefghjkmnprstuwxyz", k=rng.randint(6, 9)))
    spaced = f"{m[:3]} {m[3:7]} {m[7:]}"
    birth = f"{rng.randint(1960, 2008)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
    identity = _digits(rng, 1, "123456") + _digits(rng, 5, "12345") + birth + _digits(rng, 3)
    identity += "10X98765432"[sum(int(d) * (2 ** (17 - i) % 11) for i, d in enumerate(identity)) % 11]
    card = "62" + _digits(rng, 13)
    odd = sum(int(d) if i % 2 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(card)))
    card += str(-odd % 10)
    card_spaced = " ".join(card[i:i + 4] for i in range(0, 16, 4))
    email = f"{word}{rng.randint(1, 999)}@example.{rng.choice(['com', 'org', 'com.cn'])}"
    values = {
        "mobile": m, "mobile_spaced": spaced, "mobile_dashed": spaced.replace(" ", "-"), "email": email,
        "mobile_wide": "".join(chr(ord(d) + 0xFEE0) for d in m), "email_at": email.replace("@", "(at)"),
        "landline": f"0{_digits(rng, 3, '3578')}-{_digits(rng, 7, '2345678')}", "wx": word + _digits(rng, 3),
        "qq": _digits(rng, rng.randint(7, 10)), "identity": identity, "card": card, "card_spaced": card_spaced,
        "word": word, "n": str(rng.randint(120, 690)), "surname": rng.choice(SURNAMES)}
    used = re.findall(r"{(\w+)}", template)
    value = values[used[-1]] if used else ""
    filled = template.format(**values)
    return filled, re.search(r"https?\S+?(?=，)", filled)[0] if "https" in template else value


def _dirty(rng: random.Random, kind: str, text: str, clauses: list[str]) -> tuple[str, dict]:
    """A text of the kind made from a clean one, and what to note in the truth."""
    parts = re.findall(r"[^，。！？]+[，。！？]", text)
    cut = rng.randint(1, len(parts) - 1)
    if kind in ("personal data", "public data"):
        variant = rng.choice(list(PERSONAL)) if kind == "personal data" else ""
        template = rng.choice(PERSONAL[variant] if variant else PUBLIC)
        filled, string = _fill(rng, template)
        string = filled[:-1] if kind == "public data" else string
        return "".join(parts[:cut]) + filled + "".join(parts[cut:]), {"variant": variant, "string": string}
    if kind == "advertising":
        variant = rng.choice(list(ADVERTISING))
        lead = "".join(rng.choices(clauses, k=rng.randint(15, 30)))
        return lead + _fill(rng, rng.choice(ADVERTISING[variant]))[0], {"variant": variant}
    variant = rng.choice({"gibberish": ["symbols", "keyboard", "mojibake"],
                          "repetition": ["clause", "text", "character"]}[kind])
    length = rng.randint(150, 300)
    new = {"symbols": lambda: "".join(rng.choices(SYMBOLS, k=length)),
           "keyboard": lambda: "".join(rng.choices(MASH, k=length // 4)),
           "mojibake": lambda: "".join(rng.choices(MOJIBAKE, k=length // 3)),
           "clause": lambda: parts[0] * (length // len(parts[0])),
           "text": lambda: "".join(parts[:4]) * rng.randint(5, 8),
           "character": lambda: rng.choice("哈呜啊累") * length}[variant]()
    return new, {"variant": variant}


def _duplicate(rng: random.Random, text: str, clauses: list[str], near: bool) -> tuple[str, dict]:
    """A copy: exact (or but for spaces and punctuation), or edited until its Jaccard is a drawn one within JACCARD."""
    if not near:
        variant = rng.choice(["verbatim", "punctuation"])
        return text if variant == "verbatim" else text.replace("，", "， ").replace("。", "！"), {"variant": variant}
    grams, target, new, now = five_grams(text), rng.uniform(JACCARD[0] + .02, JACCARD[1]), text, 1.
    while now > target:
        parts = re.findall(r"[^，。！？]+[，。！？]", new)
        i, edit = rng.randrange(len(parts)), rng.random()
        if edit < .2:
            parts[i] = ""
        elif edit < .4:
            parts.insert(i, rng.choice(clauses))
        elif edit < .5:
            parts[i:i + 2] = parts[i:i + 2][::-1]
        else:
            at = rng.randrange(len(parts[i]) - 1)
            parts[i] = parts[i][:at] + rng.choice(["", "的", "了", "就", "很"]) + parts[i][at + (edit < .8):]
        if (changed := jaccard(grams, five_grams("".join(parts)))) >= JACCARD[0]:
            new, now = "".join(parts), changed
    band = f"{int(now * 10) / 10:.1f}–{int(now * 10) / 10 + .1:.1f}"
    return new, {"variant": band, "jaccard": round(now, 3)}
