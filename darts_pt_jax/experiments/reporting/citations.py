"""What to cite for a run: entries of references.bib, by the settings that it used."""

import pathlib
import re
from collections.abc import Iterator

from darts_pt_jax import __version__
from darts_pt_jax.experiments.config import schema
from darts_pt_jax.experiments.config.schema import Config

BIBTEX = pathlib.Path(__file__).with_name("references.bib")

ALWAYS = "darts_pt_jax", "wang2021rethinking", "liu2019darts"
"""The software, the paper whose system it is, and the supernet's and the networks' origin."""

DATA = {"data.source": {"digits": "alpaydin1998digits", "npz": "", "folder": ""}}
SPACE = {
    "space": {
        "darts": "", "darts_none": "", **dict.fromkeys(("s1", "s2", "s3", "s4"), "zela2020understanding"),
        "nasbench201": "dong2020nasbench201",
    },
}  # fmt: skip
SEARCH = {
    "search.sampler": {
        "darts": "", "fixed": "", **dict.fromkeys(("sdarts_rs", "sdarts_rs_gaussian", "sdarts_adv"), "chen2020stabilizing"),
        "drnas": "chen2021drnas", "snas": "xie2019snas", "gdas": "dong2019gdas", "pc_darts": "xu2020pcdarts",
        "fairdarts": "chu2020fairdarts",
    },
    "search.alpha_regulariser": {"none": "", "beta_decay": "ye2022betadarts", "zero_one": "chu2020fairdarts"},
}  # fmt: skip
SELECTION = {
    "select.method": {
        **dict.fromkeys(("perturbation", "magnitude", "magnitude_tuned", "random"), ""), "shapley": "xiao2022shapley",
        "fisher": "he2024isdarts", **dict.fromkeys(("sgas", "sgas_perturbation"), "li2020sgas"),
    },
}  # fmt: skip
"""Names of entries by the values of keys whose choice is somebody's work; "": nothing beyond `ALWAYS`."""


def of_run(config: Config) -> str:
    """BibTeX of what a run with this config uses. A line that begins with % names what is not known here: a plugin or data."""
    entries = _entries()
    return "\n\n".join(entries.get(name, f"% {name}") for name in dict.fromkeys(_names(config))) + "\n"


def _names(config: Config) -> Iterator[str]:
    """The names of the entries, in order; for a value without one, what to say of it."""
    yield from ALWAYS
    searched = not config.genotype
    used = SPACE | (SEARCH | SELECTION if searched else {}) | DATA
    for key, entries in used.items():
        chosen = schema.value(config, key)
        name = entries.get(chosen, f"{key}={chosen}: cite its authors")
        if name:
            yield name
    if searched and config.select.race:
        yield "waudbysmith2020confidence"
    if searched and config.curvature.stop:
        yield "zela2020understanding"


def _entries() -> dict[str, str]:
    """The entries of references.bib by their names."""
    text = BIBTEX.read_text(encoding="utf-8").replace("VERSION", __version__)
    return {match[1]: match[0] for match in re.finditer(r"^@\w+\{(\w+),.*?^\}", text, re.MULTILINE | re.DOTALL)}
