"""Regular expressions in .NET's dialect: what is refused because .NET has no such thing, and that nothing else is."""

from __future__ import annotations

import pytest

from sinkworker.connectors import dialect, patterns
from sinkworker.errors import Undeliverable


@pytest.mark.parametrize(
    "pattern",
    [
        "a++",
        "a*+",
        "a?+",
        "a{2}+",
        "a{2,}+",
        "a{2,3}+b",
        "[a]++",
        "(a)++",
        r"\+++",
        r"\p{L}++",
        "(?x)a+ # one or more\n+",
        "(?x:a+ +)",
        "(?R)",
        "(a)(?1)",
        "(?<n>a)(?&n)",
        "(?P<n>a)",
        "(?P<n>a)(?P=n)",
        "(?P<n>a)(?P>n)",
        "(?|a|b)",
        "(?a)x",
        "(?V1)x",
        "(?r:x)",
        "(*FAIL)",
        "a(*SKIP)b",
        r"a\Kb",
        r"\Ra",
        r"\X",
        r"\mword\M",
        r"\N{DIGIT ONE}",
        r"[\h]",
        r"a\_b",
        r"(?<n>a)\g<n>",
        "[[:alpha:]]",
        "[^[:^digit:]x]",
        "[a[:space:]]+",
        # a class, or what looks like one, does not hide what follows it
        "[]]a++",
        "[^]]a++",
        r"[\]]a++",
        r"\[a++",
        "[a-z]a++",
        "[a-]b++",
        "[a-z-[b]]c++",
        "[+--[b]c++",
        "(?#)a++",
        "(?x)(?-x:# a++)",
        "(?:(?x)a)# b++",
    ],
)
def test_what_dot_net_does_not_have_is_refused(pattern: str) -> None:
    assert ".NET has no" in str(patterns.fault(pattern))


@pytest.mark.parametrize(
    "pattern",
    [
        "a+",
        "a+?",
        "a??",
        "a{2}?",
        "a{2,3}?b+",
        "(?x)a+ ?",
        "(a+)+",
        "a+|b+",
        r"a\+\+",
        r"\++",
        r"\\+",
        r"\x2b+",
        r"\u002b+",
        r"\053+",
        "[+]+",
        "[++]+",
        "[*+?]*",
        "a{+",
        "a{,3}+",
        "a{x}+",
        "a{2,x}+",
        "a{ 2}+",
        "a}+",
        "[[a]",
        "[[a]+",
        "[[:a]",
        "[:alpha:]",
        r"[\[:alpha:]+",
        "[]++]",
        "[^]++]",
        r"[\]++]",
        "[a-z-[aeiou]]",
        "[a-z-[aeiou]]+",
        "[a-z-[]x++]]",
        "[!-[]x++]]",
        r"[\x41-\x5a--[b]+]",
        "[-[b][]++]",
        "[^-[b][]++]",
        r"[\d-[]5++]]",
        r"[a\-[b]+",
        "(?:a)",
        "(?=a)b",
        "(?!a)b",
        "(?<=a)b",
        "(?<!a)b",
        "(?>a)+",
        "(?<n>a)+",
        "(?'n'a)",
        r"(?<n>a)\k<n>",
        r"(?<n>a)\k'n'",
        r"(a)\1+",
        "(?i)a",
        "(?i-s:a)+",
        "(?s-i)a",
        "(a)(?(1)b|c)",
        "(?<n>a)(?(n)b|c)",
        "(?(?=a)b|c)",
        r"(\?R)",
        r"\(?R\)",
        r"\(*a",
        r"(\*FAIL)",
        r"[(?R)]",
        "[(*]",
        "(?#a++)b",
        r"(?#[)b]",
        r"(?#\K)a",
        "(?x) a # b++ (?R)\n b",
        "(?x: a # b++ \n)",
        "(?:(?x)a # b++\n)",
        r"(?x)\# b+",
        "#a+",
        r"\A\b\B\G\Z",
        r"\a\f\n\r\t\v\0\012",
        r"\d\D\s\S\w\W\p{Lu}\P{IsGreek}",
        r"[\b\d-]",
        r"\-\ \/\<\>\"\!",
        "a\nb",
    ],
)
def test_nothing_that_dot_net_has_is_refused(pattern: str) -> None:
    assert patterns.fault(pattern) is None


@pytest.mark.parametrize(
    "pattern", ["(" * 2000 + ")" * 2000, "a" * (patterns.MAX_LENGTH + 1), "[!-" * 1000 + "]" * 1000]
)
def test_what_is_too_large_to_be_read_is_refused(pattern: str) -> None:
    with pytest.raises(dialect.Unsupported):
        patterns.compiled(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "((((a{1000}){1000}){1000}){1000})",
        "a{100000000}",
        r"(?:\p{L}{200}){200}",
        "(?x)(a{1000}) {1000}",
        "(?x)(a{1000}) # so many\n {1000}",
        "(?#)a{1000,}" * 30,
    ],
)
def test_what_would_fill_the_memory_is_refused_before_it_is_compiled(pattern: str) -> None:
    with pytest.raises(dialect.Unsupported, match="repetitions come to more than"):
        patterns.compiled(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$",
        r"^(?:\d{1,3}\.){3}\d{1,3}$",
        r"(\w{1,100000})-",
        r"^#(\d{100})#(\w{100})-(\d{100})",
        r"^(order|loan)_(\d{4})-(\d{2})-(\d{2})_v(\d+){2}$",
        "a{1000}",
    ],
)
def test_repetitions_that_people_write_are_taken(pattern: str) -> None:
    assert patterns.fault(pattern) is None


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"^(a|aa)+$", r"(a?){500}a{500}$", r"(?:a{1,100}){1,100}c"])
def test_a_search_that_explodes_ends_and_says_why(pattern: str) -> None:
    with pytest.raises(Undeliverable, match="took longer than") as raised:
        patterns.search(patterns.compiled(pattern), "a" * 5000 + "b", 0)
    assert raised.value.code == "regex-timeout"


def test_a_pattern_may_be_as_long_as_the_limit() -> None:
    assert patterns.fault("a" * patterns.MAX_LENGTH) is None
