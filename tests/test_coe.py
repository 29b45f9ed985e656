import time

import pytest

from empathy_lib.coe import LAYERS, CoE, CoEFormatError, answer_of, format_reward, format_share, is_valid, loose_answer, parse, render

GOOD = "<empathy_think><L1>a</L1><L2>b</L2><L3>c</L3><L4>d</L4></empathy_think><answer>e</answer>"

VALID = {
    "plain": GOOD,
    "white space of any kind between and around": GOOD.replace("><", ">\u3000\n\t \u2003<") + "\u00a0\n",
    "other angle brackets in a text": GOOD.replace(">a<", ">a < b <3 <b> </p> <L5> <l1><"),
    "line breaks in a text": GOOD.replace(">e<", ">第一段\n\n第二段<"),
    "half a tag in a text": GOOD.replace(">e<", ">e <answer <L1 <"),
}
INVALID = {
    "empty": "",
    "only white space": " \n",
    "no tags": "你好",
    "text before": "好的" + GOOD,
    "text after": GOOD + "。",
    "text between layers": GOOD.replace("</L1><L2>", "</L1>嗯<L2>"),
    "text between reasoning and answer": GOOD.replace("<answer>", "所以<answer>"),
    "text before the first layer": GOOD.replace("<L1>", "想<L1>", 1),
    "layer missing": GOOD.replace("<L3>c</L3>", ""),
    "layer empty": GOOD.replace(">b<", "><"),
    "layer of white space": GOOD.replace(">b<", ">\u3000\n<"),
    "answer empty": GOOD.replace(">e<", "> <"),
    "answer missing": GOOD.split("<answer>")[0],
    "wrong order": GOOD.replace("<L2>b</L2><L3>c</L3>", "<L3>c</L3><L2>b</L2>"),
    "layer twice": GOOD.replace("<L2>b</L2>", "<L2>b</L2><L2>b</L2>"),
    "answer twice": GOOD + "<answer>e</answer>",
    "everything twice": GOOD + GOOD,
    "lower case": GOOD.replace("L1", "l1"),
    "upper case": GOOD.replace("answer", "ANSWER"),
    "attribute": GOOD.replace("<L1>", '<L1 id="1">'),
    "space in a tag": GOOD.replace("<L1>", "< L1>"),
    "full-width brackets": GOOD.replace("<", "＜"),
    "self-closing": GOOD.replace("<L1>a</L1>", "<L1/>"),
    "closing tag missing": GOOD.replace("</L4>", ""),
    "a tag inside a text": GOOD.replace(">d<", ">d<L1>x</L1><"),
    "a closing tag inside the answer": GOOD.replace(">e<", ">e</L2><"),
    "thinking leaked": "<think>\n\n</think>\n\n" + GOOD,
    "cut off": GOOD[:-3],
}


@pytest.mark.parametrize("text", VALID.values(), ids=VALID)
def test_valid(text):
    assert parse(text)
    assert format_reward([text]) == [1.0]


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID)
def test_invalid(text):
    with pytest.raises(CoEFormatError) as error:
        parse(text)
    assert str(error.value)
    assert format_reward([text]) == [0.0]
    assert answer_of(text) == ""


def test_round_trip(chain):
    assert parse(render(chain)) == chain
    assert answer_of(render(chain)) == chain.answer


def test_fewer_layers(chain):
    for layers in ((), ("L1",), ("L2", "L4"), ("L1", "L2", "L3")):
        part = CoE(**{name: text if name in (*layers, "answer") else "" for name, text in vars(chain).items()})
        text = render(chain, layers)
        assert parse(text, layers) == part and format_reward([text], layers=layers) == [1.0]
        assert not is_valid(text) and not is_valid(render(chain), layers)  # a layer not asked for is a departure
    assert render(chain, ()) == f"<answer>{chain.answer}</answer>"


def test_render_refuses_what_parse_would_refuse(chain):
    for bad in (" ", "x<L2>y", "</answer>"):
        with pytest.raises(CoEFormatError):
            render(CoE(chain.L1, chain.L2, bad, chain.L4, chain.answer))


def test_reward_takes_messages_and_extra_columns():
    assert format_reward([[{"role": "assistant", "content": GOOD}]], question=["q"], prompts=["p"]) == [1.0]


def test_loose_answer():
    assert loose_answer("x<answer> 好 </answer>y") == "好"
    assert loose_answer("x<answer>好") == ""


@pytest.mark.parametrize("unit", ["<L1>", "<", "<L1>a</L1>", "</answer>", " ", "<empathy_think><L1>a</L1>", "a"])
def test_linear_time_on_hostile_text(unit):
    def seconds(n):
        text = "<empathy_think>" + unit * n + "</answer>"
        began = time.perf_counter()
        for _ in range(3):
            assert format_reward([text]) == [0.0] and answer_of(text) == ""
            loose_answer(text)
        return time.perf_counter() - began

    seconds(1000)
    small, large = min(seconds(20_000) for _ in range(3)), min(seconds(200_000) for _ in range(3))
    assert large < 40 * small + 0.2  # ten times the text: linear is 10, quadratic 100


@pytest.mark.parametrize("text, layers, share", [
    (GOOD, LAYERS, 1), ("", LAYERS, 0), ("一句话", LAYERS, 0), ("<answer>好</answer>", LAYERS, 2 / 12), (GOOD.replace("</L3>", ""), LAYERS, 11 / 12),
    (GOOD.replace("<L1>", "").replace("</L1>", ""), LAYERS, 10 / 12), ("嗯" + GOOD, LAYERS, 11 / 12), (GOOD + GOOD, LAYERS, 12 / 24),
    (GOOD + "<answer>", LAYERS, 11 / 12), ("<answer>好</answer>", (), 1), ("<answer></answer>", (), 1 / 2), ("</answer>好<answer>", (), 1 / 2)])
def test_the_share_of_tags_in_their_places(text, layers, share):
    assert format_share(text, layers) == pytest.approx(share)
    assert format_reward([text], layers=layers, soft=True) == [format_share(text, layers)]
    assert (format_share(text, layers) == 1) == is_valid(text, layers)
