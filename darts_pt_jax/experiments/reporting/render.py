"""Makes one HTML file from a template. It contains style, script and the chart library, and loads nothing."""

import base64
import functools
import hashlib
import re

import jinja2
import vl_convert

_POLICY = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
"""Only the page's own script runs, text never becomes a script, and nothing is fetched."""


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("darts_pt_jax.experiments.reporting", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip


@functools.cache
def _source(name: str) -> str:
    environment = _environment()
    return environment.loader.get_source(environment, name)[0]


@functools.cache
def _script() -> str:
    """Vega, Vega-Lite and Vega-Embed, and the page's own script."""
    script = f"{vl_convert.javascript_bundle()}\n{_source('page.js')}"
    return re.sub("</(?=script)|<(?=!--)", lambda found: f"\\x3c{found[0][1:]}", script, flags=re.IGNORECASE)


def render(template: str, **values) -> str:
    """The page of a template; all text in `values` is escaped."""
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = _source("page.css")
    return _environment().get_template(template).render(
        policy=_POLICY.format(script=digest), style=style, script=script, **values
    )  # fmt: skip


def picture(svg: bytes) -> str:
    """An SVG as the address of an image."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
