"""Random pieces are nobody else's: not another call's, not another thread's, not a forked child's."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.randomness import PIECES, Randomness


def test_no_piece_comes_twice() -> None:
    source = Randomness(16)
    found = [source.piece() for _ in range(5 * PIECES)]
    assert len(set(found)) == len(found) and {*map(len, found)} == {16}


def test_threads_share_none() -> None:
    source = Randomness(16)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: source.piece(), range(20 * PIECES)))
    assert len(set(found)) == len(found)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_its_own() -> None:
    source = Randomness(16)
    source.piece()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, source.piece())
        os._exit(0)
    assert os.read(reading, 16) != source.piece()
    os.waitpid(child, 0)
