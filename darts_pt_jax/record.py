"""The records of a run: files of JSON lines, and whole files that change in one step."""

import json
import os
import pathlib


class JsonLines:
    """A file that grows by JSON lines."""

    def __init__(self, path: pathlib.Path):
        """Names the file; it is created by the first line."""
        self.path = path

    def append(self, **entry):
        """Adds a line and sees it to the disk."""
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, size: int):
        """Drops everything after the first `size` bytes.

        Raises:
          ValueError: the file is shorter than that.
        """
        if self.size() < size:
            raise ValueError(
                f"{self.path} has {self.size()} bytes, the checkpoint was written after {size}: lines are lost"
            )
        if self.size() > size:
            os.truncate(self.path, size)

    def mend(self):
        """Drops the last line if its writing was broken off."""
        if self.path.exists():
            self.truncate(self.path.read_bytes().rfind(b"\n") + 1)

    def read(self) -> list[dict]:
        """All whole lines."""
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def write_text(path: pathlib.Path, text: str):
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes):
    """Writes a whole file in one step: a reader sees the old content or the new."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
