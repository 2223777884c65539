"""Hostile text in every output."""

import re

import pytest

from benchmarks.report.text import checked_label, distinct, for_markdown, for_spreadsheet, shortened
from pretrain.common.errors import InputError, printable

HOSTILE = [
    r"m$\input$",
    r"$\frac{1}{",
    "a" * 5000,
    "caf\udce9",
    "\ud800 alone",
    "two\nlines",
    "two\r\nlines",
    "a\tb",
    "a|b|c",
    r"a\|b",
    "| --- |",
    "<script>alert(1)</script>",
    "<!-- not seen",
    "[click](https://example.org)",
    "![picture](http://example.org/a.png)",
    "<https://example.org>",
    "https://example.org and www.example.org",
    "`code`",
    "**bold** _it_ ~~no~~ __dunder__",
    "&lt;b&gt; &#60; R&D",
    "=1+1",
    '=HYPERLINK("http://example.org")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31mred",
    "nul\0byte",
    "\u202egnp.exe",
    "zero\u200bwidth",
    "line\u2028separator",
    "# heading",
    "[x] first",
    "*starred",
    "{brace} %percent #hash ^hat ~tilde",
    "漢字 и ελληνικά",
    "😀",
    "e\u0301\u0302\u0303",
    "",
    "   ",
    "{}",
    "%s %d {0}",
    "../../../etc/passwd",
    "-",
    "nan",
    "mine [aaaaaa]",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text)[:20])
def test_markdown_shows_the_text_and_nothing_else(text):
    shown = for_markdown(text)
    assert shown.isprintable()
    # An escaped character is itself, an entity is its character, and no other of Markdown's characters is left.
    plain = re.sub(r"\\[!-/:-@[-`{-~]|&lt;|&amp;", "", shown)
    assert not re.search(r"[\\`*|~$<]|\]\(|\w://|www\.|\b_|_\b", plain, re.I)
    back = re.sub(r"\\([!-/:-@[-`{-~])|&(lt|amp);", lambda one: one[1] or {"lt": "<", "amp": "&"}[one[2]], shown)
    assert back == printable(text)


@pytest.mark.parametrize(
    "text", ["moco-v2 (200 ep), λ = 0.1", "beta_2", "a.b/c+d=e", "x [aaaaaa]", "AT&T: 3 > 2", "1 ± 2"]
)
def test_harmless_text_stays_as_it_is_everywhere(text):
    assert for_markdown(text) == for_spreadsheet(text) == printable(text) == checked_label(text) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-x", "'-x"),
        ("-", "'-"),
        ("@x", "'@x"),
        ("＝1", "'＝1"),
        ("-1.5", "-1.5"),
        ("+.5e-3", "+.5e-3"),
        ("-1.5+2", "'-1.5+2"),
        ("a=b", "a=b"),
        ("\t=1", r"\t=1"),
    ],
)
def test_a_spreadsheet_finds_no_formula(text, cell):
    assert for_spreadsheet(text) == cell


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("caf\udce9", r"caf\udce9"),
        ("\u202eabc", r"\u202eabc"),
        ("漢字 😀 λ", "漢字 😀 λ"),
    ],
)
def test_printable_is_one_line_that_encodes(text, line):
    assert printable(text) == line and printable(text).encode()


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "\x1b[2J", "caf\udce9", "a" * 201, "漢" * 67, "\u202eabc"])
def test_a_name_that_cannot_be_shown_is_refused_in_one_short_line(label):
    with pytest.raises(InputError, match="NAME=PATH") as caught:
        checked_label(label)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_spaces_around_a_name_go():
    assert checked_label(" a b ") == "a b"


def test_shortened_names_stay_apart():
    names = ["a" * 5000 + "1", "a" * 2500 + "x" + "a" * 2500, "a" * 5000 + "1", "short"]
    shown = shortened(names, 20)
    assert shown[0].startswith("aaaaaaaaaa…") and shown[0].endswith("1") and len(shown[0]) == 20
    assert len(set(shown)) == 4 and shown[3] == "short" and max(map(len, shown)) <= 24


def test_distinct_numbers_the_later_ones():
    assert distinct(["a", "a", "a (2)", "b", "a"]) == ["a", "a (2)", "a (2) (2)", "b", "a (3)"]
