"""Values that outlive a command, for measurements that take long."""

import json
import pathlib
from collections.abc import Callable

from darts_pt_jax import record
from darts_pt_jax.experiments.errors import ConfigError


class Measured:
    """Values by key, kept in measured.jsonl: the same command, given again after an interruption, finds them there."""

    def __init__(self, folder: pathlib.Path, asked: dict):
        """Opens the file, whose first line holds what the command `asked`.

        Raises:
          ConfigError: its values are of another command.
        """
        self._lines = record.JsonLines(folder / "measured.jsonl")
        self._lines.mend()
        lines, self._asked = self._lines.read(), None
        asked = json.loads(json.dumps(asked))
        if not lines:
            self._asked = asked
        elif lines[0] != {"asked": asked}:
            raise ConfigError(
                f"{folder} holds an analysis with {lines[0].get('asked')}, and not {asked}: name another --out"
            )
        self._values = {json.dumps(line["key"]): line["value"] for line in lines[1:]}

    def __call__(self, key, measure: Callable[[], object]):
        """The value of `key`, a JSON value: from the file, or else from `measure`."""
        name = json.dumps(key)
        if name not in self._values:
            self._values[name] = measure()
            if self._asked:
                self._lines.append(asked=self._asked)
                self._asked = None
            self._lines.append(key=key, value=self._values[name])
        return self._values[name]
