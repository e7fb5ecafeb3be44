"""The public API: a `Collection` of photos that can be embedded, ranked, compared and searched."""

from rankclip.collection.collection import Collection

__all__ = ["Collection"]
