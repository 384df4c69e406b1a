"""Tables in Markdown."""


def table_head(*columns: str) -> list[str]:
    """The two lines of a table's head."""
    return ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]


def table_row(*cells) -> str:
    """A row; bars within cells are escaped."""
    return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"
