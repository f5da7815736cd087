"""Bounds of calls: every value of every method is bounded before any work that grows with it."""

import os
import select
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from xmlrpc.client import Fault, loads

import pytest

from datamover.api.site import NAMESPACES
from datamover.bounds.calls import MOST_NESTING, MOST_ODD_MARKUP, ODD_TAG
from datamover.requests.files import FILE_KEYS
from datamover.requests.jobs import JOB_KEYS
from tests.servers import postgres
from tests.servers.service import Service

METHODS = {name: method for namespace in NAMESPACES for name, method in namespace.TABLE.methods.items()}
SIZE = 2 * 2**20
"""Bytes of the largest body that the service takes here."""
ANSWER = 2**20
SECONDS = 0.05
"""Of the service's CPU for each MiB that is sent."""
FILES = 2.2
"""Times of what the service uses for files as plain as most are, which is less than half of that."""
TRIES = 3
SMALL_CALLS = 10
RECEIVED = 100
"""Calls one after the other, each some turns of the service, after which it has received a body of ``SIZE``."""
SHORT = 1000
"""Characters of a refusal."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("bounds")
    service = Service(
        directory,
        f'[database]\nurl = "{postgres.shared().fresh()}"\n[limits]\nrequest_size = {SIZE}\nanswer_size = {ANSWER}\n'
        f'[destinations.archive]\nurl = "file://{directory}/archive"\n',
    )
    service.start()
    yield service
    service.stop()


def filled(beginning: str, piece: str, ending: str) -> str:
    """Return an element as large as a body may have it."""
    return beginning + piece * ((SIZE - 4096 - len(beginning) - len(ending)) // len(piece)) + ending


def struct(**members: str) -> str:
    """Return a struct of values, each without its ``value``."""
    each = (f"<member><name>{name}</name><value>{value}</value></member>" for name, value in members.items())
    return f"<struct>{''.join(each)}</struct>"


def array(*values: str) -> str:
    return ARRAY[0] + "".join(f"<value>{value}</value>" for value in values) + ARRAY[1]


def deep(levels: int) -> str:
    """Return structs in each other."""
    return struct(a=deep(levels - 1) if levels > 1 else "1")


ARRAY = ("<array><data>", "</data></array>")
PLACE = struct(destination="a", path="b")
VALUES = {
    "string": filled("<string>", "x", "</string>"),
    "url": filled("<string>http://", "\n", "</string>"),
    "login": filled("<string>http://user:s3cr3t", "x", "@example.org/</string>"),
    "percents": filled("<string>https://example.org/", "%25", "</string>"),
    "path": filled("<string>", "a/../", "</string>"),
    "ats": filled("<string>scp://", "@:", "</string>"),
    "lsid": filled("<string>urn:lsid:", "a:", "</string>"),
    "base64": filled("<base64>", "aHR0cDovLy8v", "</base64>"),
    "binary": filled("<base64>", "/w==", "</base64>"),
    "int": filled("<int>", "9", "</int>"),
    "i8": filled("<i8>", "0", "</i8>"),
    "double": filled("<double>", "1", "</double>"),
    "boolean": filled("<boolean>", " ", "1</boolean>"),
    "time": filled("<dateTime.iso8601>", "1", "</dateTime.iso8601>"),
    "struct": filled("<struct>", "<member><name>x</name><value>y</value></member>", "</struct>"),
    "array": filled(ARRAY[0], "<value>https://example.org/data/2026/a.csv</value>", ARRAY[1]),
    "files": filled(
        ARRAY[0],
        "<value><struct><member><name>source</name><value>http://a/b</value></member>"
        "<member><name>destination</name><value>a</value></member>"
        "<member><name>path</name><value>b</value></member></struct></value>",
        ARRAY[1],
    ),
    "ints": filled(ARRAY[0], "<value><int>1</int></value>", ARRAY[1]),
    "nils": filled(ARRAY[0], "<value><nil/></value>", ARRAY[1]),
    "structs": filled(ARRAY[0], "<value><struct></struct></value>", ARRAY[1]),
    "nested": filled(ARRAY[0], f"<value>{ARRAY[0]}{ARRAY[1]}</value>", ARRAY[1]),
}
ELEMENTS = {"files", "ints", "nils", "structs", "nested"}
FILE = f"<value>{struct(source='http://a/b', destination='a', path='b')}</value>"


def just(most: int, count: int, piece: str) -> str:
    """Return an array of a piece and of files, so that 64 KiB have hardly ``most`` of what a piece has ``count`` of."""
    room = count * 65536 // most + 1 - len(piece)
    files, rest = divmod(max(room, 0), len(FILE))
    return filled(ARRAY[0], piece + FILE * files + FILE.replace("http://a/b", f"http://a/{'b' * rest}"), ARRAY[1])


STRUCTS = {
    "places": filled(ARRAY[0], f"<value>{struct(source=PLACE, destination='a', path='b')}</value>", ARRAY[1]),
    "requests": filled(
        ARRAY[0],
        f"<value>{struct(files=array(struct(source=PLACE, destination='a', path='b')))}</value>",
        ARRAY[1],
    ),
    "calls": just(MOST_NESTING, 2, f"<value>{struct(methodName='jobs.status', params=array('<int>1</int>'))}</value>"),
    "deep": just(MOST_NESTING, 28, f"<value>{deep(29)}</value>"),
    "wide": just(
        MOST_NESTING, 12, f"<value>{struct(**{f'k{index}': '<struct></struct>' for index in range(11)})}</value>"
    ),
    "mixed": just(
        MOST_NESTING, 4, f"<value>{struct(a=array('1', struct(b='<int>1</int>')), c=struct(d=array('x')))}</value>"
    ),
    "spaces": just(
        MOST_ODD_MARKUP // ODD_TAG,
        1,
        "<value><struct><member><name>x</name ><value>y</value></member></struct></value>",
    ),
    "attributes": just(
        MOST_ODD_MARKUP // ODD_TAG,
        1,
        '<value><struct><member a=""><name>x</name><value>y</value></member></struct></value>',
    ),
    "comments": just(MOST_ODD_MARKUP, 1, f"<value>{struct(x='y')}</value><!-- -->"),
    "sections": just(MOST_ODD_MARKUP, 1, f"<value>{struct(x='<string><![CDATA[y]]></string>')}</value>"),
    "references": filled(ARRAY[0], f"<value>{struct(x=struct(y='&#65;&#66;'))}</value>", ARRAY[1]),
    "letters": filled(ARRAY[0], f"<value>{struct(x='&#1080;' * 30)}</value>", ARRAY[1]),
    "zeros": filled(ARRAY[0], f"<value>{struct(x='<int>01</int>', y='<int>02</int>')}</value>", ARRAY[1]),
    "lines": filled(
        ARRAY[0],
        "\r\n <value>\r\n  <struct>\r\n <member>\r\n <name>x</name>\r\n <value>\r\n <struct>"
        "\r\n <member>\r\n <name>y</name>\r\n <value>\r\n <int>1</int>\r\n </value>\r\n </member>\r\n </struct>\r\n "
        "</value>\r\n </member>\r\n </struct>\r\n </value>",
        ARRAY[1],
    ),
}
ODD = {
    "empty": filled(ARRAY[0], "<value/>", ARRAY[1]),
    "comments": filled("<string>", "x<!-- -->", "</string>"),
    "sections": filled(ARRAY[0], "<value>x<![CDATA[]]></value>", ARRAY[1]),
    "attributes": filled(ARRAY[0], '<value a=""><int a="">1</int></value>', ARRAY[1]),
    "spaces": filled(ARRAY[0], "<value ><int >1</int ></value >", ARRAY[1]),
    "times": filled(
        ARRAY[0],
        f"<value><struct>{'<member><name>x</name><value><base64/></value></member>' * 9}</struct></value>",
        ARRAY[1],
    ),
    "prefixes": filled(ARRAY[0], "<a:value><a:int>1</a:int></a:value>", ARRAY[1]),
}


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def body_of(name: str, *values: str) -> bytes:
    params = "".join(f"<param><value>{value}</value></param>" for value in values)
    return f"<methodCall><methodName>{name}</methodName><params>{params}</params></methodCall>".encode()


def answered(service: Service, body: bytes) -> bytes:
    """Return the body of an answer."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        connection.request("POST", "/data_mover", body, {"Content-Type": "text/xml"})
        return connection.getresponse().read()
    finally:
        connection.close()


