"""Tables in Markdown."""


def table_head(*columns: str) -> list[str]:
    """The head of a Markdown table."""
    return ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]


def table_row(*cells) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"
