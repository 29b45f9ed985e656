"""Personal data out of texts: each span becomes a typed placeholder such as ``[电话]``. Public hotlines stay, because
a reply may need them. The patterns are ours; the paper says only that its data were anonymised.

No library: on our test cases jionlp and python-phonenumbers find less and harm more, and numbers with a wrong checksum
go as well. Not seen: nicknames, given names alone, names that nobody introduces, and stories that tell who it is."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

# The place of a replaced span in the original text (never the span itself), and the text with placeholders.
Found = NamedTuple("Found", [("kind", str), ("start", int), ("end", int)])
Anonymised = NamedTuple("Anonymised", [("text", str), ("found", list[Found])])

# Compared by their digits, with and without the country code 1.
HOTLINES = set("""110 119 120 122 911 988 12320 12338 12345 12348 12355 12356 01082951332 4001619995 8008101117 741741
    8002738255 8007997233 8006564673 8007842433""".split())
# Same-length translation, so that positions hold: what is matched is ASCII, what is replaced is the original.
_NARROW = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1B), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_NARROW |= str.maketrans("＠．－＋＿（）／＃＊　\xa0∶–—", "@.-+_()/#*  :--")
_WIDE = re.compile(f"[{''.join(map(chr, _NARROW))}]".replace("：", ""))  # a colon alone is no reason to translate
_FILLER = "\0"  # stands for what is replaced already; no pattern matches it

# Fragments. A group in a pattern is the span; without one the whole match is.
_UNIT = r"(?! ?(?:元|块|万|亿|步|次|人|条|个|字|岁|年|月|天|分|%|美元|韩元|日元|dollars|people|steps))"  # amounts stay
_IS = r"(?:[ \t:：,，~]|号码?|账号|就?是|为|id){0,5}+"  # between a label and its number
_TLD = r"(?:com|cn|net|org|edu|gov|info|top|cc|io|co|uk|me|vip|xyz|site|club|tv|app|de|jp|hk|tw|us|ca|au)"
_LINK = r"[\w./?%&=+#~:;,@!$'*()-]"
_AT = r" ?(?:[(\[{<【](?:at|@|艾特)[)\]}>】]|艾特|圈a|[#*★☆&$]) ?"
_DOT = r" ?(?:\.|[(\[{<【](?:dot|点)[)\]}>】]|点) ?"
_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_CN = "零〇○一二三四五六七八九幺"
_NO = "[0-9一二三四五六七八九十]"
# Chinese characters that may stand in a place's name: none that ends the words before it (住在, 位于, 我们的 ...).
_PLACE = r"[^\0-\u4dff\ua000-\U0010ffff我你他她它们在住的是了到从去读考进这那某所位于被把给说有没就也叫让寄离和跟]"
_ROOM = rf"(?:号院|号楼|号|弄|栋|幢|座|单元|楼|层|室|房|户|组)"
_ESTATE = r"(?:小区|花园|公寓|家园|新村|苑|大厦|广场|社区|宿舍)"
_NUMBER = rf"{_NO}{{1,5}}(?:号院|号楼|号(?!线|出口|门|选手)|弄|栋|幢|座|组(?!合|织)|期|单元)"
_SCHOOL = r"(?:大学|学院|中学|小学|学校|高中|初中|附中|附小|[一二三四五六七八九十\d]中|职高|技校|中专|幼儿园|外国语)"
_CAP = r"(?:[A-Z]['’])?[A-Z][a-z]+(?:[A-Z-][A-Za-z]+)*"  # a capitalised word: Jane, McDonald, O'Neill, Smith-Jones
_TITLE = r"(?:(?:Dr|Mr|Mrs|Ms|Prof)\.? )?"
_FULL = rf"{_TITLE}{_CAP}(?: [A-Z]\b\.?)?(?: (?:van |von |de )?{_CAP}){{1,2}}"
_CREDENTIAL = r"(?:Ph\.?D|Psy\.?D|Ed\.?D|D\.?Min|DBH|M\.?D\b|M\.?Ed|MSW|A?MFT|NCC|BCBA|M\.?A\.?,|M\.?S\.?,|[LR][A-Z]{2,5}\b)"
_CLOSING = (r"(?:[Bb]est(?: wishes| regards| of luck)?|(?:[Ww]arm|[Kk]ind)(?:est)? [Rr]egards|[Ww]armly|[Ss]incerely|"
            r"[Rr]egards|[Tt]ake (?:good )?care|[Yy]ours(?: truly)?|[Bb]lessings|[Bb]e well|[Rr]espectfully|[Cc]heers|"
            r"[Tt]hanks|[Tt]hank you|[Ww]ishing you well|[Nn]amaste|[Ll]ove|[Gg]ood luck)")

# Surnames and what follows 我是, 本人 or 叫 but is no name; a name has one or two characters more.
_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴" \
    "夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜倪严牛温" \
    "芦季俞章鲁葛伍韦申尤毕聂丛焦柳邢路岳齐梅莫庄辛管祝左涂谷祁耿牟卜肖詹关苗凌费纪靳盛童欧甄项曲游阳裴席卫查屈鲍霍翁甘景"
_COMPOUND = "欧阳|司马|上官|诸葛|司徒|东方|皇甫|尉迟|公孙|慕容|令狐|夏侯|端木|南宫"
_GIVEN = r"[^\0-\u4dff\ua000-\U0010ffff今是在的了来不也很我你他她就有没和与跟这那着过吗呢吧啊什么谁们被把给让说于从到去对都要会能得又还却一]"
_GIVEN_1 = _GIVEN.replace("一]", "]")  # 一 may start a given name, but not end a short one
_NAME = rf"(?!WORDS)(?:{_COMPOUND}|[{_SURNAMES}])(?:{_GIVEN_1}{_GIVEN_1}|{_GIVEN})(?<!老师)(?<!医生)(?<!阿姨)(?<!叔叔)(?<!同学)(?<![大姐哥爷奶]爷)(?<!大妈)".replace(
    "WORDS", "安静|严重|严格|方便|方向|平时|高[一二三中考兴]|马上|何[必苦德时况等]|任[何性劳务]|万[念分一]|易[胖怒]|成[年绩都功]|白[领羊天痴]|"
    "常[常年]|江[西苏湖]|安徽|温[州柔暖]|石家|郑州|徐州|文[科化艺静]|金[牛融]|武汉|王[者道]|关[于系心]|康复|毕业|温州|武汉|雷打|左[右撇]|"
    "路[人过痴]|游[戏客]|全[职]|史[上]|许[多久]|程序|田[径园]|齐[齐]|祝[福你]|查[出了]|管[理家]|安[心全稳]|单[身亲]|陪|钱[多少]")
_RELATIVE = "他|她|公|婆|夫|妻|友|子|儿|妈|爸|母|父|姐|哥|弟|妹|学|事|友|师|司|导|象|任|娃|孙|爷|奶|叔|姨|舅|姑"
_STOP_EN = r"(?!(?:Not|Just|So|Very|Too|Still|Always|Never|Also|Miss|Type|Generation|Bipolar|African|Asian|Native|Roman|Latin|" \
    r"Black|White|Mexican|Chinese|Indian|Irish|Italian|American|Christian [A-Z]|Catholic|Jewish|Muslim|New|The|A|An|In|On|At)\b)"


def _any(*words: str) -> Callable:
    """A cheap test before a pattern: does one of the words stand in the (lower-case) text?"""
    return lambda text: any(map(text.__contains__, words))


_digits = lru_cache(1)(re.compile(r"\d(?:[ .()-]{0,2}\d){6}").search)  # asked by many rules about the same text
_closing = _any("best", "regards", "warmly", "sincerely", "care", "yours", "bless", "well", "respect", "cheers", "thank", "love",
                "luck", "namaste")
_town = re.compile("[市县区镇乡州][\u4e00-\u9fff]{1,8}?(?:中学|小学|高中|学校|[一二三四五六七八九十]中|职高|技校|幼儿园)").search
_class = re.compile(rf"{_NO}\)?班").search
_plate = re.compile(f"[{_PROVINCES}][a-z]").search
_building = re.compile(rf"[路街道同巷弄村屯庄区园寓家苑厦场舍段] ?{_NO}{{1,5}}(?:号|弄|栋|幢|座|组|期|单元)").search
# In order of precedence: what an earlier pattern takes no later one sees. (kind, cheap test, pattern)
_RULES = [(kind, test, re.compile(pattern, re.A)) for kind, test, pattern in (
    ("邮箱", _any("@"), r"(?<![\w.+-])[\w.+-]{1,64} ?@ ?[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}"),
    # name(at)site.com, name#site.com, name艾特site点com; name at site dot com
    ("邮箱", _any("at", "艾特", "#", "*", "★", "☆", "圈a"),
     rf"(?i)(?<![\w.+-])[\w.+-]{{1,64}}(?:{_AT}(?:[\w-]{{1,63}}{_DOT}){{1,4}}| at (?:[\w-]{{1,63}} dot ){{1,4}}){_TLD}(?!\w)"),
    ("链接", _any("http", "www.", ".c", ".n", ".o", ".e", ".g", ".i", ".t"),
     rf"(?i)(?:https?://|www\.){_LINK}{{2,500}}(?<![.,;:!?)'*])|(?<![\w@.-])(?:[a-z\d][a-z\d-]{{0,62}}\.){{1,5}}{_TLD}(?![\w-])"
     rf"(?:/{_LINK}{{0,500}}(?<![.,;:!?)'*]))?"),
    ("学号", _any("学号", "学籍号"), rf"(?i)(?:学号|学籍号){_IS}([a-z]{{0,3}}\d{{5,20}})"),
    ("准考证", _any("考证", "考号"), rf"(?i)(?:准考证|考号){_IS}([a-z]{{0,3}}\d{{5,20}})"),
    ("证件", _any("工号", "病历", "住院号", "门诊号", "就诊卡", "护照", "社保", "医保", "passport"), rf"(?i)(?:工号|病历号?|住院号|门诊号|就诊卡|护照|社保号?|医保号?|passport(?: number| no\.?)?){_IS}(?:is )?"
                    rf"([a-z]{{0,3}}\d{{5,20}})"),
    ("证件", _digits, r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),  # a US social security number
    # ids after a label: with a digit, _ or - anywhere; letters alone only after 号, id or a colon
    ("微信", _any("微信", "薇信", "威信", "徽信", "v信", "❤", "加v", "加微", "加薇", "加我", "+", "➕", "绿泡泡"),
     rf"(?i)(?:[微薇威徽v](?:信|❤\ufe0f?)|绿泡泡|[加+➕] ?(?:我|个)? ?[v微薇威](?![a-z信博]))(?!群)(?:{_IS}(?:我?(?:的|手机号))?{_IS}"
     rf"(?!iphone|ipad)((?=[a-z]{{0,19}}[\d_-])[a-z\d][\w-]{{5,19}}(?!\w)){_UNIT}|(?:号码?|id|[:： ]){_IS}([a-z]{{6,20}}))"),
    ("微信", _any("vx", "wx", "wechat", "weixin"),
     rf"(?i)(?<![a-z])(?:vx|wx|wechat|weixin){_IS}[a-z0-9][\w-]{{5,19}}|wxid_\w{{5,30}}"),
    ("QQ", _any("q", "扣扣", "企鹅", "球球", "加群"),
     rf"(?i)(?:(?<![a-z])(?:qq|q(?= ?[:：群号]))|扣扣|企鹅|球球|加q)群?{_IS}(?:加我|联系)?{_IS}"
     rf"(?:[1-9]\d{{4,11}}(?!\d)|[1-9]\d{{2,3}}(?:[ -]\d{{3,4}}){{1,3}}(?!\d)){_UNIT}"
     rf"|加群{_IS}([1-9]\d{{5,11}})|(?<!\d)([1-9]\d{{4,11}})(?=(?:这个|是我的?|的|是)?(?:qq|扣扣))"),
    # 18 or 15 digits with a date, or any 15 to 18 after the label; a wrong check digit makes no difference
    ("身份证", _digits, rf"(?<!\d)[1-9]\d{{5}} ?(?:(?:18|19|20)\d\d)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]) ?\d{{3}}[\dxX](?!\d)|"
                     rf"(?<!\d)[1-9]\d{{7}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{{3}}(?!\d)|身份证{_IS}(\d{{14,17}}[\dxX])"),
    # 16 to 19 digits in fours, whether or not Luhn's sum is right
    ("银行卡", _digits, rf"(?<![\d.])[1-9]\d{{3}}(?:[ -]?\d{{4}}){{3}}(?:[ -]?\d{{3}}|\d{{1,2}})?(?!\d){_UNIT}"),
    ("电话", _digits, rf"(?<![\d.¥$-])(?:(?:\+|00)?86[- ]?)?1(?:[3-9]\d[ .-]?\d{{4}}[ .-]?\d{{4}}|[3-9]\d[ -]?\d{{3}}[ -]?\d{{5}}"
                    rf"|[3-9]\d\d[ -]\d{{3}}[ -]\d{{4}}|(?:[ -]\d){{10}})(?!\d){_UNIT}"),
    ("电话", _digits, r"(?<![\d.-])(?:\(0\d{2,3}\)|0\d{2,3})[ -]?[1-9]\d{2,3}[ -]?\d{4}(?:(?:转|-| ?ext\.? ?)\d{1,6})?(?!\d)"
                    r"|(?<![\d-])[48]00[- ]?(?:\d{3}[- ]?\d{4}|\d{4}[- ]?\d{3})(?![\d-])"),
    ("电话", _digits, r"(?<![\w$.-])(?:\+?1[-. ]?)?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\d-])"
                    r"|(?<!\w)\+\d{1,3}[ -]?\(?\d{1,4}\)?(?:[ -]?\d{2,4}){2,4}(?!\d)|(?<!\d)07\d{3} ?\d{3} ?\d{3}(?!\d)"),
    ("电话", _any("一三", "一五", "一七", "一八", "一九", "幺"), rf"(?<![{_CN}])[一幺][三-九五六七八九][{_CN}]{{9}}(?![{_CN}])"),
    ("电话", _digits, rf"(?i)(?:电话|手机号?|座机|固话|tel|phone){_IS}(\d{{3,4}}[- ]?\d{{4}})(?![\d-]){_UNIT}"),
    ("银行卡", _digits, rf"(?:卡号?|账[号户]|帐号){_IS}((?:\d[ -]?){{8,20}}\d)(?!\d){_UNIT}"),
    ("车牌", _plate, rf"(?i)[{_PROVINCES}][A-HJ-NP-Z][ ·・•.-]{{0,2}}"
                    rf"(?=[A-Z]{{0,2}}\d)[A-HJ-NP-Z\d]{{4,5}}[A-Z\d挂学警港澳](?![A-Z\d])"),
    # a school's name counts with a class, or with its town
    ("学校", _class, rf"(?!孩子|儿子|女儿|今年|现在|当时|妹妹|弟弟){_PLACE}{{2,15}}?{_SCHOOL}[ ,，的]?(?:{_PLACE}{{2,10}}?(?:学院|系|专业|校区))?的?"
                  rf"(?:[高初大研][一二三四]|[一二三四五六1-6]年级|(?:20)?\d\d级)?\(?{_NO}{{1,4}}\)?班"),
    ("学校", _town,
     rf"{_PLACE}{{1,8}}(?<!城)[市县区镇乡州](?!重点|普通|最好|直属|级){_PLACE}{{1,8}}?(?:中学|小学|高中|学校|[一二三四五六七八九十]中|职高|技校|幼儿园)"
     rf"(?!生)(?:[高初][一二三])?"),
    ("地址", _building, rf"{_PLACE}{{2,20}}?(?:路|街|大道|胡同|巷|弄|村|屯|庄|{_ESTATE})(?:[东南西北中]?{_NO}段)? ?{_NUMBER}"
                     rf"(?:(?:{_PLACE}{{2,8}}?{_ESTATE})?[A-Z]?(?:-?\d{{1,5}}{_ROOM}?|{_NO}{{1,3}}{_ROOM}|座)){{0,6}}"),
    ("地址", _any(" st", " ave", " r", " l", " dr", " blv", " c", " pl", " way"),
     rf"(?<![\w$])\d{{1,5}} (?:[NSEW]\.? )?(?:{_CAP} ){{1,3}}(?:St(?:reet)?|Ave(?:nue)?|R(?:oa)?d|Lane|Ln|Dr(?:ive)?|Blvd|Boulevard|"
     r"Court|Ct|Place|Pl|Way)\b\.?(?:,? (?:Apt|Unit|Suite|Ste|#)\.? ?\w+)?"),
)]
# Who is introduced; every other occurrence of the name in the text goes too.
_INTRODUCED = [(test, re.compile(pattern, re.A)) for test, pattern in (
    (_any("叫", "名"), rf"(?:(?:我|(?:{_RELATIVE})(?:的名字)?|名字?)就?叫(?:做|作)?|(?:姓名|本名|真名|大名|名字)[:： ]*是?)[:： ]*({_NAME})"),
    (_any("我是", "本人"), rf"(?:我是|本人)[:： ]?({_NAME})(?<![生人者员师家女男族党座])(?=[^\u4e00-\u9fff]|$|今年)"),
    (_any("name"), rf"[Mm]y (?:full )?name(?: is|['’]s) ({_TITLE}{_CAP}(?: [A-Z]\b\.?)?(?: {_CAP}){{0,2}})"),
    (_any("i am", "i'm", "i’m", "this is"), rf"(?:\bI am|\bI['’]m|(?:Hello|Hi), (?:this is|I am|I['’]m)) {_STOP_EN}"
                                            rf"({_FULL}|(?:Dr|Mr|Mrs|Ms|Prof)\.? {_CAP})(?=[,.!;]| and | from |\s?$|\n)"),
    (_any(", "), rf"({_FULL}),? {_CREDENTIAL}"),
    (_closing, rf"{_CLOSING}[,!.]{{0,3}}\s{{1,5}}-?\s{{0,5}}({_TITLE}{_CAP}(?: [A-Z]\b\.?)?(?: {_CAP}){{0,2}})(?=[,.]?[^\n]{{0,40}}\s{{0,9}}\Z)"),
    (_any("\n"), rf"\n\s{{0,5}}(?:[-~]{{1,5}} ?({_TITLE}{_CAP}(?: [A-Z]\b\.?)?(?: {_CAP}){{0,2}})|({_FULL}))(?=,[^\n]{{0,80}}\s{{0,9}}\Z|\s{{0,9}}\Z)"),
)]
_PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(sorted({kind for kind, *_ in _RULES} | {'姓名'}))})\]")


def anonymise(text: str) -> Anonymised:
    """Replace personal data by placeholders: 我的电话是13912345678，打12356也行 → 我的电话是[电话]，打12356也行."""
    view, found = _PLACEHOLDER.sub(lambda match: _FILLER * len(match[0]), text.translate(_NARROW) if _WIDE.search(text) else text), []
    before = -1
    while before < len(found):  # again after a find, so that a second call finds nothing
        before = len(found)
        view = _sweep(view, found)
    found.sort(key=lambda f: f.start)
    for span in reversed(found):
        text = f"{text[:span.start]}[{span.kind}]{text[span.end:]}"
    return Anonymised(text, found)


def _sweep(view: str, found: list[Found]) -> str:
    """Add to ``found`` what each pattern finds in the view; the view with these spans filled."""
    def take(match: re.Match) -> str:
        start, end = match.span(match.lastindex or 0)
        if kind == "电话" and HOTLINES & {digits := re.sub(r"\D", "", view[start:end]), digits.removeprefix("1")}:
            return match[0]
        found.append(Found(kind, start, end))
        return view[match.start():start] + _FILLER * (end - start) + view[end:match.end()]

    low = view.lower()
    for kind, test, pattern in _RULES:
        if test(low):
            view = pattern.sub(take, view)
    names = {match[match.lastindex] for test, pattern in _INTRODUCED if test(low) for match in pattern.finditer(view)}
    if names:
        kind = "姓名"
        view = re.sub("|".join(rf"(?<![A-Za-z]){re.escape(name)}(?![a-z])" for name in sorted(names, key=len)[::-1]), take, view)
    return view
