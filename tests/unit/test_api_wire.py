"""What goes over the wire can be read by every client, and says what was meant."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any
from xmlrpc.client import Fault, dumps, loads

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datamover.api.xmlrpc import wire
from datamover.bounds.calls import BODY_SLICE
from datamover.errors import InvalidRequest, RequestTooLarge
from datamover.requests.coercion import text
from datamover.requests.jobs import finish

VALUES = st.recursive(
    st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def seen(value: Any) -> Any:
    """Return what a client reads."""
    (value,), _ = loads(finish(wire.write_answer(value)))
    return value


def legible(value: Any) -> Any:
    """Return a value without what XML cannot carry."""
    if isinstance(value, list):
        return [legible(each) for each in value]
    if isinstance(value, dict):
        return {legible(name): legible(each) for name, each in value.items()}
    return wire.legible(value) if isinstance(value, str) else value


@given(VALUES)
@example({"": [], "\r": []})
def test_every_answer_can_be_read(value: Any) -> None:
    """Whatever text an answer holds, it is XML, and is read as it was but for what XML cannot carry."""
    assert seen(value) == legible(value)


@given(VALUES)
def test_every_call_can_be_read(value: Any) -> None:
    """A call is read as Python reads it."""
    body = dumps((legible(value), 1), "some.method").encode()
    parameters, name = loads(body)
    assert finish(wire.parse_call(BytesIO(body))) == (name, parameters)


@pytest.mark.parametrize("slices", [1, 7, BODY_SLICE])
@pytest.mark.parametrize(
    "value",
    [
        "<value>bare</value>",
        "<value>\n</value>",
        "<value>\r<![CDATA[<!-- \r]]>\n<?p > <!-- ?></value>",
        "<value><ex:nil/></value>",
        "<value><string /></value>",
        "<value/>",
        "<value> <string>a&lt;b</string> </value>",
        "<value a='>/'>a&amp;lt;&#x26;amp;\r\nb<![CDATA[<v>&amp;\r]]>]<!-- <value> --></value >",
        "<value> <string>\rp&#13;q<?p <int>?> </string>\n</value>",
        "<value><array><data><!-- --><value><struct/></value>\n<value><struct></struct></value></data></array></value>",
        "<value><i8>5</i8></value>",
        "<value><nil/></value>",
        "<ex:value>prefixed</ex:value>",
        "<value><ex:struct><member><ex:name>a</ex:name><value><double>1.5</double></value></member></ex:struct></value>",
        "<value><struct><member><name>a</name><value>1</value></member><member><name>a</name><value/></member></struct></value>",
        *(
            f"<value> <struct> <member> <name> a&amp;</name> {member} </member> </struct> </value>"
            for member in (
                "<value/>",
                "<value> \n</value>",
                "<value> a&#13;</value>",
                "<value>a\r\nb</value>",
                "<value> <string> a</string> </value>",
                "<value><string/></value>",
                "<value>\n<string/>\n</value>",
                "<value><ex:i8>5</ex:i8></value>",
                "<value a='>'><struct><member><name/><value><struct></struct></value></member></struct></value>",
                "<value><array><data><value>a</value>\n<value>\n<struct/></value></data></array></value>",
                "<value><data/></value>",
                "<value>\n<double>1.5</double></value>",
                "<value><double>x</double></value>",
                "<value><nil/></value>",
                "<value><int/></value>",
                "<value><base64>eA==</base64></value>",
                "<value><struct/></value>",
                "<value>a<!-- -->b</value>",
                "<value>a</value><name>b</name><value>c</value>",
            )
        ),
        "<value><array><data><value><array><data/></array></value><value>x</value></data></array></value>",
        "<value><unknown>a</unknown></value>",
        "<value><struct><member><name>a</name></member></struct></value>",
        "<value><struct><value><struct/></value><value>a</value></struct></value>",
        "<value><boolean>2</boolean></value>",
        "<value><int>one</int></value>",
    ],
)
def test_odd_values_are_read_as_python_does(value: str, slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are the forms that other clients use, and what is none is refused where Python refuses it."""
    monkeypatch.setattr(wire, "BODY_SLICE", slices)
    body = f"<methodCall><methodName>m</methodName><params><param>{value}</param></params></methodCall>".encode()
    try:
        expected = loads(body)
    except Exception:
        with pytest.raises(InvalidRequest, match="not an XML-RPC methodCall"):
            finish(wire.parse_call(BytesIO(body)))
    else:
        assert finish(wire.parse_call(BytesIO(body))) == (expected[1], expected[0])


