"""The records that cross layers. All frozen; arrays are float32, C order, on the CPU.

Shape letters: N rows of the store in one space, G photos of a gallery, K results shown, D embedding width, P patches, W token width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import os
    from datetime import datetime

    import numpy as np


@dataclass(frozen=True, slots=True)
class Space:
    """What makes two embeddings comparable."""

    backbone: str
    weights: str  # sha256 of the weights, hexadecimal
    preprocess: str  # name and version of the preprocessing
    width: int  # D
    patches: int = 0  # P, 0 when the backbone gives no tokens
    token_width: int = 0  # W

    @property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name the space: a folder in the store, a field in a head's card.

        >>> Space("toy", "0" * 64, "squash-8/1", 12).fingerprint
        '8dbb4bb0b8c9bc0f'
        """
        text = "|".join((self.backbone, self.weights, self.preprocess, str(self.width)))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Geometry of a tower's input; its text form names the preprocessing in a space."""

    size: int
    mode: str = "crop"  # crop | squash | inside
    filter: str = "bicubic"

    def __str__(self) -> str:
        return f"{self.mode}-{self.size}-{self.filter}/1"

    @classmethod
    def parse(cls, text: str) -> InputSpec:
        """Read the text form back.

        >>> InputSpec.parse("squash-224-bicubic/1").size
        224
        """
        mode, size, name = text.removesuffix("/1").split("-")
        return cls(int(size), mode, name)


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What one `stat` tells about a file: enough to know whether it may have changed."""

    size: int
    mtime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileStamp:
        return cls(found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino)


@dataclass(frozen=True, slots=True)
class Photo:
    """A file that may be a photo: absolute folder and name as the system gives them, and the path as the user gave it."""

    folder: str
    name: str
    shown: str
    stamp: FileStamp

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder != "/" else f"/{self.name}"


@dataclass(frozen=True, slots=True)
class PixelFacts:
    """Measured on the decoded picture before the last resize; every value is 0 ... 1 unless said otherwise."""

    luminance: float  # mean of luma
    contrast: float  # standard deviation of luma
    saturation: float  # mean of (max - min) / max over RGB
    colourfulness: float  # Hasler & Suesstrunk 2003, over 255
    clipped: float  # share of pixels at black or white
    sharpness: float  # log10(1 + variance of the luma's Laplacian at 8-bit scale), about 0 ... 5
    noise: float  # robust standard deviation of the fine diagonal detail, over 255


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """What the catalogue keeps about a content."""

    width: int  # after orientation
    height: int
    format: str
    taken_at: str = ""  # ISO 8601 without zone, as the camera wrote it
    camera: str = ""
    latitude: float | None = None
    longitude: float | None = None
    pixels: PixelFacts | None = None
    truncated: bool = False

    @property
    def moment(self) -> datetime | None:
        """When it was taken, as its camera wrote it; None where that is unknown or no time."""
        from datetime import datetime  # 3 ms: only where a time is asked for

        try:
            return datetime.fromisoformat(self.taken_at) if self.taken_at else None
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Decoded:
    """A photo ready for the image tower."""

    digest: bytes
    stamp: FileStamp  # of the bytes that were read
    pixels: np.ndarray | None  # uint8 [S, S, 3]; None when the digest was already known
    facts: PhotoFacts | None


@dataclass(frozen=True, slots=True)
class Failure:
    """One photo that could not be read."""

    shown: str
    reason: str
    kind: str


@dataclass(frozen=True, slots=True)
class Features:
    """What an image tower gives for a batch."""

    pooled: np.ndarray  # float32 [B, D], L2-normalised
    tokens: np.ndarray | None  # float32 [B, P, W]
    stages: np.ndarray | None = None  # float32 [B, S], means over the picture of what the tower's inner stages see


@dataclass(slots=True)
class Skipped:
    """Why files were not looked at, by reason, and other extensions by count."""

    reasons: dict[str, int] = field(default_factory=dict)
    extensions: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, count: int = 1) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + count

    def add_extension(self, extension: str) -> None:
        self.extensions[extension] = self.extensions.get(extension, 0) + 1

    @property
    def total(self) -> int:
        return sum(self.reasons.values()) + sum(self.extensions.values())


@dataclass(slots=True)
class EmbedReport:
    """What one run of `embed` did; counts are photos."""

    new: int = 0
    unchanged: int = 0
    moved: int = 0
    again: int = 0  # embedded before and now once more (`force`)
    copies: int = 0  # same content at another path: recognised, not embedded again
    failed: int = 0
    remembered: int = 0  # failures of earlier runs, not tried again
    left: int = 0  # not come to: the run was ended before
    skipped: Skipped = field(default_factory=Skipped)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    decode_share: float = 0.0  # of the workers' and the engine's summed busy time
    model_share: float = 0.0
    engine: str = ""  # "onnx, cpu, int8"
    missing_roots: list[str] = field(default_factory=list)

    @property
    def due(self) -> int:
        """Photos that this run had to do something about."""
        return self.new + self.again + self.copies + self.moved + self.failed + self.left

    @property
    def found(self) -> int:
        return self.left + self.new + self.again + self.unchanged + self.moved + self.copies + self.failed + self.remembered


@dataclass(frozen=True, slots=True)
class Hit:
    """One photo of a ranking."""

    rank: int  # from 1
    path: str  # as given: argument + "/" + the path below it
    score: float  # what sorts; higher is better
    cosine: float | None = None
    percentile: float | None = None  # 100: nothing in the gallery is better
    value: float | None = None  # in the head's unit
    interval: tuple[float, float] | None = None  # 80 %
    applies: bool | None = None
    photo_cosine: float | None = None  # compose-search: with the reference, and with the text
    text_cosine: float | None = None
    truncated: bool | None = None  # only what is there of the file was embedded
    taken_at: str | None = None  # where the order is by date: ISO 8601 without zone


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the photos are in this order."""

    method: str
    rule: str  # the sentence that names the rule which chose the method
    parse: str  # how the instruction was understood
    texts: tuple[str, ...]  # what was embedded, positive end first
    head: str = ""


