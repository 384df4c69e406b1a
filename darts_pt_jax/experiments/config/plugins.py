"""Plugins: a user's modules and files that add rows to the tables, such as operations, spaces and methods.

`--config.plugins=my_ops,my_space.py` names them; a config file that adds rows itself is one of its run's plugins. They
are kept in run.json and network.json, files by their absolute paths, and imported again by every command that reads
these. A file is imported once per process, unless it has changed.
"""

import argparse
import contextlib
import hashlib
import importlib
import importlib.util
import os
import pathlib
import sys
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence

from darts_pt_jax.data.images import DataError
from darts_pt_jax.experiments.config.key import table_named
from darts_pt_jax.experiments.config.schema import KEYS
from darts_pt_jax.experiments.errors import ConfigError

TABLES = ("darts_pt_jax.ops:OPERATIONS", *dict.fromkeys(table for key in KEYS.values() for table in key.rule.tables))
"""Every table that a plugin may add rows to."""

_modules: dict[str, tuple[str, types.ModuleType]] = {}
"""Imported files: SHA-256 of the content and module, by real path."""

_adding: set[str] = set()
"""Real paths of imported files that have added rows."""

_instead: list[str] = []
"""The plugins that a command names by --config.plugins; they replace those that runs and networks name."""


def load(plugins: str) -> str:
    """Imports plugins, or those that the command names in their place.

    Args:
      plugins: modules and files, comma-separated; files end in .py.

    Returns:
      The same with absolute paths, as runs keep it.

    Raises:
      ConfigError: one is missing or fails.
    """
    names = (_instead[0] if _instead else plugins).split(",")
    return joined(*(_load(name.strip()) for name in names if name.strip()))


def joined(*plugins: str) -> str:
    """One value of the key `plugins` of several, each plugin once."""
    return ",".join(dict.fromkeys(name for names in plugins for name in names.split(",") if name))


def add_option(parser: argparse.ArgumentParser):
    """Adds --config.plugins to a command that reads runs or networks; `use` takes its value."""
    parser.add_argument(
        "--config.plugins", dest="plugins", metavar="MODULE|FILE,...",
        default=None, help="import these first, in place of the plugins that the run names",
    )  # fmt: skip


def named_by(argv: Sequence[str]) -> str | None:
    """The value of that option on a command line, before the rest of it is read; None: it is not given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_option(parser)
    return parser.parse_known_args(argv)[0].plugins


def use(plugins: str | None):
    """Makes `load` import these plugins, whatever its argument; None: its argument again."""
    _instead[:] = [] if plugins is None else [plugins]


def import_config(path: str) -> types.ModuleType:
    """The module of a config file.

    Raises:
      ConfigError: the file fails.
    """
    path = os.path.realpath(path)
    with failing("the config file fails", path):
        return _import_file(path, _private_name(path))


def of_config(path: str) -> str:
    """The config file as a plugin, if importing it has added rows to tables; else ""."""
    path = os.path.realpath(path)
    return path if path in _adding and "," not in path else ""


def _load(name: str) -> str:
    """Imports one plugin; returns its name for run.json."""
    if name.endswith(".py") or os.sep in name:
        path = os.path.abspath(name)
        if not os.path.isfile(path):
            raise ConfigError(
                f"plugins: there is no file {path}: put it back, or name where it is now by --config.plugins=FILE"
            )
        with failing(f"plugins: {name} fails", path):
            _import_plugin(os.path.realpath(path))
        return path
    try:
        found = importlib.util.find_spec(name) is not None
    except Exception:  # of a name that is none, or of a package that fails
        found = False
    if not found:
        raise ConfigError(
            f"plugins: there is no module {name!r} here: install it, give the command where it can be imported, or name "
            "its file by --config.plugins=FILE.py"
        )
    with failing(f"plugins: {name} fails"):
        module = importlib.import_module(name)
    file = module.__file__ or ""
    beside = os.path.dirname(os.path.abspath(file)) == os.getcwd()
    return os.path.abspath(file) if beside and file.endswith(f"{name}.py") else name


def _import_file(path: str, name: str) -> types.ModuleType:
    """Imports a file as a module of that name, unless this process has done so; its folder is searched for imports."""
    content = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    if path in _modules and _modules[path][0] == content:
        return _modules[path][1]
    if os.path.dirname(path) not in sys.path:
        sys.path.append(os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(name, path)
    module, before = importlib.util.module_from_spec(spec), _rows()
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    if _rows() != before:
        _adding.add(path)
    _modules[path] = content, module
    return module


def _import_plugin(path: str):
    """Imports a file by its own name, so that other plugins can import it too, unless that means another module."""
    name = pathlib.Path(path).stem
    there = sys.modules.get(name)
    if there and os.path.realpath(getattr(there, "__file__", None) or "") == path and path not in _modules:
        return  # another plugin has imported it
    taken = not name.isidentifier() or (path not in _modules and (there or importlib.util.find_spec(name)))
    _import_file(path, _private_name(path) if taken else name)


def _private_name(path: str) -> str:
    return f"plugin_{hashlib.sha256(path.encode()).hexdigest()[:12]}"


def _rows() -> dict[str, dict]:
    """The rows of every table now, by identity, not equality."""
    tables = {name: table_named(name) for name in TABLES}
    return {
        name: {key: id(row) for key, row in table.items()} if isinstance(table, Mapping) else dict.fromkeys(table)
        for name, table in tables.items()
    }


@contextlib.contextmanager
def failing(what: str, path: str | None = None) -> Iterator[None]:
    """Turns any exception of a user's code into one line with its place, preferably in the file `path`.

    Raises:
      ConfigError: in place of it.
    """
    try:
        yield
    except ConfigError:
        raise
    except DataError as error:  # it says what is wrong with which file
        raise ConfigError(str(error)) from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if path and os.path.realpath(frame.filename) == os.path.realpath(path)]
        place = (own or frames)[-1]
        file, line = place.filename, place.lineno
        if isinstance(error, SyntaxError) and error.filename:
            file, line = error.filename, error.lineno
        said = " ".join(traceback.format_exception_only(error)[-1].split())
        raise ConfigError(f"{what}: {file}, line {line}: {said}") from error