def value(element: str) -> Any:
    body = (
        f"<methodCall><methodName>m</methodName><params><param><value>{element}</value></param></params></methodCall>"
    )
    _, [found] = read(body.encode())
    return found


@pytest.mark.parametrize(
    ("element", "meant"),
    [
        ("<boolean>true</boolean>", True),
        ("<boolean>False</boolean>", False),
        ("<ex:boolean>\n 1 </ex:boolean>", True),
        ("<int> 5\n</int>", 5),
        ("<i4>+5</i4>", 5),
        ("<ex:i8>-5000000000</ex:i8>", -5_000_000_000),
    ],
)
def test_booleans_and_ints_are_read_as_libraries_write_them(element: str, meant: object) -> None:
    """With words and white space, which Python's own does not read."""
    assert (value(element), type(value(element)) is bool) == (meant, type(meant) is bool)


def test_an_int_is_known_by_its_digits() -> None:
    """Leading zeros may be a part of a text; what is no digit is refused."""
    assert text(value("<int>007</int>")) == "007"
    for element in ("<int>1_0</int>", "<int>１</int>", "<i8/>", "<boolean>yes</boolean>"):
        with pytest.raises(InvalidRequest, match=r"not an XML-RPC methodCall: '.*' is no (int|boolean)"):
            value(element)


@pytest.mark.parametrize("tag", ["array", "ex:array"])
def test_nesting_has_a_bound(tag: str) -> None:
    """However it is spelt."""
    body = f"<methodCall><methodName>m</methodName><params>{f'<value><{tag}><data>' * 33}".encode()
    with pytest.raises(InvalidRequest, match="more than 32 deep"):
        finish(wire.parse_call(BytesIO(body)))


@given(st.text())
def test_every_fault_can_be_read(text: str) -> None:
    """The same goes for a Fault's message."""
    with pytest.raises(Fault) as caught:
        loads(wire.write_fault(Fault(1001, text)))
    assert caught.value.faultString == wire.legible(text)


def test_an_answer_is_the_one_that_python_gives() -> None:
    """Written element by element, it is the same document."""
    value = [{"a": 1, "b": [True, "x"]}, [], "y"]
    assert loads(finish(wire.write_answer(value))) == loads(dumps((value,), methodresponse=True))


def test_values_go_out_plainly() -> None:
    """No nil, no i8, times as text in UTC, carriage returns as they are."""
    at = datetime(2026, 11, 23, 20, 8, 0, 7, timezone(timedelta(hours=2)))
    assert seen(
        {"at": at, "none": None, "long": 2**31, "least": -(2**31), "text": "a\r\nb\x00\ud800", "part": 1 / 3}
    ) == {
        "at": "2026-11-23T18:08:00Z",
        "long": 2147483648.0,
        "least": -2147483648,
        "text": "a\r\nb\ufffd\ufffd",
        "part": 0.333,
    }
    assert wire.moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"


def read(body: bytes, **bounds: Any) -> Any:
    return finish(wire.parse_call(BytesIO(body), **bounds))


