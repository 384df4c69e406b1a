"""What MkDocs makes while it builds the site.

README.md becomes the home page. The help of the commands, the public names and the executed tutorial become pages. A file
of the repository that a page links to becomes a page that shows it, and a linked folder of records a list of its files.
"""

import contextlib
import functools
import importlib
import io
import os
import pathlib
import posixpath
import re
from collections.abc import Iterator
from unittest import mock

import nbformat
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

import darts_pt_jax

ROOT = pathlib.Path(__file__).parents[1]
TUTORIAL = "notebooks/tutorial.ipynb"
PLACES = {"README.md": "index.md", TUTORIAL: "tutorial.md"}
"""Pages of the site that are made from files outside docs, by the file's path in the repository."""

LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
HIDDEN = "---\nsearch:\n  exclude: true\n---\n"
LANGUAGES = {".py": "python", ".yml": "yaml", ".toml": "toml"}

BESIDE = {
    "Drawings": ("draw.cell", "draw.accuracy"),
    "Architectures from names, files and texts": ("interop.published.find",),
    "Accuracies of NAS-Bench-201": ("nasbench201.Table",),
}
"""Names that the guides use beside those of `import darts_pt_jax`."""


def on_files(files: Files, config) -> Files:
    """Adds the pages that are made."""
    made = {
        "index.md": (ROOT / "README.md").read_text(),
        "reference/commands.md": commands(),
        "reference/api.md": api(),
        **tutorial((ROOT / TUTORIAL).read_text()),
    }
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    for place, content in linked(files):
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Leads links to the page's own files, wherever they are in the repository, to their places in the site."""
    here = posixpath.dirname(page.file.src_uri)

    def led(match: re.Match) -> str:
        place = place_of(target(page.file.src_uri, match[1]))
        return posixpath.relpath(place, here or ".") + (match[2] or "") if place else match[0]

    return LINK.sub(led, markdown)


def target(page: str, link: str) -> str:
    """The path in the repository that a link of a page leads to."""
    source = next((file for file, place in PLACES.items() if place == page), f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def place_of(path: str) -> str | None:
    """Where the site has a file or folder of the repository; None if there is no such file."""
    if path in PLACES:
        return PLACES[path]
    if path.startswith("..") or not (ROOT / path).exists():
        return None
    inside = path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{inside}/files.md"
    return inside if inside != path else f"source/{path}.md"


def linked(files: Files) -> Iterator[tuple[str, str]]:
    """The pages of linked files and folders: place and Markdown."""
    paths = {
        target(page.src_uri, link[1])
        for page in files.documentation_pages()
        for link in LINK.finditer(page.content_string)
    }
    for path in sorted(paths):
        place = place_of(path)
        if place and place.endswith("/files.md"):
            yield place, folder_page(path)
        elif place and place.startswith("source/"):
            yield place, file_page(path)


def file_page(path: str) -> str:
    """A page that shows a file of the repository."""
    if path.endswith(".ipynb"):
        text, _ = MarkdownExporter().from_notebook_node(nbformat.read(ROOT / path, as_version=4))
    else:
        language = LANGUAGES.get(pathlib.Path(path).suffix, "text")
        text = f"````{language}\n{(ROOT / path).read_text()}\n````\n"
    return f"{HIDDEN}# {path}\n\n{text}"


def folder_page(path: str) -> str:
    """A page that lists the files in a folder of docs."""
    names = sorted(file.relative_to(ROOT / path).as_posix() for file in (ROOT / path).rglob("*") if file.is_file())
    return f"{HIDDEN}# Files in {path}\n\n" + "".join(f"- [{name}]({name})\n" for name in names)


@functools.cache
def commands() -> str:
    """The page of all commands, from their help."""
    found = {file.stem for file in (ROOT / "experiments").glob("*.py") if '"__main__"' in file.read_text()}
    parts = ["# Commands", "This page is made from the help of the commands. Each has `--help` and `--version`."]
    for name in ("main", *sorted(found - {"main"}), "analysis"):
        said = help_of(name)
        parts += [f"## experiments.{name}", block(said.partition("\nKeys, with the defaults")[0])]
        if name == "main":
            parts.append("The help goes on with all [keys](keys.md).")
        for inner in subcommands(said):
            parts += [f"### experiments.{name} {inner}", block(help_of(name, inner))]
    return "\n\n".join(parts) + "\n"


def subcommands(said: str) -> list[str]:
    """The names that a command takes as its first argument, as its help lists them."""
    if listed := re.search(r"^  \{([\w,]+)\}$", said, re.MULTILINE):
        return listed[1].split(",")
    return re.findall(r"^    (\w+)\s", said.partition("\n  NAME\n")[2].partition("\noptions:")[0], re.MULTILINE)


def help_of(name: str, *arguments: str) -> str:
    """What a command prints on --help."""
    command = importlib.import_module(f"darts_pt_jax.experiments.{'analysis.__main__' if name == 'analysis' else name}")
    program = ["program"] * (name in ("main", "prepare"))
    with (
        mock.patch.dict(os.environ, COLUMNS="100"),
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.suppress(SystemExit),
    ):
        command.main([*program, *arguments, "--help"])
    return said.getvalue().strip()


def block(text: str) -> str:
    """A block of text as it is."""
    return f"```text\n{text}\n```"


@functools.cache
def api() -> str:
    """The page of the public names, each described by its docstring."""
    parts = ["# Python API", "`import darts_pt_jax as dpt` has these names. Each is loaded when it is first asked for."]
    parts += [f"::: darts_pt_jax.{module}.{name}" for module, names in darts_pt_jax._MODULES.items() for name in names]
    for title, names in BESIDE.items():
        parts += [f"## {title}", *(f"::: darts_pt_jax.{name}" for name in names)]
    return "\n\n".join(parts) + "\n"


@functools.cache
def tutorial(text: str) -> dict[str, str | bytes]:
    """The page of the tutorial, executed, and its pictures."""
    notebook = nbformat.reads(text, as_version=4)
    quiet = {"extra_arguments": ["--log-level=40"], "coalesce_streams": True}
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}, **quiet).execute()
    page, resources = MarkdownExporter().from_notebook_node(notebook)
    return {"tutorial.md": page, **resources["outputs"]}
