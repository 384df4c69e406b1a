"""The run directory: the config and data that it belongs to, how far the run is, and its disk space."""

import contextlib
import os
import pathlib
import platform
import shutil
import subprocess
from collections.abc import Collection, Sequence
from importlib import metadata

from darts_pt_jax import hosts, record
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.data.images import Images
from darts_pt_jax.data.streams import Stream
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config.schema import Config, flatten, from_flat
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.config.versions import refuse_newer, stamp
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.naming import CHECKOUT


def stored(directory: pathlib.Path) -> dict | None:
    """The content of run.json, or None if no run has begun.

    Raises:
      ConfigError: the directory holds something else.
      RunError: run.json is damaged.
    """
    file = directory / "run.json"
    if file.exists():
        try:
            run = record.unsealed(file.read_bytes())
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error}): put it back or name a new --workdir") from error
        refuse_newer(run, file)
        return run
    if (directory / "checkpoints").exists():
        raise RunError(f"{file} is missing: put it back or name a new --workdir")
    harmless = {"lock", "lock.held", "run.json.tmp"}
    if directory.is_symlink() and not directory.exists():
        raise ConfigError(
            f"--workdir {directory} is a link to {directory.readlink()}, which does not exist: make it first"
        )
    if directory.exists() and (not directory.is_dir() or {p.name for p in directory.iterdir()} - harmless):
        raise ConfigError(f"--workdir {directory} holds something other than a run: name a new or an empty directory")
    return None


def beginning() -> dict:
    """The position before any work, a JSON value.

    units: number of finished units.
    records: digests of the records.
    within: the loops of the current unit.
    restricted: the decisions that restrict the supernet.
    """
    return {"units": 0, "records": {}, "within": [], "restricted": None}


def position(directory: pathlib.Path) -> dict:
    """The position of the newest undamaged checkpoint, or the beginning.

    Raises:
      RunError: all checkpoints are damaged, or there are records but no checkpoint.
      RecordError: a record has changed since the checkpoint.
    """
    checkpoints = Checkpoints(directory / "checkpoints", read_only=True)
    newest, damaged = checkpoints.newest_sound()
    if newest is not None:
        found = checkpoints.position(newest)
        for name, before in found["records"].items():
            record.check(directory / name, before)
        return found
    if damaged:
        wrong = "; ".join(f"{number}: {what}" for number, what in damaged.items())
        raise RunError(
            f"{checkpoints.directory}: every checkpoint is damaged ({wrong}): put one back or name a new --workdir"
        )
    if any((directory / name).exists() for name in ("metrics.jsonl", "decisions.jsonl")):
        raise RunError(f"{directory} has records but no checkpoint: put its checkpoints back or name a new --workdir")
    return beginning()


def differing(one: dict, two: dict) -> list[str]:
    """The keys whose values differ between two flat configs."""
    return [k for k in one if one[k] != two[k]]


def refuse_changes(settings: Settings, then: dict, free: Collection[str]):
    """Compares the config with an earlier one.

    Args:
      settings: the command.
      then: the earlier config, as stored in run.json.
      free: keys that may differ.

    Raises:
      ConfigError: another key differs.
    """
    now, then = flatten(settings.config), flatten(from_flat(then))
    if _same_source(now["init_from"], then["init_from"]):
        free = {*free, "init_from"}
    if changed := [k for k in differing(now, then) if k not in free]:
        values = ", ".join(f"{k} was {then[k]!r} and is {now[k]!r}" for k in changed)
        or_leave_out = ", leave out --config (the run knows its config)" * settings.config_named
        raise ConfigError(
            f"{settings.workdir} was begun with another config: {values}; set it back{or_leave_out} or name a new --workdir"
        )


def _same_source(now: str, then: str) -> bool:
    """Whether two paths name the same run, or the earlier one was moved (its supernet is never read a second time)."""
    return bool(now and then) and (os.path.realpath(now) == os.path.realpath(then) or not os.path.exists(then))


