"""Signs of crisis in a text, Chinese or English, by rules of our own, written on 155 texts of ``bundled/crisis.jsonl``. They
find words, not meaning, and miss many people: ``none`` proves nothing. ``crisis``: active suicidal thoughts, plans,
self-harm, harm to others, violence or abuse going on. ``concern``: passive wishes, hopelessness, the past, others."""

import re
from typing import NamedTuple

LEVELS = ("none", "concern", "crisis")
Screen = NamedTuple("Screen", [("level", str), ("reasons", list[str])])
_CHARS = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | str.maketrans(
    "殺殘盡傷樓燒藥後時現還沒個頭結離媽親兒無過撐絕從會說燙遺書這讓給聲劃慣別學們幾願應買輕強姦總終對計畫紗亖’",
    "杀残尽伤楼烧药后时现还没个头结离妈亲儿无过撑绝从会说烫遗书这让给声划惯别学们几愿应买轻强奸总终对计划纱死'",
    "“”「」『』\"\u200b\u200c\u200d\u2060\ufeff")
_TRICK = re.compile(r"(?<=[自轻割跳上烧想去要寻不遗杀砍弄结])[\s*_·|/+.^#-]{1,3}(?=[杀残尽伤腕楼吊炭死想活书生要去束])")
# name = patterns; "_": a blank, "~": up to six characters of a clause, "…": up to ten of a sentence, capitals: a list.
# A text without any of the hints is not read further; idioms are taken out before the rules read.
_LISTS, _P = {"_": " ", "~": r"[^,。!?\n]{0,6}?", "…": r"[^。!?\n]{0,10}?"}, {}
_TEXT = r"""
PLACE = 天台 楼顶 窗台 铁轨 黄线 大桥 (?:阳台|窗户?|护栏|栏杆)外 ; CHILD = 孩子 小孩 弟弟? 妹妹? 女儿 儿子 娃 宝宝 闺女 孙[子女] ; NUM = [一二三四五六七八九十\d]
KIN = [爸妈父爹娘叔伯舅姑哥他她] 老公 丈夫 男人 男朋?友 姐夫 婆婆 保姆 老师 教练 ; ACT = 自杀 自尽 轻生 寻死 跳[楼河江桥海轨下] 上吊 割[腕脉喉] 烧炭 服毒 喝农药 吞药 卧轨
HIT = (?:(?<![挨被不没])打(?![电工算扮扰开招游针交趣听断字击小扫])|[踹掐捅揍烫砸砍踢勒殴])[了着]? ; spell 自残 = (?:(?<![a-z])zi|自)\s?c(?:an)?(?![a-z])
ON = 又 每[天次晚] 天天 正在 现在 [今昨][天晚] 刚 经常 总是? 还在 一直 动不动 喝[了完多] 隔三差五 ; mine = 我(?:真的?|[好很就只也都又]|已经|每天|总是?|经常|一直|突然|有时|还是)*$
HE = \b(?:s?he|husband|wife|\w+friend|dad|mom|\w*[fm]o?a?ther|partner|uncle)(?:_(?!verb|emot)\w+){0,3}
spell 自杀 = 自\s?(?:s(?![a-z])|sha|鲨|沙(?!漠)|刹) \s?(?<![a-z])(?:zi\s?sha|zs|zi?杀)(?![a-z]) 紫(?:砂(?![壶锅杯泥茶])|杀)
spell 死 = (?<=[想去])(?:4(?![\d.个天点次本])|si?(?![a-z])|四(?=了|算|$)) ; spell 割腕 = (?:噶|嘎|ga)腕 ; spell 杀了自己 = [噶嘎刀]了?自己
hints = 死 杀 残 刀 药 血 割 砍 捅 掐 踹 揍 烫 碰我 遗 虐 家暴 强暴 奸 侵 寻短 砂 跳 腿悬 噶 嘎 鲨 划 上吊 烧炭 自尽 自伤 自沙 自s 自c 伤害 想4 去4 想s 去s zs zi ga腕 纱布 口子
轻生 了断 结束 了结 想活 愿活 意活 再活 续活 活不 活够 活着 没意思 意义 没劲 没什么意 图啥 没希望 有希望 何希望 撑不 不用 绝望 解脱 累赘 消失 蒸发 被撞 不醒 又醒 没有我 没脸 打 动手 欺凌 霸凌 吐 摸我
脱我 进我 头撞 关在 阳台 扇自 烟头 声音 耳边 放过 同归 报复 是我 下辈子 来世 忌日 早走 心走 没打算 单程 永别 上路 后事 寿 碑 受益人 找我 最后一 远门 晚安 交代 密码 存折 条子 预备 定时发 送人 退了 挂好
天上 离开 告别 以后 天台 楼顶 窗 栏 黄线 大桥 对不起 别劝 kill suicid _die hurt harm _cut overdos abus beat chok kick rap hit molest murder
stab shoot hopeless worthless dead no_reason no_point disappear voices my_life it_all to_live alive wake_up
idiom = (?<!自己)(?:[累笑气烦热冷冻饿渴困疼痛急忙丑美帅甜酸辣吵臭香堵挤苦贵坑撑爱恨乐慌闲土卷吓看听吃用玩慕心尬烧]|想(?=死(?:你|他|她|我了|妈|爸|奶|爷|大家|家|
老)(?!了算)))死(?=[了我你他她个人啦的得在妈爸奶爷大家老,。!?\s]|$) 死(?:[心党板机锁循角线胡皮磕守记鸭翘缠灰水敌罪侍]|要面子|活(?=不)|定了|对头|亡率|不了) [该半找装至作出入生]死 你死我活 死里逃生
打死(?:也|都|我[也都]) 往死里(?=[学练卷写背干读]) 笑不活 杀(?:[青毒虫鱼鸡猪价熟疯]|进程|了我也) [秒必绝抹扼]杀 自杀式 (?:剧本|狼人|三国)杀 跳楼[价大] 当场去世 要(?:人|了?老?命)
not = (?:(?<![有是])没有?|从未|未曾|(?<![会是该能要])不(?:[是会想要敢用再]|可能|至于|打算)|绝不|(?<![特区个分])别|否认|毫无|拒绝|防止|
预防)[想过要会真的去有什么任何打算再动了到用因为这种那出现产生念头企图或是着人]{0,8}$ (?:never|not|n't|no|without|den(?:y|ied|ies)|nor)_(?!stop|help|cope|
shake|sure|only)(?:(?!and|but|because|so|i\b|know)[\w']+_){0,5}$ (?:好像|仿佛|像是|如同)[^,我]{0,8}$
denied after = ~(?:[也倒是]?没有(?![消停断减散退放人])|从没|没想过|不至于|犯不上) ; milder = ~(?:不敢|没有?勇气) [^.!?]{0,12}but_i_(?:would|won't)
others = (?<![被跟和对给让怕])(?:[他她你您爸妈爹哥姐弟妹友]|闺蜜|同学|老[公婆师]|丈夫|妻子|孩子|[儿女男学][子儿生]|室友|同事|奶奶|爷爷|有人|别人|邻居)[^我]{0,12}$ \b(?:s?he|
they|\w*friend|mom|dad|\w*(?:mother|father|son|daughter)|husband|wife|kid)\b(?:(?!\bi\b|\bme\b)[^.]){0,60}$
long ago = 小时候 当年 as_a_(?:child|kid|teen) when_i_was (?:years|months)_ago in_the_past ; grief = [了率者] 身亡 [去离]世 的事
past = 以前 曾 [那去前]年 (?:NUM|[两几多])年前 (?:[高初][一二三中]|小学|大学)[时那的割] 过去 戒 忍住 [|]过 used_to back_then ; stop = [。!?\n] \.\s
now = 现在 最近 又 还[在是想] 这[几两些阵次周] 昨 今天[^差] 今晚 刚 正 每 天天 再次 如今 一直 \b(?:now|today|still|again|lately|tonight)
tale = 新闻 报道 小说 电影 [电追短]剧 剧[里情] 编剧 纪录片 游戏 漫 课文 论文 文献 [^话问难]题[:,] 法考 讲座 培训 志愿者 [男女]主 作者 [扮表]?演 歌词 文言 屈原 梦[里见到] 做了个梦 密室
\b(?:movie|novel|film|the_news|video_game|song|book)\b ; spell , = (?<=[\u4e00-\u9fff])[^\S\n]+(?=[\u4e00-\u9fff])
crisis suicidal intent = (?:想|要|准备|打算|计划|考虑|决定|不如|试图|恨不得|尝试)[^,。!?\n我他她你]{0,5}ACT
我[^,。!?\n他她你友学妈爸哥姐弟妹子女男没不别]{0,4}(?:ACT|去死) (?:今[天晚]|现在|明天)~ACT ACT[^,。率]{0,3}(?:念头|想法|冲动|计划|打算|算了|得了|倾向|意念)
(?<![思理梦猜联设幻感回不])想死(?![板亡机循]|的心) 我?了断 寻短见 杀[了死掉]我?自己 把自己[饿弄]死 活够了 怎么死 (?:想|要|就|不如|只能)(?:自己)?去死(?!胡|吧) [不没](?:太|怎么|
是很)?(?:想|愿意?|打算)(?:再|继续)?活 (?:[我快]|实在|真的?)[快要]?活不下去 (?:结束|了结)[掉了]?(?:自己|我的生命|生命|这条命|这?一切|这一生) 带[着]?(?:他|她|
CHILD)们?(?:一起|一块儿?)?(?:死|走(?:也干净|了?算了|就解脱)) kill(?:ing)?_my_?self (?:wants?|wanna|wish|ready|plan\w{0,4}|
try\w{0,3})(?:_to)?(?:_just)?_die\b \bsuicidal hang_my_?self overdose\b (?:end|take|taking|ending)_(?:it_all|
my_(?:own_)?life) (?:commit(?:ting)?|thoughts?_of|thinking_(?:about|of)|consider\w{0,4})_suicide (?:do_?n[o']?t|
not)_want_to_(?:live|be_alive|exist|wake_up|be_here)
crisis in danger now = (?:已经|现在|正|刚|今[天晚]|又|连着|就)[^,。]{0,8}[站坐爬停][^,。]{0,5}PLACE [站坐]在?(?:阳台|窗户?|栏杆|黄线)[外里] 腿悬 药…(?:手边|
吞了|全吃|[攒囤]) [攒囤藏][着了好]?…(?:安眠药|农药|药[片,。]) (?:声音|耳边)[^。]{0,12}[叫让]我~[跳死割杀] voices?_(?:\w+_){0,3}tell\w{0,3}_me_to
crisis self-harm = 自[残伤虐] (?<![规计])[划割烫扎砍][伤了着]?(?:自己|手[腕臂]|胳膊|大腿) 刀片 (?:想要?|忍不住|控制不住|又|偷偷|一直|经常)伤害自己 [拿用](?:小|美工|
水果)?刀[^。!?\n他她]{0,6}[划割](?!他|她|你|菜) (?<!得)[拿用]头~撞 [又刚新]…(?<![规计比])[划割]了 新(?:添了?)?[几道条]*(?:口子|刀疤) 纱布…[又换]
(?<![规计比策])[划割](?!算)~(?:血|深[,。]) 血(?:滴|止不住) \b(?:cut|hurt|burn|harm)(?:t?ing)?_my_?self(?!_and_oth) self[-_]?harm
crisis harm to others = (?:想|要|就|准备|打算|一定|忍不住|恨不得)[^,。!?\n不]{0,5}(?:杀[了死掉光]?|砍死?|捅死?|宰|[弄掐毒打烧]死|炸)了?(?:他|她|那|谁|
我[爸妈弟妹孩老]|全家|所有|人) 同归于尽 杀人的?(?:冲动|念头|想法) 谁拦~砍 一个都不会?放过 刀,?…报复 (?:want|going|plan\w{0,4}|gonna|urge|thoughts?_of|
about)(?:_to)?_(?:kill|murder|stab|shoot|hurt)(?:ing)?_(?:him|her|them|some\w+|every\w+|people|others|my_(?!self)\w+)\b
crisis child hurt = HIT[死完]?(?:我的?)?CHILD CHILD~(?:被…HIT|喊救命|头破) 虐待…CHILD CHILD…(?:虐待|关…(?:阳台|门外|笼)) 烟头[印烫疤] 下一个就?是我
crisis violence now = ON[^。!?\n]{0,8}HIT(?:我(?!的?电)|妈) KIN…(?:往死里打|打得我|打到我|掐我?[的着]?脖子|ON…(?:动手打|打人|家暴)|拿~[刀棍凳皮砸]~[我妈])
架在?我?脖子 满脸[是都的]*血 推倒…踹 (?:说|扬言|威胁)~(?:[弄打砍捅]死|杀了?)(?:我(?!也)|全家) [会要]被打死 KIN…(?:摸我(?!的?[头脸手额肚背脉])|碰我[下身]|脱我|强[奸暴]|性侵|猥亵|
侵犯[了过]?我(?!的)) 半夜[又来]?进我(?!们) 被~(?:强[奸暴]|性侵|猥亵) HE_(?:hits|beats|chokes|punches|kicks|hitting|beating|choking|abuses|
abusing|rapes|molests)_(?:me(?!_out)|us)\b threaten\w{0,3}_to_kill_(?:me|us) (?:being|keeps?)_(?:rap|molest)(?:ed|ing)
concern suicide or death, mentioned = ACT suicid 遗书 想死的心 以死 分手就死 没死成 割过 死了(?:[算就才会倒]|也好|反而) 不如死 不想?再?醒 不用醒 一[睡觉]不醒
[想望愿]~(?:消失|蒸发) 被车?撞死?了?[也就算] 怎么又醒了 早走早 离开(?:这个)?(?:世界|人世) 没有我(?:的话|…更好) 要是没有我 累赘 不用再撑 better_off wish_i_w\w+_dead
concern hopeless = 绝望 (?:活着?|人生|生活|生命)~(?:没(?:有|什么|啥)?(?:意[思义]|希望|劲)|[无失去]意义|图[啥什]) 活着~累 没意思透 撑不[下去住] (?:为[什啥]么?|何必)~活着
世上图 没有?任何希望 没脸[见活] hopeless no_(?:reason|point)(?:_\w+)?_(?:to|in)_(?:live|living|life|go) worthless
concern violence, past or near = 家暴 KIN[^,。!?\n没不]{0,5}HIT过?[我她姐妈] [霸欺]凌 催吐 [要让你]去死 伤害自己 报复[他她那] [扇打掐咬抓]自己 abused raped
cue final2 = 下辈子 来世 忌日 早走早 安心地?走 我走了?以?后 我不在了?(?:以后|之后) 最后一[天次]做人 单程 没打算~回 永别 永远(?:睡|离开) 长眠 这辈子就?到 告别这个?世界
(?<!怕)离开(?:这个?世界|人世) 结束这?一切 [就要想求]解脱 人也下线 去天上 一起上路 死了~后悔 ; cue prepared2 = 遗[书言] 后事 寿衣 碑都?订 受益人 定时发送 告别信
cue final1 = 别再?找我 不用[找等接]我? 最后一[次晚顿篇面] 远门 晚安 我就走 去[陪跟][他她] 对不起 别劝 ; cue place = 药 炭 绳子? 车票 刀 天台 楼顶 大桥 [江河湖海]边 悬崖 站台 铁轨
cue prepared1 = 托付 交代 密码 存折 格式化 挂好 摘给 条子 预备了 (?:猫|狗|花|房租?|东西|衣服|卡|书)~(?:送人|送走|退了|全给|都给) ; cue moving = 搬 毕业 出国 离职 分手 前任
cue time = 今[晚天夜日] 明[天早晚日] 后[天日] (?:周|星期)(?:NUM|[日天末]) \d号 初NUM 十五 (?!一点)(?:两|NUM)点 那天 清明 头七 下个?月 日子都?[选定挑] 定好了?[时日] 哪天
"""
for _entry in re.split(r"\n(?=[\w ,-]+ = )|\s;\s", _TEXT.replace("|\n", "|").strip()):
    _name, _words = _entry.split(" = ")
    _any = re.sub("[A-Z]{2,}|[_~…]", lambda m: _LISTS[m[0]], "|".join(_words.split()))
    _LISTS[_name], _P[_name] = f"(?:{_any})", re.compile(_any)
