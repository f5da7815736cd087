"""``make fuzz``: the door fed by atheris, which looks for bytes that take it where none have been before.

    python -m tests.fuzz requests|bodies CORPUS [libFuzzer's options]

``requests`` are any bytes, ``bodies`` what is in a request that is one. A finding is any error that nobody handled, a
Fault 8002, or a connection that never ends; libFuzzer writes the bytes that made it into a file, and tells its name.
"""

import sys
from pathlib import Path
from tempfile import mkdtemp

import atheris

with atheris.instrument_imports(include=["datamover.api", "datamover.requests", "datamover.web", "twisted.web.http"]):
    from tests.servers.mouth import HEAD, METHODS, Mouth, posted

CALL = b"<methodCall><methodName>%s</methodName><params><param><value>%s</value></param></params></methodCall>"
STRUCT = b"<struct><member><name>%s</name><value>%s</value></member></struct>"
BUG = b"<int>8002</int>"


def seeds(corpus: Path, target: str) -> None:
    """Write what the fuzzer begins with: a call of every method, with a value of every kind."""
    corpus.mkdir(parents=True, exist_ok=True)
    values = [
        *(b"<int>1</int>", b"<double>1.5</double>", b"<boolean>1</boolean>", b"<string>a</string>", b"a", b"<nil/>"),
        *(b"<base64>eA==</base64>", b"<dateTime.iso8601>20260101T00:00:00</dateTime.iso8601>"),
        b"<array><data><value>scp://archive/a</value></data></array>",
        STRUCT % (b"source", b"https://example.org/a"),
    ]
    for number, name in enumerate(METHODS):
        body = CALL % (name.encode(), values[number % len(values)])
        (corpus / f"seed-{name}").write_bytes(body if target == "bodies" else posted(body))
    (corpus / "seed-chunked").write_bytes(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


def main() -> None:
    target, corpus, *options = sys.argv[1:]
    seeds(Path(corpus), target)
    mouth = Mouth(Path(mkdtemp(prefix="datamover-fuzz-")))

    def feed(data: bytes) -> None:
        answer = mouth.feed([data if target == "requests" else posted(data)])
        assert BUG not in answer, answer

    atheris.Setup([sys.argv[0], corpus, *options], feed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
