"""What `diff` found, as text, JSON (schema rankclip.diff/1) or a page with the photos side by side."""

from __future__ import annotations

import base64
import html
import json
from typing import Any, BinaryIO

from rankclip.collection.certain import Fact
from rankclip.collection.differences import Difference, FolderDifference
from rankclip.collection.telling import Attribute
from rankclip.formats.base import is_text, printable, raw

SCHEMA = "rankclip.diff/1"


# ---------------------------------------------------------------- text


def write_text(found: Difference | FolderDifference, out: BinaryIO) -> None:
    """Write a short answer for people."""
    lines = folder_lines(found) if isinstance(found, FolderDifference) else pair_lines(found)
    out.write(("\n".join(lines) + "\n").encode("utf-8", "replace"))


def pair_lines(found: Difference) -> list[str]:
    """The answer first, then what differs, then what is certain."""
    lines = [f"A {printable(found.a)}", f"B {printable(found.b)}", ""]
    if found.ask and found.probability is not None:
        sure = max(found.probability, 1 - found.probability)
        lines += [f"{printable(found.ask)}  {found.answer} ({sure:.0%})" if found.answer != "unclear" else f"{printable(found.ask)}  unclear ({sure:.0%})", ""]
    if found.attributes:
        lines += [f"  {one.text:40} {bar(one)}".rstrip() for one in found.attributes]
    else:
        lines.append("  no clear difference")
    lines += [f"  {one.text}" for one in found.facts]
    return [*lines, "", f"overall similarity {found.cosine:.2f}{', near-duplicates' if found.near_duplicate else ''}"]


def bar(one: Attribute) -> str:
    """How strong a difference is: a mark for each spread of the library, five at most."""
    return "" if one.value is not None else "*" * min(5, max(1, round(abs(one.z))))


def folder_lines(found: FolderDifference) -> list[str]:
    lines = [f"A {printable(found.a)} ({found.sizes[0]:,} photos)", f"B {printable(found.b)} ({found.sizes[1]:,} photos)", ""]
    for one in found.traits:
        lines.append(f"  {one.text:48}  {one.shares[0]:.0%} and {one.shares[1]:.0%} of the photos")
        lines += [f"      {printable(path)}" for path in one.examples]
    return lines if found.traits else [*lines, "  no clear difference"]


# ---------------------------------------------------------------- JSON


def write_json(found: Difference | FolderDifference, out: BinaryIO) -> None:
    """Write one object on one line."""
    record = folder_record(found) if isinstance(found, FolderDifference) else pair_record(found)
    out.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def named(key: str, path: str) -> dict[str, str]:
    return {key: path} if is_text(path) else {f"{key}_b64": base64.b64encode(raw(path)).decode()}


def pair_record(found: Difference) -> dict[str, Any]:
    """Return a pair's object; an unreadable photo gives `error` and nothing else was compared."""
    record: dict[str, Any] = {"schema": SCHEMA, **named("a", found.a), **named("b", found.b)}
    if found.ask:
        record["ask"] = found.ask
    if found.error:
        return {**record, "error": found.error}
    if found.answer:
        record["answer"] = found.answer
    if found.probability is not None:
        record["probability"] = round(found.probability, 4)
    record["attributes"] = [attribute_record(one) for one in found.attributes]
    record["facts"] = [fact_record(one) for one in found.facts]
    return {**record, "cosine": round(found.cosine, 4), "near_duplicate": found.near_duplicate}


def fact_record(one: Fact) -> dict[str, Any]:
    found = {"name": one.name, "text": one.text, "more": one.more or None, "value": one.value, "unit": one.unit or None}
    return {name: value for name, value in found.items() if value is not None}


def attribute_record(one: Attribute) -> dict[str, Any]:
    value = {} if one.value is None else {"value": one.value, "unit": one.unit}
    return {"name": one.name, "group": one.group, "more": one.more, "text": one.text, **({"z": one.z} if one.value is None else {}), **value}


def folder_record(found: FolderDifference) -> dict[str, Any]:
    traits = [{"name": one.name, "group": one.group, "more": one.more, "text": one.text, "effect": round(one.effect, 4), "q": round(one.q, 5),
               "share_a": one.shares[0], "share_b": one.shares[1],
               "examples": [printable(path) for path in one.examples]} for one in found.traits]  # fmt: skip
    return {"schema": SCHEMA, **named("a", found.a), **named("b", found.b), "photos_a": found.sizes[0], "photos_b": found.sizes[1],
            "tested": found.tested, "attributes": traits}  # fmt: skip


# ---------------------------------------------------------------- page

STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; --faint: #888; --line: #8884; }
body { margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; } h1 { font-size: 1.25rem; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; } figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; padding: .6rem; }
img { max-width: 100%; max-height: 420px; display: block; margin: auto; } figcaption { color: var(--faint); font-size: .85rem; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; } .answer { font-size: 1.1rem; }
"""


def write_html(found: Difference | FolderDifference, out: BinaryIO) -> None:
    """Write a self-contained page, pictures inside."""
    from rankclip.formats.contact_sheet import thumbnails

    title = html.escape(f"{printable(found.a)} and {printable(found.b)}")
    out.write(f"<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
              f"<style>{STYLE}</style>\n<h1>What differs</h1>\n".encode())  # fmt: skip
    if isinstance(found, Difference):
        pictures = list(thumbnails([found.a, found.b]))
        out.write(b"<div class=sides>" + figure("A", found.a, pictures[0]) + figure("B", found.b, pictures[1]) + b"</div>\n")
        out.write(listing(pair_lines(found)[3:]))
    else:
        for one in found.traits:
            out.write(f"<h2>{html.escape(one.text)}</h2><div class=sides>".encode())
            shown = zip(one.examples, thumbnails(list(one.examples)), strict=True)
            out.write(b"".join(figure(one.more, path, picture) for path, picture in shown) + b"</div>\n")
        out.write(listing([f"{found.sizes[0]:,} and {found.sizes[1]:,} photos, {found.tested} attributes tested, {len(found.traits)} told"]))
    out.write(b"</html>\n")


def figure(label: str, path: str, picture: bytes) -> bytes:
    name = html.escape(printable(path))
    image = f"<img alt='{name}' src='data:image/jpeg;base64,{base64.b64encode(picture).decode()}'>" if picture else "<span>not readable</span>"
    return f"<figure>{image}<figcaption><b>{html.escape(label)}</b> {name}</figcaption></figure>".encode("utf-8", "replace")


def listing(lines: list[str]) -> bytes:
    items = "".join(f"<li>{html.escape(line.strip())}</li>" for line in lines if line.strip())
    return f"<ul>{items}</ul>\n".encode("utf-8", "replace")