_HINTS = _P.pop("hints").pattern.split("|")
_RULES = [(*name.split(" ", 1), pattern) for name, pattern in _P.items() if name.startswith(LEVELS[1:])]
_CUES = re.compile("|".join(f"(?P<{name[4:]}>{p.pattern})" for name, p in _P.items() if name.startswith("cue ")))


def normalise(text: str) -> str:
    """The text in half width and lower case, matter words in simplified characters, hiding spellings undone."""
    text = _TRICK.sub("", text.lower().translate(_CHARS))
    for name in (name for name in _P if name.startswith("spell ")):
        text = _P[name].sub(name[6:], text)
    return text


def _judge(name: str, level: str, text: str, start: int, end: int) -> str:
    """What its clause and sentence, 40 characters each way, leave of a match's level."""
    head, tail = _P["stop"].split(text[max(0, start - 40):start])[-1], _P["stop"].split(text[end:end + 40])[0]
    clause, sentence = re.split("[,;:]", head)[-1], head + text[start:end] + tail
    now, told = _P["now"].search(sentence), _P["tale"].search(sentence) and not _P["mine"].search(clause)
    other = name.startswith("suicid") and (_P["others"].search(clause) or _P["milder"].match(tail))
    lost = other and level == "concern" and not now and _P["grief"].match(tail)
    if told or lost or _P["not"].search(clause) or _P["denied after"].match(tail):
        return "none"
    past = _P["long ago"].search(sentence) or not now and _P["past"].search(f"{head}|{tail[:1]}")
    return "concern" if past or other else level