def used(service: Service, body: bytes) -> float:
    """Have a body answered, or refused shortly; return the seconds of CPU for each MiB of it."""
    began = cpu(service.pid)
    answer = answered(service, body)
    spent = cpu(service.pid) - began
    assert len(answer) <= ANSWER
    assert len(refusal(answer)) < SHORT
    assert "s3cr3t" not in refusal(answer)
    return spent * 2**20 / len(body)


def check(service: Service, body: bytes) -> None:
    """Have a body answered, or refused shortly, within its share of CPU.

    Whatever else the machine does makes a second of CPU worth less. So one that took too long is compared with files.
    """
    files = body_of("jobs.submit_many", VALUES["files"])
    spent: list[tuple[float, float]] = []
    for _ in range(TRIES):
        if (one := used(service, body)) <= SECONDS:
            return
        if one <= FILES * (other := used(service, files)):
            return
        spent.append((one, other))
    raise AssertionError(f"seconds of CPU for each MiB, and for each of plain files: {spent}")


def refusal(answer: bytes) -> str:
    """Return what a Fault says, "" for what is none."""
    try:
        loads(answer)
    except Fault as fault:
        return fault.faultString
    return ""


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("name", METHODS)
def test_a_parameter_at_its_largest(service: Service, name: str, kind: str) -> None:
    """Whatever is given for a method's parameters, it costs little and the refusal is short."""
    method = METHODS[name]
    count = max(len(signature) for signature in method.signatures) - 1
    check(service, body_of(name, VALUES[kind], *["<string>x</string>"] * max(count - 1, 0)))


