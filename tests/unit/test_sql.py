"""The named statements."""

import pytest

from datamover.postgres.named_queries import QUERIES, NamedQueries, Prepared


def test_loads_every_statement() -> None:
    """Every named block of queries.sql is there, without its comments."""
    assert "claim" in QUERIES.names()
    assert QUERIES["claim"].startswith("WITH ")
    assert not any(line.startswith("--") for name in QUERIES.names() for line in QUERIES[name].splitlines())


def test_prepared() -> None:
    """A block that gives its parameters' types is a statement to be planned once; what is sent then names it alone."""
    queries = NamedQueries(
        "-- name: a\n-- prepared: x double precision, y text[]\n-- prepared: z integer\n"
        "SELECT %(y)s, %(x)s %% %(z)s;\n-- name: b\nSELECT 1;"
    )
    prepared = queries["a"]
    assert isinstance(prepared, Prepared)
    assert prepared.preparation == "PREPARE a (double precision, text[], integer) AS SELECT $2, $1 % $3;"
    assert prepared.execution == "EXECUTE a (%(x)s, %(y)s, %(z)s)"
    assert not isinstance(queries["b"], Prepared)


def test_until_here() -> None:
    """A block may be two: all of it, and what stands above a line with what that line ends it with."""
    queries = NamedQueries(
        "-- name: a\nWITH x AS (\n  SELECT 1\n)\n-- until here, as a.seen: SELECT * FROM x\nDELETE FROM y;"
    )
    assert queries["a"] == "WITH x AS (\n  SELECT 1\n)\nDELETE FROM y;"
    assert queries["a.seen"] == "WITH x AS (\n  SELECT 1\n)\nSELECT * FROM x"


def test_unknown_name() -> None:
    """A name that no block has is an error."""
    queries = NamedQueries("-- name: one\nSELECT 1;\n")
    with pytest.raises(KeyError):
        _ = queries["two"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n", "two queries are named 'a'"),
        ("SELECT 1;\n-- name: a\nSELECT 2;\n", "before the first name"),
        ("-- name: a\n-- nothing\n-- name: b\nSELECT 2;\n", "'a' is empty"),
    ],
)
def test_refused(text: str, complaint: str) -> None:
    """A name given twice, a statement without one, and a name without a statement are errors."""
    with pytest.raises(ValueError, match=complaint):
        NamedQueries(text)
