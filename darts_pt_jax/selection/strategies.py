"""Which removals are scored to decide on an edge's operation."""

STRATEGIES = dict.fromkeys(("leave_one_out",))
