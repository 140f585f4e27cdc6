"""Bodies are read as Go's encoding/json reads them into Ollama's structs, and refused in its words."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from scheduler.goduration import FOREVER, parse_duration, parse_keep_alive
from scheduler.gojson import Real, fold, read_body, read_object, sound
from scheduler.gosyntax import NotJSON, go_quote, value_kind
from scheduler.gotypes import Go, read

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def words(raw: bytes) -> str:
    """What is said about a bad body."""
    with pytest.raises(NotJSON) as caught:
        read_body(raw, "api.ChatRequest")
    return str(caught.value)


def test_every_key_is_kept_in_order_with_its_own_text() -> None:
    """Nothing is merged yet, and a value's text is what the client wrote, digit for digit."""
    fields = read_body(b' {"a" : 1.50e0 ,"A":[ 1,2 ],"a":"\\u00e9"} and more', "T")
    assert [(f.name, f.text, bytes(f.pair)) for f in fields] == [
        ("a", "1.50e0", b'"a" : 1.50e0'),
        ("A", "[ 1,2 ]", b'"A":[ 1,2 ]'),
        ("a", '"\\u00e9"', b'"a":"\\u00e9"'),
    ]


@pytest.mark.parametrize("raw", [b"{}", b" { } ", b"null", b"null!", b"{}{", b'{}"x"'])
def test_only_the_first_value_counts(raw: bytes) -> None:
    """A Go decoder stops after one value; `null` decodes into a struct as nothing."""
    assert read_body(raw, "T") == []


@given(st.dictionaries(st.text(), json_values, max_size=6))
def test_what_json_writes_is_read_back(value: dict[str, Any]) -> None:
    """Every key and value of valid JSON arrives, and each value's text is JSON of its own."""
    fields = read_body(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"), "T")
    texts = [json.loads(field.text) for field in fields]
    clean = json.loads(json.dumps(list(value.values())).encode("utf-8", "replace"))
    if all(map(str.isascii, map(repr, value.items()))):
        assert [field.name for field in fields] == list(value)
        assert texts == clean
    assert len(fields) == len(value)


@given(st.binary(max_size=40))
@example(b'{"a":[[1],{"b":tru}]}')
@example(b'{"\\u12":1}')
@example(b'{"a":-}')
@example(b'{"a":1e+}')
@example(b'{"a":"\x1f"}')
def test_the_two_parsers_agree_on_what_is_json(noise: bytes) -> None:
    """The fast parser takes a body exactly when the exact one finds no fault in it."""
    for raw in (noise, b'{"model":"x","a":' + noise + b"}"):
        try:
            sound_json = value_kind(raw) in ("object", "null")
        except NotJSON:
            sound_json = False
        try:
            read_body(raw, "T")
        except NotJSON:
            assert not sound_json
        else:
            assert sound_json


@given(st.text(alphabet='{}[]:,"\\u0019ae.+- tfn\n', max_size=24))
def test_the_two_parsers_agree_on_json_like_noise(noise: str) -> None:
    """The same for text made of what JSON is made of, against Python's own strict parser."""
    text = f"[{noise}]"
    try:
        value_kind(text.encode())
    except NotJSON:
        with pytest.raises(json.JSONDecodeError):
            json.JSONDecoder().raw_decode(text)
    else:
        json.JSONDecoder(parse_constant=pytest.fail).raw_decode(text)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "EOF"),
        (b"{", "unexpected EOF"),
        (b'{"a":1', "unexpected EOF"),
        (b'{"a":"\\', "unexpected EOF"),
        (b'{"a":1]', "invalid character ']' after object key:value pair"),
        (b"[1}", "invalid character '}' after array element"),
        (b"[[]1]", "invalid character '1' after array element"),
        (b'{"a":{}"b":1}', "invalid character '\"' after object key:value pair"),
        (b'{"a":[{}{}]}', "invalid character '{' after array element"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b"{\"a':1}", "unexpected EOF"),
        (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"a":"x}', "unexpected EOF"),
        (b'{"a"}', "invalid character '}' after object key"),
        (b'{"a":"\xe9"', "unexpected EOF"),
        (b'{"a":\xe9}', "invalid character 'é' looking for beginning of value"),
        (b'{"a":\x00}', "invalid character '\\x00' looking for beginning of value"),
        (b'{"a":\x85}', "invalid character '\\u0085' looking for beginning of value"),
        (b'{"a":"\t"}', "invalid character '\\t' in string literal"),
        (b'{"a":nil}', "invalid character 'i' in literal null (expecting 'u')"),
        (b'{"a":falsy}', "invalid character 'y' in literal false (expecting 'e')"),
        (b"[1]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (b"true", "json: cannot unmarshal bool into Go value of type api.ChatRequest"),
    ],
)
def test_a_fault_is_told_in_go_s_words(raw: bytes, message: str) -> None:
    """The messages are those of Go 1.26's scanner, for its clients read them."""
    assert words(raw) == message