@pytest.mark.parametrize("element", [b"<i4>1</i4>", b"<value/>", b"<x/>", b"<array></array>"])
def test_elements_are_counted(element: bytes) -> None:
    """Whatever a body is made of, it is made of so many elements and no more."""
    body = b"<methodCall><methodName>m</methodName><params>" + element * 97 + b"</params></methodCall>"
    assert read(body, most=100)[0] == "m"
    with pytest.raises(RequestTooLarge, match="more than 99 elements"):
        read(body, most=99)


SHORTEST = {"source": "http://a/b", "destination": "a", "path": "b", "size": "1"}
"""A file of a request, with the shortest values that there are."""
STYLES = {
    "plain": "<value>{}</value>",
    "types": "<value><string>{}</string></value>",
    "lines": "\r\n<value>\r\n<string>{}</string>\r\n</value>\r\n",
    "sections": "<value><string><![CDATA[{}]]></string></value>",
    "nils": "<value>{}</value></member><member><name>label</name><value><ex:nil/></value>",
}


@pytest.mark.parametrize("style", STYLES)
def test_many_files_as_libraries_write_them(style: str) -> None:
    """However a library writes them, the shortest files are within the bounds."""
    members = "".join(
        f"<member><name>{name}</name>{STYLES[style].format(value)}</member>" for name, value in SHORTEST.items()
    )
    [files] = read(call(f"<value><struct>{members}</struct></value>" * 3000))[1]
    assert [{name: file[name] for name in SHORTEST} for file in files] == [SHORTEST] * 3000


@pytest.mark.parametrize("value", ["<value>http://example.org/a</value>", "<value><int>1</int></value>"])
def test_long_arrays_are_of_structs(value: str) -> None:
    """So many URLs as a move may name are read; a longer array is of files, requests or calls."""
    assert len(read(call(value * 1000))[1][0]) == 1000
    with pytest.raises(RequestTooLarge, match="more than 1000 values: only files, requests and calls"):
        read(call(value * 6000))


@pytest.mark.parametrize("inner", ["<struct></struct>", "<array><data></data></array>"])
def test_many_structs_in_each_other(inner: str) -> None:
    """A body has no more arrays and structs that hold others than requests and calls need."""
    calls = "<value><struct><member><name>methodName</name><value>jobs.status</value></member>"
    calls += (
        "<member><name>params</name><value><array><data><value><int>1</int></value></data></array></value></member>"
    )
    assert len(read(call(f"{calls}</struct></value>" * 1000))[1][0]) == 1000
    with pytest.raises(RequestTooLarge, match="arrays and structs in each other, too many for its length"):
        read(call(f"<value><struct><member><name>a</name><value>{inner}</value></member></struct></value>" * 4000))


def call(values: str) -> bytes:
    """Return a call with an array as its parameter."""
    array = f"<value><array><data>{values}</data></array></value>"
    return f"<methodCall><methodName>m</methodName><params><param>{array}</param></params></methodCall>".encode()


BODIES = st.binary() | st.lists(
    st.sampled_from(
        [
            *("methodCall", "methodName", "params", "param", "value", "array", "data", "struct", "member", "name"),
            *("int", "i4", "i8", "double", "boolean", "string", "base64", "dateTime.iso8601", "nil", "bigdecimal"),
            *("fault", "x:array", "x", "ex:nil"),
        ]
    ).flatmap(lambda tag: st.sampled_from([f"<{tag}>", f"</{tag}>", f"<{tag}/>", f"<{tag} a='1'>"]))
    | st.sampled_from(
        ["1", "-1", "1e999", "nan", "&amp;", "&#10;", "]]>", "<![CDATA[", "<!--", "-->", "<?x?>", "jobs.list"]
    )
    | st.text(max_size=3),
    max_size=30,
).map(lambda pieces: "".join(pieces).encode("utf-8", "surrogatepass"))


@given(BODIES)
def test_no_body_is_more_than_refused(body: bytes) -> None:
    """Whatever is sent, it is a call or it is refused in a sentence."""
    with suppress(InvalidRequest):
        name, parameters = read(body)
        assert isinstance(name, str)
        assert isinstance(parameters, tuple)
