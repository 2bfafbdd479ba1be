"""Goal: whoever follows a console reads each word once, also when it says more than is kept. Method: a stream of which only the
last bytes are kept, looked at now and then, in pieces of every size."""

from hypothesis import given
from hypothesis import strategies as st

from alto.ui.cli.instances import unheard

KEPT = 400  # instead of 64 KiB


@given(st.lists(st.binary(max_size=300), max_size=12))
def test_each_word_is_read_once(pieces: list[bytes]) -> None:
    stream, before, read = b"", b"", b""
    for number, piece in enumerate(pieces):
        # Each piece tells where it stands: in a stream that repeats itself nobody could say what was lost.
        stream += b"%d:" % number + piece
        now = stream[-KEPT:]
        read += unheard(before, now)
        before = now
    assert read == stream


def test_words_that_were_lost_do_not_bring_back_old_ones() -> None:
    assert unheard(b"a" * 50 + b"end", b"something else") == b"something else"
    assert unheard(b"", b"all") == b"all"
    assert unheard(b"same", b"same") == b""
    assert unheard(b"old old new", b"new and newer") == b" and newer"
