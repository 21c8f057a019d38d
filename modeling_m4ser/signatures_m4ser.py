"""What lies in a recording's place without being one, told by how it begins."""

import codecs
import re

_UNPACK = "unpack it, and name a recording in it"
_ARRAYS = 'load it, and pass {"array": samples, "sampling_rate": hertz}'
_TABLE = "open it with `datasets` or pandas, whose rows hold or name the recordings"
_FETCH = "download the recording itself; the address may need a login, or be one of a page that shows it"
_NAME = "name the recording itself"
#: How it begins, what it is, the way out; the first that fits counts.
_SIGNATURES = tuple(
    (re.compile(begin, re.DOTALL), what, way_out)
    for begin, what, way_out in (
        (rb"version https://git-lfs", "a pointer of Git LFS", "fetch the recording with `git lfs pull`"),
        (rb"\S*annex/objects/", "a pointer of git-annex", "fetch the recording with `git annex get` or `datalad get`"),
        (rb"(?:outs:|md5: |- md5: )", "a pointer of DVC", "fetch the recording with `dvc pull`"),
        (rb"(?i:\s*<(?:!doctype|html|\?xml|!--|head|body))", "a web page or XML", _FETCH),
        (rb"(?:\xff\xfe.\0|\xfe\xff\0)", "text", _NAME),
        (rb"PK\x03\x04.{26}[^/\0]{1,99}\.npy", "a file of NumPy", _ARRAYS),
        (
            rb"PK\x03\x04.{26}[^/\0]{1,99}/(?:data\.pkl|\.format_version|byteorder|version)",
            "a file of PyTorch",
            _ARRAYS,
        ),
        (rb"PK(?:\x03\x04|\x05\x06)", "a ZIP archive", _UNPACK),
        (rb"\x1f\x8b", "a gzip archive", _UNPACK),
        (rb"BZh\d1AY&SY", "a bzip2 archive", _UNPACK),
        (rb"\xfd7zXZ\0", "an xz archive", _UNPACK),
        (rb"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
        (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (rb"\x93NUMPY", "a file of NumPy", _ARRAYS),
        (rb"\x80[\x02-\x05]", "a file of Python's pickle or PyTorch", _ARRAYS),
        (rb"\x89HDF\r\n", "an HDF5 file", _ARRAYS),
        (rb"PAR1", "a Parquet table", _TABLE),
        (rb"(?:ARROW1|\xff{4}...\0)", "an Arrow table", _TABLE),
        (rb"SQLite format 3\0", "an SQLite database", _TABLE),
        (rb"%PDF", "a PDF document", _NAME),
        (rb"(?:\x89PNG|\xff\xd8\xff|GIF8|II\*\0|MM\0\*|BM.{4}\0{4}|RIFF.{4}WEBP)", "an image", _NAME),
        (rb"....ftyp(?:heic|heix|mif1|avif)", "an image", _NAME),
        (rb"MThd", "a MIDI file, which holds notes", "render it to WAV, or " + _NAME),
        (
            rb"\0\x05\x16\x07",
            "a companion file (._…) of macOS",
            "name the recording beside it; this one can be deleted",
        ),
    )
)


def what_else(start: bytes) -> str | None:
    """Say what a file that begins so is instead of audio, and the way out; None where it may well be audio."""
    start = start.removeprefix(codecs.BOM_UTF8)
    for begin, what, way_out in _SIGNATURES:
        if begin.match(start):
            return f"{what}, not audio: {way_out}"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)  # its last character may be cut
    except UnicodeDecodeError:
        return None
    if all(character.isprintable() or character.isspace() for character in text):
        return f"text, not audio; it begins with {text.strip()[:40]!r}: {_FETCH}"
    return None
