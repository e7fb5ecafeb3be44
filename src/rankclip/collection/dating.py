"""`rank` by when photos were taken: "newest photos first". Only what the camera wrote into the file counts: no model is asked, and no file's own date."""

from __future__ import annotations

import numpy as np

from rankclip.collection import subjects
from rankclip.collection.adapting import Parts, placed
from rankclip.collection.ranking import RankOptions, cut_short
from rankclip.instructions import Instruction
from rankclip.instructions.dates import ATTRIBUTE
from rankclip.scoring import percentiles
from rankclip.types import Explanation, Ranking

METHOD = "date"
BEHIND = 1e12  # seconds: photos that do not say when they were taken, or do not show the subject, come after all others
UNDATED = "no photo here says when it was taken: ordered by how new they look"


def asks(instruction: Instruction, options: RankOptions) -> bool:
    """Tell whether the order is by date, as far as the instruction and the options say."""
    plain = options.method == "auto" and not (options.plus or options.minus or options.low)
    return instruction.attribute == ATTRIBUTE and (plain or options.method == METHOD)


def rank(instruction: Instruction, parts: Parts, options: RankOptions, not_yet: int = 0) -> Ranking | None:
    """Order the photos by date; those without one come last, marked. None where no photo has one and the method was not asked for by name."""
    view, photos = parts.view, parts.photos
    seconds = taken(parts)  # float64 [G]
    dated = np.isfinite(seconds)
    if not dated.any() and options.method != METHOD:
        return None
    shown = subjects.showing(instruction, parts.store, view, photos.rows, parts.embed, parts.null)  # bool [G] or None
    applies = dated if shown is None else dated & shown
    scores = np.where(dated, -seconds if instruction.ascending else seconds, -BEHIND)
    index, ranks = placed(np.where(applies, scores, scores - BEHIND), photos, options)
    return Ranking(
        instruction.text, METHOD, view.space.fingerprint, len(dated), not_yet + photos.missing, photos.paths(index), scores[index],
        percentiles=percentiles(ranks, len(dated)), ranks=ranks, applies=None if applies.all() else applies[index], meaning=ATTRIBUTE,
        explanation=Explanation(METHOD, subjects.told("it asks when photos were taken", shown), instruction.describe(), ()),
        notes=undated(dated), truncated=cut_short(view, photos.contents(index)) if options.details else None,
        taken=seconds[index].astype("datetime64[s]"),
    )  # fmt: skip


def taken(parts: Parts) -> np.ndarray:
    """When the photos were taken, in seconds since 1970 by the camera's clock: float64 [G], NaN where a photo does not say."""
    known = parts.store.catalogue.moments()  # int64 [M, 2], by content
    contents = parts.view.contents[parts.photos.rows]  # int64 [G]
    found = np.full(len(contents), np.nan)
    if len(known):
        places = np.searchsorted(known[:, 0], contents).clip(max=len(known) - 1)
        found = np.where(known[places, 0] == contents, known[places, 1], np.nan)
    return found


def undated(dated: np.ndarray) -> tuple[str, ...]:
    """Say how many photos have no date.    dated: bool [G]."""
    missing = int((~dated).sum())
    return (f"{missing:,} of {len(dated):,} photos do not say when they were taken and come last",) if missing else ()