@dataclass(frozen=True, slots=True)
class Ranking(Sequence[Hit]):
    """Photos in the order an instruction asks for: a sequence of `Hit`, stored as columns.

    >>> from rankclip import Ranking
    >>> Ranking.empty("red", "similarity").paths
    []
    """

    instruction: str
    method: str
    space: str
    gallery: int  # photos that were ordered
    pending: int  # photos in the folders that the store does not hold yet
    paths: list[str]  # K, best first
    scores: np.ndarray  # float64 [K]
    cosines: np.ndarray | None = None  # float32 [K]
    percentiles: np.ndarray | None = None  # float32 [K]
    values: np.ndarray | None = None  # float32 [K], NaN where the head could not read the photo
    intervals: np.ndarray | None = None  # float32 [K, 2]
    applies: np.ndarray | None = None  # bool [K]
    ranks: np.ndarray | None = None  # int64 [K]; None: 1 ... K
    unit: str = ""
    meaning: str = "cosine"  # what the score is, for the table's header
    explanation: Explanation | None = None
    notes: tuple[str, ...] = ()
    references: tuple[str, ...] = ()  # compose-search: the photos that the search started from
    photo_cosines: np.ndarray | None = None  # float32 [K], with the references
    text_cosines: np.ndarray | None = None  # float32 [K], with the instruction
    truncated: np.ndarray | None = None  # bool [K]; None: no photo is cut short
    taken: np.ndarray | None = None  # datetime64[s] [K], NaT where a photo does not say; None: the order is not by date

    @classmethod
    def empty(cls, instruction: str, method: str) -> Ranking:
        import numpy as np

        return cls(instruction, method, "", 0, 0, [], np.empty(0))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]

        def pick(column: np.ndarray | None, kind: type) -> Any:
            return None if column is None or column[index] != column[index] else kind(column[index])  # NaN, NaT: not known for this photo

        value = pick(self.values, float)
        interval = None if self.intervals is None or value is None else (float(self.intervals[index][0]), float(self.intervals[index][1]))
        return Hit(int(self.ranks[index]) if self.ranks is not None else index + 1, self.paths[index], float(self.scores[index]),
                   pick(self.cosines, float), pick(self.percentiles, float), value, interval, pick(self.applies, bool),
                   pick(self.photo_cosines, float), pick(self.text_cosines, float), pick(self.truncated, bool),
                   pick(self.taken, str))  # fmt: skip

    def __iter__(self) -> Iterator[Hit]:
        return (self[i] for i in range(len(self)))


class Progress(Protocol):
    """How library code tells that work goes on; the default does nothing."""

    def start(self, total: int | None, what: str) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def note(self, message: str) -> None: ...

    def done(self) -> None: ...


class Silent:
    """A `Progress` that says nothing."""

    def start(self, total: int | None, what: str) -> None:
        pass

    def advance(self, count: int = 1) -> None:
        pass

    def note(self, message: str) -> None:
        pass

    def done(self) -> None:
        pass
