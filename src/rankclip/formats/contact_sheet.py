"""A contact sheet: the photos in order on one self-contained HTML page, thumbnails inside, readable offline and in fifty years."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from rankclip.formats.base import FormatOptions, clock, is_text, printable
from rankclip.photos.decode import DecodeOptions
from rankclip.photos.pool import DecodePool
from rankclip.photos.worker import Task, WorkerOptions
from rankclip.types import Hit, InputSpec, Ranking

THUMBNAIL = 240  # px, longer side
QUALITY = 82
STYLE = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; --line: #8884; --faint: #888; }
body { margin: 1.5rem; } h1 { font-size: 1.3rem; margin: 0 0 .2rem; } p { margin: 0 0 1rem; color: var(--faint); }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1rem; list-style: none; padding: 0; margin: 0; }
li { border: 1px solid var(--line); border-radius: 6px; padding: .5rem; overflow: hidden; }
li.off { opacity: .55; } figure { margin: 0; } a.photo { display: grid; place-items: center; height: 180px; }
img { max-width: 100%; max-height: 180px; border-radius: 3px; } figcaption { margin-top: .4rem; font-size: .8rem; overflow-wrap: anywhere; }
b { font-variant-numeric: tabular-nums; } .faint { color: var(--faint); }
"""


def write(ranking: Ranking, out: BinaryIO, options: FormatOptions) -> None:
    """Write the page; a photo that cannot be read any more keeps its place without a picture."""
    title = html.escape(options.title or ranking.instruction)
    about = f"{len(ranking):,} of {ranking.gallery:,} photos, method {html.escape(ranking.method)}"
    out.write(f"<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
              f"<style>{STYLE}</style>\n<h1>{title}</h1>\n<p>{about}</p>\n<ol>\n".encode())  # fmt: skip
    for hit, picture in zip(ranking, thumbnails(ranking.paths), strict=True):
        out.write(item(ranking, hit, picture).encode("utf-8", "replace"))
    out.write(b"</ol>\n</html>\n")


def item(ranking: Ranking, hit: Hit, picture: bytes) -> str:
    name = html.escape(printable(os.path.basename(hit.path)))
    link = html.escape(Path(os.path.abspath(hit.path)).as_uri()) if is_text(hit.path) else ""
    image = (
        f"<img loading=lazy alt='{name}' src='data:image/jpeg;base64,{base64.b64encode(picture).decode()}'>"
        if picture
        else "<span class=faint>not readable</span>"
    )
    value = f"{hit.value:.3g} {html.escape(ranking.unit)}" if hit.value is not None else f"{hit.score:+.3f}" if hit.taken_at is None else clock(hit.taken_at)
    value = "does not apply" if hit.applies is False else value
    off = " class=off" if hit.applies is False else ""
    return (f"<li{off}><figure><a class=photo href='{link}' title='{html.escape(printable(hit.path))}'>{image}</a>"
            f"<figcaption><b>{hit.rank}</b> · {value}<br><span class=faint>{name}</span></figcaption></figure></li>\n")  # fmt: skip


def thumbnails(paths: list[str]) -> Iterator[bytes]:
    """Yield each photo's thumbnail as JPEG bytes, empty where it cannot be read; decoded apart from this process, in order."""
    options = WorkerOptions(DecodeOptions(InputSpec(THUMBNAIL, "inside")))
    done: dict[int, bytes] = {}
    sent = 0
    with DecodePool(options, min(4, os.cpu_count() or 1)) as pool:
        for number in range(len(paths)):
            while number not in done:
                while pool.room and sent < len(paths):
                    pool.submit(Task(sent, os.path.abspath(paths[sent])))
                    sent += 1
                for answer in pool.ready(timeout=1.0):
                    pixels = answer.decoded.pixels if answer.decoded is not None else None
                    done[answer.number] = jpeg(pixels) if pixels is not None else b""
            yield done.pop(number)


def jpeg(pixels) -> bytes:  # type: ignore[no-untyped-def]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