def test_depth_is_bounded() -> None:
    """Nesting ends where Go ends it, in a clean refusal; before that it is read, however deep."""
    struct = Go("T", "struct", fields={"b": Go("bool", "bool")})
    for depth in (10_000, 200_000):
        body = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(NotJSON, match=r"invalid character '\[' exceeded max depth"):
            read(body, struct)
    for depth in (60, 200, 940, 980, 2_000, 9_999):
        nested = b"[" * depth + b"]" * depth
        field, last = read(b'{"a":' + nested + b',"b":true}', struct)
        assert (bytes(field.text_bytes), last.value) == (nested, True)


def test_numbers_of_any_length_are_read() -> None:
    """Neither thousands of digits nor a huge exponent is an error in itself."""
    fields = read_body(b'{"a":' + b"9" * 5_000 + b',"b":1e999,"c":-0,"d":2.0}', "T")
    assert [f.value for f in fields] == [float("inf"), float("inf"), 0.0, 2.0]
    assert [isinstance(f.value, Real) for f in fields] == [False, True, False, True]


def test_invalid_text_becomes_replacement_characters() -> None:
    """Bytes that are no UTF-8 and lone surrogates are U+FFFD, as for Go's decoder; pairs are characters."""
    (field,) = read_body(b'{"k\\ud800":"\xff\\udc00 \\ud83d\\ude00"}', "T")
    assert field.name == "k\ufffd"
    assert sound(field.value) == "\ufffd\ufffd \U0001f600"
    assert bytes(field.pair) == b'"k\\ud800":"\xef\xbf\xbd\\udc00 \\ud83d\\ude00"'  # as it goes upstream
    assert bytes(field.text_bytes) == field.text.encode()


def test_an_object_s_own_text_can_be_read_again() -> None:
    """The options of a body are read from the text they were given in."""
    (field,) = read_body(b'{"options": {"a":1, "a" :2} }', "T")
    assert [(f.name, f.text) for f in read_object(field.text)] == [("a", "1"), ("a", "2")]


def test_keys_fold_as_go_folds_them() -> None:
    """Exactly the characters that Go's simple folding joins with an ASCII letter are taken for one."""
    joined = {chr(n) for n in range(128, 0x110000) if not 0xD800 <= n < 0xE000 and fold(chr(n)).isascii()}
    assert joined == {"\u017f", "\u212a"}
    assert fold("\u212aEEP_AL\u0131VE") != "keep_alive"  # a dotless i is not an i
    assert fold("\u212aEEP_ALIVE") == fold("keep_alive") == "keep_alive"
    assert fold("me\u017f\u017fage\u017f") == "messages"


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        (0.0, 0),
        (-0.0, 0),
        (1e-10, 0),
        (0.5, 500_000_000),
        (300.0, 300_000_000_000),
        (-1.0, FOREVER),
        (-1e-300, FOREVER),
        (1e300, FOREVER),
        ("0", 0),
        ("-0", 0),
        ("+0s", 0),
        ("0h0m0s", 0),
        (".0s", 0),
        ("0.0000000001s", 0),
        ("5m", 300_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1.5h", 5_400_000_000_000),
        ("1.s", 1_000_000_000),
        ("2us", 2_000),
        ("2µs", 2_000),
        ("2μs", 2_000),
        ("-1m", FOREVER),
    ],
)
def test_keep_alive_in_every_form(value: float | str, nanoseconds: int) -> None:
    """A number is seconds, a text a Go duration, anything negative forever; what is nothing means unload."""
    assert parse_keep_alive(value) == nanoseconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("10", 'time: missing unit in duration "10"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        (".s", 'time: invalid duration ".s"'),
        ("5 m", 'time: unknown unit " m" in duration "5 m"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ('1"s', 'time: unknown unit "\\"s" in duration "1\\"s"'),
        ("1é", 'time: unknown unit "\\xc3\\xa9" in duration "1\\xc3\\xa9"'),
        ("9999999999h", 'time: invalid duration "9999999999h"'),
        ("99999999999999999999s", 'time: invalid duration "99999999999999999999s"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_a_keep_alive_that_is_none(value: object, message: str) -> None:
    """Each is refused in the words of Ollama and Go."""
    with pytest.raises(NotJSON) as caught:
        parse_keep_alive(value)
    assert str(caught.value) == message


@given(st.text(alphabet="0123456789.+-hmsnuµ ", max_size=12))
def test_any_duration_is_read_or_refused(text: str) -> None:
    """No text makes reading a duration end in anything else, or in more than Go could hold."""
    with contextlib.suppress(NotJSON):
        assert abs(parse_duration(text)) <= 2**63


def test_quoting() -> None:
    """Quotes are Go's: short escapes, \\x, \\u and \\U, printable characters as they are."""
    assert go_quote("a'\"\n\x01\u0085\U000e0000é", "'") == "'a\\'\"\\n\\x01\\u0085\\U000e0000é'"
