"""The law of bridge/page/html.py: text is text, whatever it says."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.page.html import FORBIDDEN, SHOWN, Markup, el, join

HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt;&#0;"
texts = st.text(max_size=40) | st.sampled_from([HOSTILE, "&amp;", "<!--", "]]>", "a\x00b\x1b[2Jc\ud800"])


class Heard(HTMLParser):
    """What a parser makes of markup."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.said = ""
        self.others: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)


@given(texts, texts)
def test_text_goes_through_a_parser_as_the_same_text_and_nothing_else(child: str, value: str) -> None:
    heard = Heard(el("p", child, el("b", [child, None]), title=value))
    assert [tag for tag, _ in heard.tags] == ["p", "b"]
    assert heard.said == FORBIDDEN.sub(SHOWN, child) * 2
    assert heard.tags[0][1] == {"title": FORBIDDEN.sub(SHOWN, value)}
    assert heard.others == []


def test_only_what_was_written_here_stays_markup() -> None:
    bold = el("b", "x")
    assert join(bold) == "<b>x</b>"
    for text in (f"{bold}", bold + "", "".join([bold, ""]), bold.lower()):
        assert not isinstance(text, Markup) or text is bold
        assert join(str(text)) == "&lt;b&gt;x&lt;/b&gt;" or text is bold


def test_none_is_nothing_and_true_has_no_value() -> None:
    assert el("p", None, 3, hidden=True, title=None, class_="a", data_label="b") == (
        '<p hidden class="a" data-label="b">3</p>'
    )
    assert el("meta", http_equiv="refresh", content=10) == '<meta http-equiv="refresh" content="10">'


@pytest.mark.parametrize("attribute", ["onclick", "onload_", "style", "a b", 'a="', ""])
def test_scripts_and_styles_stand_in_no_attribute(attribute: str) -> None:
    with pytest.raises(ValueError, match="not an attribute we allow"):
        el("p", **{attribute: "x"})


@pytest.mark.parametrize("tag", ["p onclick=x", "", "p>", "1"])
def test_a_tag_is_a_name(tag: str) -> None:
    with pytest.raises(ValueError, match="not the name of an element"):
        el(tag)
