"""What a file is, told from its first bytes: names lie, content does not.

`EXTENSIONS` only decides which files are looked at; `sniff` decides how they are read.
"""

from __future__ import annotations

HEAD = 64  # bytes that `sniff` needs
NO_FILE = "not a regular file (a folder, pipe, socket or device)"  # why it is not read: nobody knows when such a thing ends

EXTENSIONS = frozenset(
    (
        "jpg jpeg jpe jfif mpo png apng webp gif bmp dib tif tiff avif avifs heic heif hif jp2 j2k j2c jpc jpx jpf jpm ico tga pnm pbm pgm ppm pam "
        "qoi "
    ).split()
)  # fmt: skip
RAW_EXTENSIONS = frozenset(("dng cr2 cr3 crw nef nrw arw srf sr2 orf rw2 raf pef srw 3fr erf kdc mos mrw rwl x3f ").split())

# Pillow's reader for each type; HEIF is pi-heif's, RAW is rawpy's
PILLOW_FORMATS = {"JPEG": ("JPEG", "MPO"), "PNG": ("PNG",), "WEBP": ("WEBP",), "GIF": ("GIF",), "BMP": ("BMP", "DIB"), "TIFF": ("TIFF",),
                  "AVIF": ("AVIF",), "JPEG2000": ("JPEG2000",), "ICO": ("ICO",), "TGA": ("TGA",), "PNM": ("PPM",), "QOI": ("QOI",)}  # fmt: skip
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"), (b"BM", "BMP"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"), (b"\xff\x4f\xff\x51", "JPEG2000"), (b"qoif", "QOI"), (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x05\x16\x07", "AppleDouble"), (b"FUJIFILMCCD-RAW", "RAW"), (b"IIRO", "RAW"), (b"IIRS", "RAW"), (b"MMOR", "RAW"), (b"IIU\x00", "RAW"),
    (b"FOVb", "RAW"),
    (b"II\x2a\x00", "TIFF"), (b"MM\x00\x2a", "TIFF"), (b"II\x2b\x00", "TIFF"), (b"MM\x00\x2b", "TIFF"),
)  # fmt: skip


def extension(name: str) -> str:
    """Return the lower-case extension without its dot, empty when there is none (a leading dot does not count).

    >>> extension("IMG_1.JPG"), extension(".jpeg"), extension("scan")
    ('jpg', '', '')
    """
    stem, dot, last = name.rpartition(".")
    return last.lower() if dot and stem.strip(".") else ""


def sniff(head: bytes, name_extension: str = "") -> str:
    """Name the type of a file from its first `HEAD` bytes; empty when it is no picture that we know.

    The extension only helps where content cannot: TGA has no mark of its own, camera RAW files look like TIFF.

    >>> sniff(b"GIF89a..."), sniff(b"hello"), sniff(b"II*\\x00", "nef")
    ('GIF', '', 'RAW')
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return "RAW" if kind == "TIFF" and name_extension in RAW_EXTENSIONS else kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3] in (b"\n", b" ", b"\t", b"\r", b"#"):
        return "PNM"
    if name_extension == "tga" and len(head) >= 18 and head[1] in (0, 1) and head[2] in (1, 2, 3, 9, 10, 11):
        return "TGA"
    return ""


def _sniff_brands(head: bytes) -> str:
    """Tell AVIF, HEIF and Canon's CR3 apart by the brands of an ISO media file."""
    major = head[8:12]
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {major} | {head[i : i + 4] for i in range(16, size - 3, 4)}
    if major in (b"avif", b"avis") or (brands & {b"avif", b"avis"} and not brands & (_HEIF_BRANDS - {b"mif1", b"msf1", b"mif2"})):
        return "AVIF"
    if major == b"crx ":
        return "RAW"
    return "HEIF" if brands & _HEIF_BRANDS else ""
