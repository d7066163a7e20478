"""Middles that are strings only together are no text, however well their number agrees."""

from __future__ import annotations

import pytest

from eventstore.frames import SEP, Middles
from gateway.wire.fastlane import read_run


@pytest.mark.parametrize(
    "insides",
    [
        [b'a",["b', b"c", b'd"],"e'],
        [b'a",{"k":"v', b'l":"w', b'm":"x"},"e'],
        [b'a",[["b', b'c"],"d', b"e", b'f"],"g'],
    ],
)
def test_brackets_across_frames(insides: list[bytes]) -> None:
    assert read_run(Middles(SEP.join(insides))) is None