def _versions(on: Devices) -> dict[str, str]:
    """The versions that results may depend on, and what was asked of XLA, as XLA_FLAGS has it."""
    versions = {"python": platform.python_version()}
    for name in ("darts-pt-jax", "jax", "jaxlib", "flax", "optax", "numpy"):
        with contextlib.suppress(
            metadata.PackageNotFoundError
        ):  # this project is not installed when run from a checkout
            versions[name] = metadata.version(name)
    asked = os.environ.get("XLA_FLAGS") or " ".join(f"--{name}={value}" for name, value in on.options.items())
    return versions | _commit() | ({"XLA_FLAGS": asked} if asked else {})


def _commit() -> dict[str, str]:
    """The commit of the checkout that this is, "-dirty" if files differ from it; nothing if it is none."""
    if CHECKOUT is None or not (CHECKOUT / ".git").exists():
        return {}
    command = "git --no-optional-locks describe --always --dirty --abbrev=12 --exclude=*".split()
    try:
        said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": said.strip()}


def require_room(directory: pathlib.Path, size: int, count: int, folders: Sequence[str] = ("checkpoints", "snapshots")):
    """Checks, before any work, that the checkpoints fit on the disk.

    Args:
      directory: the run directory.
      size: bytes of a checkpoint, and of its largest file.
      count: number of checkpoints at the same time, including those that exist.
      folders: the folders of `directory` that hold them.

    Raises:
      WriteError: the directory or a file of that size cannot be written.
      RunError: the disk has too little room.
    """
    if not hosts.first():
        return
    probe = directory / "room.tmp"
    with record.writing(probe, size):
        try:
            with probe.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, max(size, 1))
        finally:
            probe.unlink(missing_ok=True)
    there = sum(file.stat().st_size for folder in folders for file in (directory / folder).rglob("*"))
    needed, free = size * count - there, shutil.disk_usage(directory).free
    if needed > free:
        raise RunError(
            f"{directory}: {free:,} bytes are free, but {count} checkpoints of {size:,} bytes need {needed:,} more: make "
            "room, or lower checkpoint.keep"
        )


def checkpoints_kept(config: Config) -> int:
    """The largest number of checkpoints at the same time, including the one being written."""
    epochs, looks = config.search.epochs, config.curvature.every
    early = range(looks, epochs, looks) if config.curvature.stop else ()
    return config.checkpoint.keep + 1 + (0 if config.genotype else len({*config.checkpoint.snapshots, *early, epochs}))


def bind(
    settings: Settings, before: dict | None, source_sha256: str | None, images: Images | Stream, on: Devices
) -> str | None:
    """Ties the directory to the config and the images, and notes devices and versions.

    Args:
      settings: the command.
      before: the content of run.json; None if the run is new.
      source_sha256: fingerprint of the images of `init_from`; None if it is unknown or not needed.
      images: the images.
      on: the devices.

    Returns:
      A warning if the run continues on other devices than before, else None.

    Raises:
      ConfigError: the run or its source used other images.
    """
    fingerprint = images.fingerprint()
    if source_sha256 not in (None, fingerprint):
        raise ConfigError(f"data: the images are not those of init_from {settings.config.init_from} (SHA-256 differs)")
    if before and before["data_sha256"] != fingerprint:
        raise ConfigError(f"data: the images are not those that {settings.workdir} was begun with (SHA-256 differs)")
    devices, versions = ((before or {}).get(name, []) for name in ("devices", "versions"))
    now, with_ = str(on), _versions(on)
    content = {
        **stamp(), "config": flatten(settings.config), "devices": devices + [now] * (devices[-1:] != [now]),
        "versions": versions + [with_] * (versions[-1:] != [with_]), "data_sha256": fingerprint,
        "image_shape": list(images.image_shape), "classes": images.classes, "class_names": list(images.class_names),
        "images": list(images.sizes),
    }  # fmt: skip
    record.write_text(settings.workdir / "run.json", record.sealed(content))
    if devices and devices[-1] != now:
        return f"warning: the run was begun on {devices[-1]} and continues on {now}: its numbers may differ in the last bits"
    return None
