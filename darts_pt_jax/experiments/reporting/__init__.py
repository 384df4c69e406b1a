"""What a run has recorded, read without the engine: the report page, the Markdown, comparisons and tables."""