@pytest.mark.parametrize("kind", STRUCTS)
@pytest.mark.parametrize("name", ["jobs.submit_many", "system.multicall"])
def test_structs_however_they_are_written(service: Service, name: str, kind: str) -> None:
    """Structs in each other, and what is written as no client does but just seldom enough, cost no more."""
    check(service, body_of(name, STRUCTS[kind]))


@pytest.mark.parametrize("kind", ODD)
def test_a_body_that_no_client_writes(service: Service, kind: str) -> None:
    """What would be read piece by piece is refused before much of it has been read."""
    check(service, body_of("jobs.submit", ODD[kind]))


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind not in ELEMENTS])
@pytest.mark.parametrize("key", sorted(JOB_KEYS | FILE_KEYS))
def test_a_key_at_its_largest(service: Service, key: str, kind: str) -> None:
    """Whatever a key of a request holds, it costs little and the refusal is short."""
    plain = {"source": "https://example.org/a", "destination": "archive", "path": "a", key: VALUES[kind]}
    members = "".join(
        f"<member><name>{name}</name><value>{value}</value></member>"
        for name, value in plain.items()
        if key != "files" or name == key
    )
    check(service, body_of("jobs.submit", f"<struct>{members}</struct>"))


def served_meanwhile(service: Service, body: bytes) -> int:
    """Return how many of ``SMALL_CALLS`` that come with the end of a body are answered before it is.

    They come on one connection, which has one of them answered in a turn: so it counts turns, not seconds.
    """
    small = body_of("system.listMethods")
    head = b"POST /data_mover HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"
    here = ("127.0.0.1", service.port)
    with socket.create_connection(here) as large, socket.create_connection(here) as other:
        large.sendall(head % len(body) + body[:-1])
        for _ in range(RECEIVED):
            answered(service, small)
        large.sendall(body[-1:])
        other.sendall((head % len(small) + small) * SMALL_CALLS)
        assert large.recv(2**16).startswith(b"HTTP/1.1 200 ")
        other.setblocking(False)
        came = other.recv(2**20) if select.select([other], [], [], 0)[0] else b""
    return came.count(b"</methodResponse>")


def test_others_are_served_meanwhile(service: Service) -> None:
    """While a body at its largest is read, small calls are not kept waiting: several are answered before it."""
    body = body_of("jobs.submit", VALUES["files"])
    # Where this process was held up, they came too late.
    assert median(served_meanwhile(service, body) for _ in range(TRIES)) > SMALL_CALLS // 2