def _farewell(text: str) -> str:
    """A farewell in other words: points for cues within 60 characters, at most two of a kind; three are enough."""
    recent: list[re.Match] = []
    for cue in _CUES.finditer(text):
        recent = [*(c for c in recent if cue.start() - c.start() <= 60), cue]
        kinds = [kind for kind, _ in {(c.lastgroup, c.group()) for c in recent}]
        points = sum(min(2, kinds.count(k)) if k[-1] == "1" else 2 if k[-1] == "2" else 1 for k in {*kinds})
        if points >= 3 + 2 * ("moving" in kinds) and any(k[-1] in "12" for k in kinds) and {"time", "place"} & {*kinds}:
            return " + ".join(c.group() for c in recent)
    return ""


def screen(text: str) -> Screen:
    """How grave a text is, and why: "rule: matched words", the gravest first. Time grows linearly with the length."""
    plain, found = text.lower().translate(_CHARS), {}
    text = _P["idiom"].sub("〇", normalise(text)) if any(word in plain for word in _HINTS) else ""
    for level, name, pattern in _RULES:
        for match in pattern.finditer(text):
            if (judged := _judge(name, level, text, *match.span())) != "none":
                found.setdefault(f"{name}: {match.group()}", judged)
    if cues := _farewell(text):
        found[f"farewell: {cues}"] = "crisis"
    level = max(found.values(), key=LEVELS.index, default="none")
    return Screen(level, sorted(found, key=lambda reason: -LEVELS.index(found[reason])))
