"""Types: what they read, how they write it back, and what people are told when a literal does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.values import (
    ASN,
    BOOL,
    CIDR,
    COUNTRY,
    DURATION,
    FLOAT,
    INT,
    IP,
    SECOND,
    STRING,
    TIMESTAMP,
    TYPES,
    AtLeast,
    Type,
    duration_text,
    parse_duration,
    parse_timestamp,
    set_of,
    timestamp_text,
)

SETTINGS = settings(max_examples=100, deadline=None, derandomize=True, database=None)
HOUR = 3_600 * SECOND
READ: list[tuple[Type, object, object]] = [
    (STRING, "NO", "NO"),
    (STRING, "", ""),
    (INT, 0, 0),
    (INT, -5, -5),
    (FLOAT, 1, 1.0),
    (FLOAT, 0.5, 0.5),
    (BOOL, True, True),
    (DURATION, "30d", 30 * 24 * HOUR),
    (DURATION, "0s", 0),
    (DURATION, "250ms", SECOND // 4),
    (DURATION, "1500us", 1_500),
    (DURATION, "2w", 14 * 24 * HOUR),
    (TIMESTAMP, "1970-01-01T00:00:01Z", SECOND),
    (TIMESTAMP, "1970-01-01T01:00:00+01:00", 0),
    (TIMESTAMP, "1970-01-02", 24 * HOUR),
    (TIMESTAMP, 1.5, 1_500_000),
    (TIMESTAMP, "1969-12-31T23:59:59.999999Z", -1),
    (COUNTRY, "NO", "NO"),
    (COUNTRY, "no", "NO"),
    (ASN, 64500, 64500),
    (ASN, "AS64500", 64500),
    (ASN, "as1", 1),
    (IP, "10.0.0.1", "10.0.0.1"),
    (IP, "2001:DB8:0::1", "2001:db8::1"),
    (CIDR, "10.0.0.0/8", "10.0.0.0/8"),
    (CIDR, "10.0.0.1", "10.0.0.1/32"),
    (set_of(STRING), ["a", "b", "a"], frozenset({"a", "b"})),
    (set_of(STRING), "a", frozenset({"a"})),
    (set_of(INT), [], frozenset()),
]
REFUSED: list[tuple[Type, object, str]] = [
    (STRING, 1.1, "1.1 is not text; put it in quotes"),
    (STRING, None, "None is not text; put it in quotes"),
    (INT, True, "True is not a whole number"),
    (INT, 3.0, "3.0 is not a whole number"),
    (INT, "3", "'3' is not a whole number"),
    (FLOAT, "x", "'x' is not a number"),
    (FLOAT, False, "False is not a number"),
    (FLOAT, float("nan"), "nan is not a number"),
    (FLOAT, float("inf"), "inf is not a number"),
    (BOOL, "yes", "'yes' is not true or false"),
    (BOOL, 1, "1 is not true or false"),
    *[
        (DURATION, bad, f"{bad!r} is not a duration; write a whole number and a unit, such as 30s, 5m, 12h or 30d")
        for bad in (30, "30", "1.5h", "-3d", "h", True, "3 d", "3D", "٣s", "²us", None)
    ],
    *[
        (TIMESTAMP, bad, f"{bad!r} is not a time; write it as 2026-11-01T00:00:00Z")
        for bad in ("soon", True, None, float("nan"), float("inf"), 1e30, "2026-13-01")
    ],
    (TIMESTAMP, "9999-12-31T23:59:59-01:00", "'9999-12-31T23:59:59-01:00' lies outside the years 1 to 9999"),
    *[(COUNTRY, bad, f"{bad!r} is not an ISO 3166-1 alpha-2 country code") for bad in ("UK", "NOR", "", False, "ß", "ıR", 47)],
    *[(ASN, bad, f"{bad!r} is not an AS number; write 64500 or AS64500") for bad in (0, 2**32, "AS", "-1", 1.5, True, "²")],
    *[(IP, bad, f"{bad!r} is not an IP address") for bad in ("10.0.0.256", "10.0.0.0/8", 5, "")],
    (CIDR, "10.0.0.1/8", "'10.0.0.1/8' is an address within a network; write the network as 10.0.0.0/8"),
    (CIDR, "x", "'x' is not a network; write it as 203.0.113.0/24"),
    (set_of(COUNTRY), ["NO", "XX"], "'XX' is not an ISO 3166-1 alpha-2 country code"),
]


@pytest.mark.parametrize(("kind", "literal", "value"), READ)
def test_a_literal_reads_as_its_value(kind: Type, literal: object, value: object) -> None:
    found = kind.parse(literal)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("kind", "literal", "message"), REFUSED)
def test_a_literal_that_does_not_fit_says_why(kind: Type, literal: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        kind.parse(literal)
    assert str(caught.value) == message


def test_every_type_is_covered() -> None:
    assert {kind.name for kind, _, _ in READ} == {kind.name for kind, _, _ in REFUSED} == {*TYPES, "set"}


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "int": st.integers(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "duration": st.integers(0, 10**15),
    "timestamp": st.integers(-62_135_596_800 * SECOND, 253_402_300_799 * SECOND),
    "country": st.sampled_from(["NO", "SE", "US"]),
    "asn": st.integers(1, 2**32 - 1),
    "ip": st.ip_addresses().map(str),
    "cidr": st.ip_addresses(v=4).map(lambda address: f"{address}/32"),
}


@SETTINGS
@given(data=st.data(), name=st.sampled_from(sorted(TYPES)), many=st.booleans())
def test_a_value_survives_json(data: st.DataObject, name: str, many: bool) -> None:
    kind = set_of(TYPES[name]) if many else TYPES[name]
    value = data.draw(st.frozensets(VALUES[name], max_size=4) if many else VALUES[name])
    assert kind.parse(json.loads(json.dumps(kind.plain(value)))) == value


@SETTINGS
@given(st.integers(0, 10**15))
def test_a_duration_is_shown_as_it_may_be_written(microseconds: int) -> None:
    assert parse_duration(duration_text(microseconds)) == microseconds


@SETTINGS
@given(VALUES["timestamp"])
def test_a_time_is_written_to_the_microsecond(microseconds: int) -> None:
    assert parse_timestamp(timestamp_text(microseconds)) == microseconds


def test_values_are_shown_as_people_write_them() -> None:
    shown = [
        DURATION.show(30 * 24 * HOUR),
        DURATION.show(90 * SECOND),
        DURATION.show(0),
        DURATION.show(1_500),
        INT.show(AtLeast(500)),
        set_of(COUNTRY).show(frozenset({"SE", "NO"})),
        FLOAT.show(0.05),
        TIMESTAMP.show(0),
        BOOL.show(True),
    ]
    assert shown == ["30d", "90s", "0s", "1500us", "at least 500", "[NO, SE]", "0.05", "1970-01-01T00:00:00.000000Z", "True"]
    assert (str(set_of(STRING)), str(COUNTRY), set_of(INT).scalar, INT.scalar) == ("set of string", "country", INT, INT)
    assert [kind.name for kind in TYPES.values() if kind.ordered] == ["int", "float", "duration", "timestamp"]
