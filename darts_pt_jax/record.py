"""The records of a run: files of JSON lines, and files that are replaced in one step. Only the first host writes."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator

from darts_pt_jax import hosts


class RecordError(RuntimeError):
    """A record is not as it was written; the message is one line."""


class WriteError(OSError):
    """A file could not be written; the message is one line."""

    def __init__(self, path: pathlib.Path, error: Exception, size: int | None = None):
        """Names the file, its size in bytes, and what the operating system answered."""
        code = getattr(error, "errno", None) or (re.findall(r"os_error_code='(\d+)'", str(error)) or [None])[0]
        reason = os.strerror(int(code)) if code else f"{type(error).__name__}: {error!s:.300}"
        super().__init__(f"{path}: cannot write{'' if size is None else f' {size:,} bytes'}: {reason}")
        self.errno = int(code) if code else None


def digest(path: pathlib.Path, size: int | None = None) -> list:
    """Length in bytes and SHA-256 of a file, or of its first `size` bytes, as a JSON list."""
    with path.open("rb") as file:
        if size is None:
            return [os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()]
        start = file.read(size)
        return [len(start), hashlib.sha256(start).hexdigest()]


def check(path: pathlib.Path, before: list):
    """Checks that a file, which may have grown, still begins with what its earlier `digest` describes.

    Raises:
      RecordError: it does not.
    """
    size = before[0]
    if size and (not path.exists() or digest(path, size) != before):
        there = f"has {path.stat().st_size} bytes, but" if path.exists() else "is missing:"
        raise RecordError(
            f"{path} {there} its first {size} are not those that the checkpoint was written after: put the file back or "
            "name a new --workdir"
        )


def sealed(content: dict) -> str:
    """JSON text with a checksum of its content."""
    seal = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, "sha256": seal}, indent=1) + "\n"


def unsealed(text: bytes) -> dict:
    """The content of a `sealed` text.

    Raises:
      ValueError: it is no such text, or it was changed.
    """
    try:
        content = dict(json.loads(text))
        content.pop("sha256")
        same = sealed(content).encode() == text
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not same:
        raise ValueError("it is not as it was written: its SHA-256 is another")
    return content


@contextlib.contextmanager
def writing(path: pathlib.Path, size: int | None = None) -> Iterator[None]:
    """Raises errors of the operating system as a `WriteError` about `path`, of `size` bytes."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(path, error, size) from error


class JsonLines:
    """A file that grows by JSON lines."""

    def __init__(self, path: pathlib.Path):
        """Names the file; the first line creates it."""
        self.path = path

    def append(self, **entry):
        """Adds a line and flushes it to the disk.

        Raises:
          WriteError: the disk is full, or similar.
        """
        if not hosts.first():
            return
        line = (json.dumps(entry) + "\n").encode()
        with writing(self.path, len(line)), self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def digest(self) -> list:
        """`digest` of the file; `EMPTY` if it does not exist yet."""
        return digest(self.path) if self.path.exists() else EMPTY

    def truncate(self, size: int):
        """Drops everything after the first `size` bytes."""
        if hosts.first() and self.size() > size:
            os.truncate(self.path, size)

    def mend(self):
        """Drops the last line if it is incomplete."""
        if self.path.exists():
            self.truncate(self.path.read_bytes().rfind(b"\n") + 1)

    def read(self) -> list[dict]:
        """All complete lines.

        Raises:
          RecordError: a line is not JSON.
        """
        content = self.path.read_bytes() if self.path.exists() else b""
        lines = []
        for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
            try:
                lines.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise RecordError(f"{self.path}, line {number}, is damaged: {error}") from error
        return lines


EMPTY = [0, hashlib.sha256().hexdigest()]
"""Digest of a file without content."""


def write_text(path: pathlib.Path, text: str):
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes):
    """Replaces a file in one step: a reader sees the old content or the new.

    Raises:
      WriteError: the disk is full, or similar; the old content stays.
    """
    if not hosts.first():
        return
    temporary = path.with_name(path.name + ".tmp")
    try:
        with writing(path, len(content)):
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except WriteError:
        temporary.unlink(missing_ok=True)
        raise
