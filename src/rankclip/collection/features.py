"""What the store holds about some photos, as arrays: what training, evaluation and heads read instead of the photos."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from rankclip.heads.kernel import FACTS
from rankclip.store.store import Store, View
from rankclip.types import PhotoFacts, PixelFacts

NO_FACTS = PixelFacts(*[float("nan")] * FACTS)


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features of some contents, in the order they were asked for. Only embedded contents can be asked for.

    contents: int64 [N]. pooled: float32 [N, D], unit rows. token_rows: int64 [N], -1 where the store holds no patch tokens.
    facts: float32 [N, 7], the pixel facts in the order of `PixelFacts`, NaN where there are none. stages: float32 [N, S], means over the picture of what
    inner stages of the image tower see, NaN where there are none; S is 0 for a tower that gives none.
    """

    view: View
    contents: np.ndarray
    pooled: np.ndarray
    token_rows: np.ndarray
    facts: np.ndarray
    photos: tuple[PhotoFacts, ...]
    stages: np.ndarray

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def measured(self) -> np.ndarray:
        """Pixel facts and stages side by side, float32 [N, 7 + S]: what a kernel regression reads beside the embedding."""
        return np.concatenate([self.facts, self.stages], axis=1)

    def tokens(self, index: np.ndarray) -> np.ndarray:
        """Return patch tokens of some rows of this table, float32 [K, P, W]."""
        return self.view.read_tokens(self.token_rows[index])


def read(store: Store, view: View, contents: np.ndarray) -> FeatureTable:
    """Read the features of embedded contents; opens no photo.

    contents: int64 [N], each with an embedding in the view's space (`view.rows_of(contents) >= 0`).
    """
    rows = view.rows_of(contents)
    assert (rows >= 0).all(), "every content is embedded"
    found = store.catalogue.facts(np.unique(contents).tolist())
    photos = tuple(found[content] for content in contents.tolist())
    facts = np.array([astuple(photo.pixels or NO_FACTS) for photo in photos], np.float32).reshape(len(contents), FACTS)
    return FeatureTable(
        view, contents, view.read_embeddings(rows), view.token_rows_of(contents) if view.token_rows else np.full(len(contents), -1), facts, photos,
        view.read_stages(contents),
    )  # fmt: skip
