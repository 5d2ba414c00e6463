"""Make an installed environment small and quick to start. Runs while an image is built.

Standard library only: it runs with the image's own Python, before the project is there.
"""

import compileall
import re
import shutil
import struct
import sysconfig
from pathlib import Path

UNUSED = (
    "**/tests",
    # What a compiler would need, and what a debugger of web pages.
    "**/*.c",
    "**/*.cpp",
    "**/*.h",
    "**/*.hpp",
    "**/*.pxd",
    "**/*.pyx",
    "**/*.map",
    "tensorflow/include",
    # Python's view of a compiler's dialect, 29 MB; no signature needs it.
    "tensorflow/compiler/mlir/stablehlo/stablehlo_extension.so",
)
"""Patterns below site-packages of what a model server never opens."""
UNCOMPILED = re.compile(
    r"/(pandas|idlelib|lib2to3|tkinter|turtledemo|ensurepip)/|/python3\.\d+/test/"
)
"""What no server imports by itself: compiling it would be most of the work for nothing."""
WORTH = 64 << 10
"""Bytes at the end of a library from which on they are cut."""


def main() -> None:
    """Slim the environment of the Python that runs this."""
    libraries = Path(sysconfig.get_path("purelib"))
    for pattern in UNUSED:
        for path in sorted(libraries.glob(pattern), reverse=True):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in libraries.rglob("*.so*"):
        if path.is_file() and not path.is_symlink():
            cut(path)
    for folder in (libraries, Path(sysconfig.get_path("stdlib"))):
        compileall.compile_dir(folder, quiet=2, workers=0, rx=UNCOMPILED)


def cut(library: Path) -> int:
    """Cut off what follows the segments of a shared library, and return how many bytes.

    That is symbols and notes for debuggers (a quarter of TensorFlow) and the table of sections. A
    program is loaded by its segments alone; see `elf(5)`.
    """
    end, length = _end_of_segments(library), library.stat().st_size
    if end is None or length - end < WORTH:
        return 0
    # Not before: a file that is opened for writing is copied into this layer of the image.
    with library.open("r+b") as file:
        file.seek(_SECTIONS)
        file.write(bytes(8))  # Where the table of sections is ...
        file.seek(_SECTION_COUNT)
        file.write(bytes(4))  # ... how many there are, and which has their names.
        file.truncate(end)
    return length - end


_SEGMENTS, _SECTIONS, _SEGMENT_SIZE, _SECTION_COUNT = 32, 40, 54, 60
"""Where the header of a 64-bit ELF file holds these."""


def _end_of_segments(library: Path) -> int | None:
    """Return where the last segment ends; None for what is no library, or has sections before."""
    with library.open("rb") as file:
        header = file.read(64)
        if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
            return None
        first, sections = struct.unpack_from("<QQ", header, _SEGMENTS)
        size, count = struct.unpack_from("<HH", header, _SEGMENT_SIZE)
        file.seek(first)
        table = file.read(size * count)
    ends = [first + len(table)]
    for entry in range(0, len(table), size):
        offset, in_file = struct.unpack_from("<Q16xQ", table, entry + 8)
        ends.append(offset + in_file)
    return max(ends) if sections >= max(ends) else None


if __name__ == "__main__":
    main()
