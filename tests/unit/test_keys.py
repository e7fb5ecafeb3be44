"""One definition of "already embedded"."""

from hypothesis import given
from hypothesis import strategies as st

from rankclip.store.keys import KnownFile, State, state

EMBEDDED = {7}


def nothing() -> None:
    return None


def test_each_state() -> None:
    known = KnownFile(10, 5, 7)
    assert state(10, 5, known, nothing, EMBEDDED) is State.UNCHANGED
    assert state(11, 5, known, nothing, EMBEDDED) is State.PENDING
    assert state(10, 6, known, nothing, EMBEDDED) is State.PENDING
    assert state(10, 5, KnownFile(10, 5, 8), nothing, EMBEDDED) is State.PENDING, "known, but not in this space"
    assert state(10, 5, KnownFile(10, 5, 0), nothing, EMBEDDED) is State.REMEMBERED
    assert state(10, 5, KnownFile(10, 5, 0), nothing, EMBEDDED, retry=True) is State.PENDING
    assert state(10, 5, None, lambda: known, EMBEDDED) is State.MOVED
    assert state(10, 6, None, lambda: known, EMBEDDED) is State.PENDING
    assert state(10, 5, None, nothing, EMBEDDED) is State.PENDING


sizes = st.integers(0, 3)
files = st.none() | st.builds(KnownFile, sizes, sizes, st.integers(0, 3))


@given(sizes, sizes, files, files, st.sets(st.integers(1, 3)), st.booleans())
def test_no_photo_is_taken_for_embedded_that_is_not(
    size: int, mtime: int, path: KnownFile | None, inode: KnownFile | None, embedded: set[int], retry: bool
) -> None:
    found = state(size, mtime, path, lambda: inode, embedded, retry=retry)
    if found is State.UNCHANGED:
        assert path is not None and path.content in embedded and (path.size, path.mtime_ns) == (size, mtime)
    if found is State.MOVED:
        assert path is None and inode is not None and inode.content in embedded and (inode.size, inode.mtime_ns) == (size, mtime)
    if path is not None and (path.size, path.mtime_ns) == (size, mtime) and path.content in embedded and path.content:
        assert found is State.UNCHANGED
