"""The hashes: a tree as RFC 6962 defines it, and proofs that hold for one leaf and no other."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.chain import Tree, apart, leaf, path, root_above, with_hex


def by_definition(leaves: list[bytes]) -> bytes:
    """The hash of a list as RFC 6962 §2.1 writes it down."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\1" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


@pytest.mark.parametrize("count", [*range(1, 34), 100, 127, 128, 129])
def test_the_tree_is_that_of_the_standard_and_every_leaf_is_proved(count: int) -> None:
    leaves = [leaf(b"%d" % number) for number in range(count)]
    root = Tree(leaves).root
    assert root == by_definition(leaves)
    for place in range(count):
        beside = path(leaves, place)
        assert root_above(leaves[place], place, count, beside) == root
        for other in {(place + 1) % count, count - 1 - place} - {place}:
            assert root_above(leaves[place], other, count, beside) != root
            assert root_above(leaves[other], place, count, beside) != root
        assert root_above(leaves[place], place, count, [*beside, root]) != root
        assert not beside or root_above(leaves[place], place, count, beside[:-1]) != root


def test_known_roots() -> None:
    """The vectors of RFC 6962 that implementations share (certificate-transparency-go, testonly)."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    tree = Tree(leaf(bytes.fromhex(one)) for one in inputs)
    assert tree.root.hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert Tree().root.hex() == sha256(b"").hexdigest()


@given(st.text(max_size=20), st.binary(min_size=32, max_size=32))
def test_a_hash_is_put_on_and_taken_off_byte_for_byte(text: str, digest: bytes) -> None:
    body = b'{"a":"%b"}' % text.encode("utf-8", "replace").replace(b"\\", b"").replace(b'"', b"")
    assert apart(with_hex(body, b"hash", digest), b"hash") == (body, digest)
    assert apart(body, b"hash") is None
