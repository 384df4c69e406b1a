"""Charts as Vega-Lite specifications, each with the table of its numbers; the page brings colours and fonts."""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Sequence

try:
    pathlib.Path.home()
except RuntimeError:  # altair asks for it while it is imported
    os.environ["HOME"] = os.devnull
import altair as alt


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
      caption: what it shows.
      head: the names of its columns.
      rows: cells as text, each row as long as `head`.
      marks: a word for each row, by which the page colours it; or none at all.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    marks: Sequence[str] = ()

    @functools.cached_property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers."""
        columns = [[cell for cell in column if cell] for column in zip(*self.rows, strict=True)]
        return [bool(cells) and all(_NUMBER.fullmatch(cell) for cell in cells) for cells in columns]


_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?(e[+-]?\d+)?( ± [\d.e+-]+)?")


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
      spec: its Vega-Lite specification; empty if there is nothing to draw.
      says: its text for a reader who does not see it.
      table: its numbers.
    """

    spec: dict
    says: str
    table: Table


ROLES = {"kept": "var(--kept)", "dropped": "var(--kept)", "other": "var(--other)", "may not be chosen": "var(--faint)"}
"""The colour of each role of a removal."""

VERDICTS = {"clear": "var(--kept)", "within noise": "var(--doubt)", "error not recorded": "var(--other)"}
"""The colour of each verdict on a choice."""

COLOURS = 8
"""How many colours the page has for series; then they repeat."""

ROW = 24
"""Height of a row in pixels."""

_ROWS = alt.Chart(alt.NamedData("rows"))


def _finished(chart) -> dict:
    """The specification without data and height, as wide as its container."""
    spec = chart.properties(width="container").to_dict()
    return {key: value for key, value in spec.items() if key not in ("config", "$schema", "datasets")}


def _with(spec: dict, rows: Sequence[dict], height: int) -> dict:
    return {**spec, "height": height, "datasets": {"rows": list(rows)}}


def lines(rows: Sequence[dict], x: str, y: str, series: str) -> dict:
    """Lines of `y` over whole numbers `x`, one for each `series`; the three are keys of the rows."""
    names = tuple(dict.fromkeys(row[series] for row in rows))
    places = tuple(sorted({row[x] for row in rows}))
    few = len(places) <= 12  # then each gets a tick
    return _with(_lines(x, y, series, names, places * few), rows, 240)


@functools.cache
def _lines(x: str, y: str, series: str, names: tuple[str, ...], ticks: tuple[int, ...]) -> dict:
    legend = alt.Legend(orient="bottom", columns=2)
    axis = alt.Axis(format="d", grid=False, **({"values": ticks} if ticks else {"tickMinStep": 1}))
    tooltip = [alt.Tooltip(name, type="nominal") for name in (x, series)]
    tooltip.append(alt.Tooltip(y, type="quantitative", format=".4"))
    chart = _ROWS.mark_line(point={"size": 28})
    chart = chart.encode(
        x=alt.X(x, type="quantitative", axis=axis),
        y=alt.Y(y, type="quantitative", scale=alt.Scale(zero=False)),
        color=alt.Color(series, type="nominal", sort=names, title=None, legend=legend),
        tooltip=tooltip,
    )
    return _finished(chart)


def small(rows: Sequence[dict], x: str, y: str, series: str, names: Sequence[str], scale: tuple[float, float]) -> dict:
    """One of several small charts of lines with one `scale` of `y`; a series has its colour by its place in `names`."""
    return _with(_small(x, y, series, tuple(names), scale, len({row[x] for row in rows}) == 1), rows, 72)


@functools.cache
def _small(x: str, y: str, series: str, names: tuple[str, ...], scale: tuple[float, float], points: bool) -> dict:
    colours = [f"var(--s{n % COLOURS + 1})" for n in range(len(names))]
    tooltip = [alt.Tooltip(name, type="nominal") for name in (x, series, y)]
    chart = _ROWS.mark_line(strokeWidth=1.5, point=points).encode(
        x=alt.X(x, type="quantitative", title=None, axis=alt.Axis(format="d", grid=False, tickMinStep=1, tickCount=3)),
        y=alt.Y(
            y,
            type="quantitative",
            title=None,
            scale=alt.Scale(domain=scale, nice=True),
            axis=alt.Axis(tickCount=3, format=".2~"),
        ),
        color=alt.Color(series, type="nominal", scale=alt.Scale(domain=names, range=colours), legend=None),
        tooltip=tooltip,
    )
    return _finished(chart)


