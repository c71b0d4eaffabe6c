"""Files from the field that tests read.

What belongs here: finding them. Most lie in `tests/data`, named with their licence in its
`LICENCES.md`; those that may not be handed on are read from a folder beside the project.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).parent / "data"
BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "data"


def real_file(format_name: str, name: str) -> bytes:
    """Bytes of a file from the field.

    Raises:
        FileNotFoundError: It lies in neither place: a test that reads it fails.
    """
    for folder in (DATA, BESIDE_THE_PROJECT):
        path = folder / format_name / name
        if path.exists():
            return path.read_bytes()
        if (packed := path.with_name(f"{name}.gz")).exists():
            return gzip.decompress(packed.read_bytes())
    raise FileNotFoundError(
        f"{format_name}/{name}: found neither below {DATA} nor below {BESIDE_THE_PROJECT};"
        " what may be handed on is in the repository, the rest has to be put beside it"
    )


def real_files() -> Iterator[tuple[str, bytes]]:
    """Path below its folder and bytes of every file from the field, wherever it lies."""
    for folder in (DATA, BESIDE_THE_PROJECT):
        # What lies in no folder of its own tells of the others.
        for path in sorted(folder.glob("*/**/*")):
            if path.is_file():
                content = path.read_bytes()
                is_packed = path.suffix == ".gz"
                yield (
                    str(path.relative_to(folder)),
                    gzip.decompress(content) if is_packed else content,
                )
