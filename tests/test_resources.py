"""Help resources: those that ship, and errors that name the place."""

import pytest

from empathy_lib.resources import help_for, places

GOOD = "default:\n  name: here\n  checked: '2026-11'\n  resources:\n    - {name: a, contact: '1', hours: always, for: all, source: us}\n"


def test_those_that_ship():
    found = places()
    assert {"zh-CN", "zh-TW", "zh-HK", "en-US", "en-GB", "default"} <= set(found)
    assert [r.contact for r in help_for("zh-CN").resources][:3] == ["110", "120", "12356"]
    assert [r.name for place in found.values() for r in place.resources if not r.confirmed] == ["Befrienders 吉隆坡", "Befrienders Kuala Lumpur"]
    assert not any(ch.isdigit() for r in found["default"].resources for ch in r.contact)  # no number that is right everywhere


def test_an_unknown_place_names_the_known():
    with pytest.raises(ValueError, match="locale 'zh-XX'; resources.yaml has zh-CN, .*default"):
        help_for("zh-XX")


@pytest.mark.parametrize("text, says", [
    (GOOD.replace("contact: '1', ", ""), "default.*resources → 1 → contact: Field required"),
    (GOOD.replace("contact: '1'", "contact: ''"), "contact: String should have at least 1"),
    (GOOD.replace("contact: '1'", "contact: ' '"), "contact: String should have at least 1"),
    (GOOD.replace("hours: always", "hours: '???'"), "hours"), (GOOD.replace("hours", "hour"), "hour"),
    (GOOD.replace("2026-11", "Nov"), "checked: String should match"),
    (GOOD.split("    -")[0] + "    []", "resources: "),
    (GOOD.replace("default", "zh-CN"), "needs a place 'default'"),
    ("default: [", "cannot be read as help resources"), ("- a", "valid dictionary"), ("default: 3", "default: Input should be")])
def test_a_mistake_in_the_file_is_named(tmp_path, text, says):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"mine.yaml.*{says}"):
        places(file)


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert help_for("default", tmp_path / "mine.yaml").resources[0].about == "all"
