"""Personal data out of texts: each span becomes a typed placeholder such as ``[电话]``. Public hotlines stay, because
a reply may need them. The patterns are ours; the paper says only that its data were anonymised.

No library: on our test cases jionlp and python-phonenumbers find less and harm more, and numbers with a wrong checksum
go as well. Not seen: nicknames, given names alone, names that nobody introduces, and stories that tell who it is."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

# A span's place in the original text (never the span itself), and the text with placeholders.
Found = NamedTuple("Found", [("kind", str), ("start", int), ("end", int)])
Anonymised = NamedTuple("Anonymised", [("text", str), ("found", list[Found])])
# Compared by their digits, with and without the country code 1.
HOTLINES = set("""110 119 120 122 911 988 12320 12338 12345 12348 12355 12356 741741 01082951332 01062715275 4001619995
    8008101117 8002738255 8007997233 8006564673 8007842433 8004224453 8775658860 8773306366 8664887386""".split())
# Same-length translation, so that positions hold: what is matched is ASCII, what is replaced is the original.
_NARROW = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1B), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_NARROW |= str.maketrans("＠．－＋＿（）／＃＊　\xa0∶–—", "@.-+_()/#*  :--")
_WIDE = re.compile(f"[{''.join(map(chr, _NARROW))}]".replace("：", ""))  # a colon alone is no reason to translate
_FILLER = "\0"  # stands for what is replaced already; no pattern matches it

# Fragments. A group in a pattern is the span; without one the whole match is.
_UNIT = r"(?! ?(?:元|块|万|亿|步|次|人|条|个|字|岁|年|月|天|分|秒|米|公里|斤|句|%|美元|韩元|日元|dollars|people|steps))"  # amounts stay
_IS = r"(?:[ \t:：,，~]|号码?|账号|就?是|为|id){0,5}+"  # between a label and its number
_TLD = r"(?:com|cn|net|org|edu|gov|info|top|cc|io|co|uk|me|vip|xyz|site|club|tv|app|de|jp|hk|tw|us|ca|au)"
_LINK = r"[\w./?%&=+#~:;,@!$'*()-]"
_AT = r" ?(?:[(\[{<【](?:at|@|艾特)[)\]}>】]|艾特|圈a|[#*★☆&$]) ?"
_DOT = r" ?(?:\.|[(\[{<【](?:dot|点)[)\]}>】]|点) ?"
_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_CN = "零〇○一二三四五六七八九幺"
_NO = "[0-9一二三四五六七八九十]"
# Chinese characters that may stand in a place's name: none that ends the words before it (住在, 位于, 我们的 ...).
_PLACE = r"[^\0-\u4dff\ua000-\U0010ffff我你他她它们在住的是了到从去读考进这那某所位于被把给说有没就也叫让寄离跟]"
_ROOM = r"(?:号院|号楼|号|弄|栋|幢|座|单元|楼|层|室|房|户|组)"
_ESTATE = r"(?:小区|花园|公寓|家园|新村|苑|大厦|广场|社区|宿舍)"
_NUMBER = rf"{_NO}{{1,5}}(?:号院|号楼|号(?!线|出口|门|选手)|弄|栋|幢|座|组(?!合|织)|期|单元)"
_SCHOOL = r"(?:大学|学院|中学|小学|学校|高中|初中|附中|附小|[一二三四五六七八九十\d]中(?!学)|职高|技校|中专|幼儿园|外国语)"
_OWN_SCHOOL = "(?:中学|小学|高中|学校|[一二三四五六七八九十]中(?!学)|职高|技校|幼儿园)"
_CAP = r"(?:[A-Z]['’])?[A-Z][a-z]{1,20}(?:-?[A-Z][a-z]{1,20}){0,2}\b"  # Jane, McDonald, O'Neill, Smith-Jones
_TITLE = r"(?:(?:Dr|Mr|Mrs|Ms|Prof)\.? )?"
_ONE = rf"{_TITLE}{_CAP}(?: [A-Z]\b\.?)?(?: {_CAP}){{0,2}}"  # one name will do
_FULL = rf"{_TITLE}{_CAP}(?: [A-Z]\b\.?)?(?: (?:van |von |de )?{_CAP}){{1,2}}"
_CREDENTIAL = r"(?:(?:Ph|Psy|Ed)\.?D|D\.?Min|DBH|M\.?D\b|M\.?Ed|MSW|A?MFT|NCC|M\.?[AS]\.?,|(?:M[AS] )?[LR][A-Z]{2,5}\b)"
_CLOSING = (r"(?:[Bb]est(?: wishes| regards| of luck)?|(?:[Ww]arm|[Kk]ind)(?:est)? [Rr]egards|[Ww]armly|[Ss]incerely|"
            r"[Rr]egards|[Tt]ake (?:good )?care|[Yy]ours(?: truly)?|[Bb]lessings|[Bb]e well|[Rr]espectfully|[Cc]heers|"
            r"[Tt]hanks|[Tt]hank you|[Ww]ishing you well|[Nn]amaste|Love(?=,\n)|[Gg]ood luck)")

# Surnames and what follows 我是, 本人 or 叫 but is no name; a name has one or two characters more.
_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴" \
    "夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜倪严牛温" \
    "芦季俞章鲁葛伍韦申尤毕聂丛焦柳邢路岳齐梅莫庄辛管祝左涂谷祁耿牟卜肖詹关苗凌费纪靳盛童欧甄项曲游阳裴席卫查屈鲍霍翁甘景"
_COMPOUND = "欧阳|司马|上官|诸葛|司徒|东方|皇甫|尉迟|公孙|慕容|令狐|夏侯|端木|南宫"
_GIVEN = r"[^\0-\u4dff\ua000-\U0010ffff今是在的了来不也很我你他她就有没和与跟这那着过吗呢吧啊什么谁们被把给让说于从到去对都要会能得又还却]"
_NO_NAME = "安[静徽心全稳]|严[重格]|方[便向]|平时|高[一二三中考兴]|马上|何[必苦况]|任[何性劳务意]|万[念分一]|易[胖怒]|成[年绩都功]|" \
    "白[领羊天]|常[常年]|江[西苏湖]|温[州柔暖和]|石家|郑州|徐州|柳州|文[科化静]|金[牛融]|武汉|王[者道]|关[于系心]|康复|毕业|雷打|" \
    "左[右撇]|路[人过痴]|游[戏客]|全职|史上|许久|程序|齐[全心]|祝[福你]|查[出了]|管[理家]|莫名|牛马|童年|苗族|钟[点情]|席位"
_NAME = rf"(?!{_NO_NAME})(?:{_COMPOUND}|[{_SURNAMES}])" \
    rf"(?!某|.?(?:老师|医生|阿姨|叔叔|同学|大爷|大妈|女士|先生|小姐|姐姐|哥哥|[姐哥总叔姨嫂婶](?!{_GIVEN})))(?:{_GIVEN}(?!一[个直名位]){_GIVEN}|{_GIVEN})"
_RELATIVE = "[他她公婆夫妻友子儿妈爸母父姐哥弟妹学事师司导象任娃孙爷奶叔姨舅姑]"
_STOP_EN = r"(?!(?:Not|Just|So|Very|Too|Still|Always|Never|Miss|Type|Generation|Bipolar|African|Asian|Native|Roman|" \
    r"Latin|Black|White|Mexican|Chinese|Indian|Irish|Italian|American|Christian|Catholic|Jewish|New|The|An?|In)\b)"


def _any(*words: str) -> Callable:
    """A cheap test before a pattern: does one of the words stand in the (lower-case) text?"""
    return lambda text: any(map(text.__contains__, words))


_digits = lru_cache(1)(re.compile(r"\d(?:[ .()-]{0,2}\d){6}").search)  # asked by many rules about the same text
_closing = re.compile("best|regards|warm|sincere|care|yours|bless|well|respect|cheer|thank|love|luck|namaste").search
_town = re.compile(rf"[市县区镇乡州][\u4e00-\u9fff]{{0,8}}?{_OWN_SCHOOL}").search
_class = re.compile(rf"{_NO}\)?班").search
_plate = re.compile(f"[{_PROVINCES}][a-z]").search
_building = re.compile(rf"[路街道同巷弄村屯庄区园寓家苑厦场舍段] ?{_NO}{{1,5}}(?:号|弄|栋|幢|座|组|期|单元)").search
# In order of precedence: what an earlier pattern takes no later one sees. (kind, cheap test, pattern)
_RULES = [(kind, test, re.compile(pattern, re.A)) for kind, test, pattern in (
    ("邮箱", _any("@"), r"(?<![\w.+-])[\w.+-]{1,64} ?@ ?[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}"),
    # name(at)site.com, name#site.com, name艾特site点com, name at site dot com; then links, also example.com/us alone
    ("邮箱", _any("at", "艾特", "#", "*", "★", "☆", "圈a"), rf"(?i)(?<![\w.+-])[\w.+-]{{1,64}}"
     rf"(?:{_AT}(?:[\w-]{{1,63}}{_DOT}){{1,4}}| at (?:[\w-]{{1,63}} dot ){{1,4}}){_TLD}(?!\w)"),
    ("链接", _any("http", "www.", ".c", ".n", ".o", ".e", ".g", ".i", ".t"),
     rf"(?i)(?:https?://|www\.){_LINK}{{2,500}}(?<![.,;:!?)'*])|(?<![\w@.-])"
     rf"(?:[a-z\d][a-z\d-]{{0,62}}\.){{1,5}}{_TLD}(?![\w-])(?:/{_LINK}{{0,500}}(?<![.,;:!?)'*]))?"),
    # numbers that only their label gives away
    ("学号", _any("学号", "学籍号"), rf"(?i)(?:学号|学籍号){_IS}([a-z]{{0,3}}\d{{5,20}})"),
    ("准考证", _any("考证", "考号"), rf"(?i)(?:准考证|考号){_IS}([a-z]{{0,3}}\d{{5,20}})"),
    ("证件", _any("工号", "病历", "住院号", "门诊号", "就诊卡", "护照", "社保", "医保", "passport"),
     rf"(?i)(?:工号|病历号?|住院号|门诊号|就诊卡|护照|社保号?|医保号?|passport(?: number| no\.?)?){_IS}(?:is )?([a-z]{{0,3}}\d{{5,20}})"),
    ("证件", _digits, r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),  # a US social security number
    # ids after a label: with a digit, _ or - anywhere; letters alone only after 号, id or a colon
    ("微信", _any("微信", "薇信", "威信", "徽信", "v信", "v:", "v：", "❤", "加v", "加微", "加薇", "加我", "+", "➕", "绿泡泡"),
     rf"(?i)(?:[微薇威徽v](?:信|❤\ufe0f?)|绿泡泡|(?<![a-z])v(?=[:：])|(?<![\w/+=])[加+➕] ?[我个]? ?(?:[微薇威]|v(?![a-z]))(?![信博]))"
     rf"(?:{_IS}(?:我?手机号)?{_IS}(?!iphone|ipad)((?=[a-z]{{0,19}}[\d_-])[a-z\d][\w-]{{5,19}}(?!\w)){_UNIT}"
     rf"|(?:号码?|id|[:： ]){_IS}([a-z]{{6,20}}))"),
    ("微信", _any("vx", "wx", "wechat", "weixin"),
     rf"(?i)(?<![\w+/=])(?:vx|wx|wechat|weixin){_IS}[a-z\d][\w-]{{5,19}}|wxid_\w{{5,30}}"),
    ("QQ", _any("q", "扣扣", "企鹅", "球球", "加群"),
     rf"(?i)(?:(?<![a-z])(?:qq|q(?= ?[:：群号]))|扣扣|企鹅|球球|加q)群?{_IS}(?:加我|联系)?{_IS}"
     rf"(?:[1-9]\d{{4,11}}(?!\d)|[1-9]\d{{2,3}}(?:[ -]\d{{3,4}}){{1,3}}(?!\d)){_UNIT}"
     rf"|加群{_IS}([1-9]\d{{5,11}})|(?<!\d)([1-9]\d{{4,11}})(?=(?:这个|是我的?|的|是)?(?:qq|扣扣))"),
    # 18 or 15 digits with a date, or any after the label; cards: 16 to 19 digits as issuers begin them (further below
    # any number called a card or an account); a wrong check digit makes no difference
    ("身份证", _digits,
     rf"(?<!\d)[1-9]\d{{5}} ?(?:(?:18|19|20)\d\d)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]) ?\d{{3}}[\dxX](?!\d)"
     rf"|(?<!\d)[1-9]\d{{7}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{{3}}(?!\d)|身份证{_IS}(\d{{14,17}}[\dxX])"),
    ("银行卡", _digits, rf"(?<![\d.])(?:[3-6]\d{{3}}|9558)(?:[ -]?\d{{4}}){{3}}(?:[ -]?\d{{3}}|\d{{1,2}})?(?!\d){_UNIT}"),
    # mobile; landline and 400; North America, abroad with +, Britain; mobile in Chinese characters; short with a label
    ("电话", _digits, rf"(?<![\d.¥$-])(?:(?:\+|00)?86[- ]?)?1(?:[3-9]\d[ .-]?\d{{4}}[ .-]?\d{{4}}"
     rf"|[3-9]\d[ -]?\d{{3}}[ -]?\d{{5}}|[3-9]\d\d[ -]\d{{3}}[ -]\d{{4}}|(?:[ -]\d){{10}})(?!\d){_UNIT}"),
    ("电话", _digits,
     r"(?<![\d.-])(?:\(0\d{2,3}\)|0\d{2,3})[ -]?[1-9]\d{2,3}[ -]?\d{4}(?:(?:转|-| ?ext\.? ?)\d{1,6})?(?!\d)"
     r"|(?<![\d-])[48]00[- ]?(?:\d{3}[- ]?\d{4}|\d{4}[- ]?\d{3})(?![\d-])(?! ?[元块万亿步次人])"),
    ("电话", _digits,
     r"(?<![\w$.-])(?:\+?1[-. ]?)?(?:(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]|\d{6}-)\d{4}(?![\d-])"
     r"|(?<!\w)\+\d{1,3}[ -]?\(?\d{1,4}\)?(?:[ -]?\d{2,4}){2,4}(?!\d)|(?<!\d)07\d{3} ?\d{3} ?\d{3}(?!\d)"),
    ("电话", _any("一三", "一五", "一七", "一八", "一九", "幺"), rf"(?<![{_CN}])[一幺][三四五六七八九][{_CN}]{{9}}(?![{_CN}])"),
    ("电话", _digits, rf"(?i)(?:电话|手机号?|座机|固话|tel|phone){_IS}(\d{{3,4}}[- ]?\d{{4}})(?![\d-]){_UNIT}"),
    ("银行卡", _digits, rf"(?:卡号?|账[号户]|帐号){_IS}((?:\d[ -]?){{8,20}}\d)(?!\d){_UNIT}"),
    ("车牌", _plate, rf"(?i)[{_PROVINCES}][A-HJ-NP-Z][ ·・•.-]{{0,2}}(?=[A-Z]{{0,2}}\d)"
     r"[A-HJ-NP-Z\d]{4,5}[A-Z\d挂学警港澳](?![A-Z\d])"),
    # a school's name counts with a class, or with its town
    ("学校", _class,
     rf"(?!孩子|儿子|女儿|今年|现在|当时|妹妹|弟弟){_PLACE}{{2,15}}?{_SCHOOL}[ ,，的]?"
     rf"(?:{_PLACE}{{2,10}}?(?:学院|系|专业|校区))?的?(?:[高初大研][一二三四]|[一二三四五六1-6]年级|(?:20)?\d\d级)?"
     rf"\(?{_NO}{{1,4}}\)?班"),
    ("学校", _town,
     rf"{_PLACE}{{1,8}}(?<![城全本上])[市县区镇乡州](?!重点|普通|最好|直属|级)(?:{_PLACE}{{1,8}}?{_OWN_SCHOOL}|{_NO}中(?!学))(?!生)"),
    # a street or estate with a number, then estate, house, staircase, flat
    ("地址", _building,
     rf"{_PLACE}{{2,20}}?(?:路|街|大道|胡同|巷|弄|村|屯|庄|{_ESTATE})(?:[东南西北中]?{_NO}段)? ?{_NUMBER}"
     rf"(?:(?:{_PLACE}{{2,8}}?{_ESTATE})?[A-Z]?(?:-?\d{{1,5}}{_ROOM}?|{_NO}{{1,3}}{_ROOM}|座)){{0,6}}"),
    ("地址", _any(" st", " ave", " r", " l", " dr", " blv", " c", " pl", " way"),
     rf"(?<![\w$])\d{{1,5}} (?:[NSEW]\.? )?(?:{_CAP} ){{1,3}}(?:St(?:reet)?|Ave(?:nue)?|R(?:oa)?d|Lane|Ln|Dr(?:ive)?|"
     r"Blvd|Boulevard|Court|Ct|Place|Pl|Way)\b\.?(?:,? (?:Apt|Unit|Suite|Ste|#)\.? ?\w+)?"),
)]
# Who is introduced; every other occurrence of the name in the text goes too.
_INTRODUCED = [(test, re.compile(pattern, re.A)) for test, pattern in (
    (_any("叫", "名"), rf"(?:(?:我|名字?)就?叫(?:做|作)?|(?:姓名|[本真大]名)[:： ]*是?|名字[:： ]*[是:：])[:： ]*({_NAME})"),
    (_any("我是", "本人", "叫"),  # weaker: only before a pause, and no 我是高中生
     rf"(?:我是|本人|{_RELATIVE}(?:的名字)?就?叫做?)[:： ]?({_NAME})"
     r"(?<![生人者员师家女男族党座])(?=[^\u4e00-\u9fff]|$|今年)"),
    (_any("name"), rf"[Mm]y (?:full )?name(?: is|['’]s) ({_ONE})"),
    (_any("i am", "i'm", "i’m", "this is"),
     rf"(?:\bI am|\bI['’]m|(?:Hello|Hi), (?:this is|I am|I['’]m)) {_STOP_EN}"
     rf"({_FULL}|(?:Dr|Mr|Mrs|Ms|Prof)\.? {_CAP})(?=[,.!;]| and | from |\s?$|\n)"),
    # signatures: by the credentials, by the closing, on a last line of their own
    (_any(", "), rf"({_FULL}),? {{0,2}}{_CREDENTIAL}(?=[^\0]{{0,200}}\Z)"),
    (_closing,
     rf"{_CLOSING}(?: to you)?(?:[,!.]{{1,5}}\s{{1,5}}|\n)-?\s?(?!Best|Warm|Kind|Good|Be|Take|Thank)"
     rf"(?:({_FULL})(?=[,.|~(\n]|\s{{0,9}}\Z)|({_TITLE}{_CAP})(?=[.! ]?(?:~|\s{{0,9}}\Z)))"),
    (_any("\n"), rf"\n\s{{0,5}}(?:[-~]{{1,5}} ?({_ONE})|({_FULL}))(?=,[^\n]{{0,80}}\s{{0,9}}\Z|\s{{0,9}}\Z)"),
)]
_PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(sorted({kind for kind, *_ in _RULES} | {'姓名'}))})\]")


def anonymise(text: str) -> Anonymised:
    """Replace personal data by placeholders: 我的电话是13912345678，打12356也行 → 我的电话是[电话]，打12356也行."""
    view = text.translate(_NARROW) if _WIDE.search(text) else text
    view = _PLACEHOLDER.sub(lambda match: _FILLER * len(match[0]), view)
    found, before = [], -1
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
        names = sorted(names, key=len, reverse=True)  # the longest first: John Smith before John
        view = re.sub("|".join(rf"(?<![A-Z]){re.escape(name)}(?![a-z])" for name in names), take, view)
    return view