@functools.cache
def _intervals(across: str, field: str, value: str, colours: tuple[tuple[str, str], ...], known: bool) -> dict:
    """Points for each value of `field` along the axis `across`, a line at zero, intervals from `low` to `high` if `known`."""
    along = {"x": "y", "y": "x"}[across]
    axis = alt.Axis(labelAngle=0, labelOverlap=True) if across == "x" else alt.Axis(title=None)
    place = {"x": alt.X, "y": alt.Y}[across](field, type="nominal", sort=None, axis=axis)
    values = {"x": alt.X, "y": alt.Y}[along](value, type="quantitative", axis=alt.Axis(tickCount=5))
    domain, colour_range = zip(*colours, strict=True)
    colour = alt.Color("role", type="nominal", scale=alt.Scale(domain=domain, range=colour_range), legend=None)
    base = _ROWS.encode(**{across: place, "color": colour})
    zero = alt.Chart(alt.Data(values=[{}])).mark_rule(stroke="currentColor", strokeDash=[3, 3], opacity=0.5)
    layers = [zero.encode(**{along: alt.datum(0)})]
    if known:
        ends = {along: values.copy(), f"{along}2": "high"}
        ends[along].shorthand, ends[along].title = "low", value
        layers.append(base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2).encode(**ends))
    tooltip = [alt.Tooltip(field, type="nominal"), alt.Tooltip(value, type="quantitative", format=".4"), alt.Tooltip("role", type="nominal")]  # fmt: skip
    layers.append(base.mark_point(filled=True, size=60, opacity=1).encode(**{along: values}, tooltip=tooltip))
    return _finished(alt.layer(*layers))


def drops(rows: Sequence[dict], value: str, tried: str) -> dict:
    """What each of the parts `tried` costs: rows of it, the value, `role`, and `low` and `high` if the error is known."""
    return _with(_intervals("y", tried, value, tuple(ROLES.items()), "low" in rows[0]), rows, ROW * len(rows))


def leads(rows: Sequence[dict], value: str) -> dict:
    """How far each choice is ahead: rows of `decision`, the value, `role`, and `low` and `high` if the error is known."""
    known = any("low" in row for row in rows)
    return _with(_intervals("x", "decision", value, tuple(VERDICTS.items()), known), rows, 220)


def bars(rows: Sequence[dict], y: str, x: str, parts: str) -> dict:
    """Stacked bars: rows of the bar `y`, the length `x` and the name of the part."""
    return _with(_bars(y, x, parts), rows, ROW * len({row[y] for row in rows}))


@functools.cache
def _bars(y: str, x: str, parts: str) -> dict:
    chart = _ROWS.mark_bar()
    chart = chart.encode(
        y=alt.Y(y, type="nominal", sort=None, title=None),
        x=alt.X(x, type="quantitative", axis=alt.Axis(tickCount=5)),
        color=alt.Color(parts, type="nominal", sort=None, title=None, legend=alt.Legend(orient="bottom")),
        order=alt.Order(parts, type="nominal", sort="descending"),
        tooltip=[alt.Tooltip(name, type="nominal") for name in (y, parts, x)],
    )
    return _finished(chart)


def spreads(rows: Sequence[dict], group: str, value: str) -> dict:
    """A point for each row, and a tick at each group's mean."""
    base = _ROWS.encode(y=alt.Y(group, type="nominal", sort=None, title=None))
    x = alt.X(value, type="quantitative", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    tooltip = [alt.Tooltip(name, type="nominal") for name in rows[0]]
    points = base.mark_point(size=50, opacity=0.9, color="var(--kept)").encode(x=x, tooltip=tooltip)
    mean = base.mark_tick(thickness=3, size=18, color="var(--doubt)").encode(
        x=alt.X(value, type="quantitative", aggregate="mean", title=value)
    )
    return _with(_finished(alt.layer(points, mean)), rows, ROW * len({row[group] for row in rows}))
