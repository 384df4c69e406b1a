"""Published architectures of the DARTS cell by name, from DARTS, SDARTS, SGAS, and the authors of DARTS-PT.

A line of the table gives two entries OPERATION.SOURCE for each node of the normal cell, then of the reduction cell. The
names of DARTS-PT are those of its code: "blank" means fixed alphas, s1 to s5 are the spaces (s5 is the DARTS space), then
comes the data set unless it is CIFAR-10.
"""

import functools

_SHORT = {
    "K": "skip_connect",
    "S3": "sep_conv_3x3",
    "S5": "sep_conv_5x5",
    "D3": "dil_conv_3x3",
    "D5": "dil_conv_5x5",
    "M": "max_pool_3x3",
    "A": "avg_pool_3x3",
}

_TABLE = """
DARTS_V1 | S3.1 S3.0 K.0 S3.1 K.0 S3.1 S3.0 K.2 | M.0 M.1 K.2 M.0 M.0 K.2 K.2 A.0
DARTS_V2 | S3.0 S3.1 S3.0 S3.1 S3.1 K.0 K.0 D3.2 | M.0 M.1 K.2 M.1 M.0 K.2 K.2 M.1
SDARTS_RS | S3.1 S3.0 S5.1 K.0 S3.3 K.1 S3.1 D3.2 | M.0 S3.1 K.2 M.0 D5.3 M.0 S3.2 S5.3
SGAS_Cri1_best | S3.0 D3.1 S3.0 S3.1 S5.1 S5.3 K.0 D5.2 | M.0 D5.1 S3.0 K.2 S3.1 K.2 M.0 M.1
darts_pt_s1_1 | K.0 K.1 K.0 K.1 K.0 K.1 D3.3 D5.4 | M.0 D3.1 M.0 M.1 S3.1 K.3 K.2 D5.3
darts_pt_s1_2 | D3.0 K.1 K.0 K.2 K.0 K.3 D3.3 D5.4 | M.0 M.1 M.0 M.1 S3.1 K.2 K.2 D5.4
darts_pt_s2_1 | K.0 K.1 S3.0 K.2 S3.1 K.3 S3.1 S3.4 | S3.0 S3.1 S3.0 K.2 S3.0 K.2 S3.1 K.4
darts_pt_s2_2 | K.0 S3.1 K.1 K.2 S3.0 K.3 K.3 S3.4 | S3.0 S3.1 S3.0 K.2 S3.1 S3.3 S3.1 K.3
darts_pt_s3_1 | S3.0 S3.1 S3.0 K.1 K.0 K.2 S3.0 S3.1 | S3.0 K.1 S3.0 K.2 S3.0 K.3 K.3 S3.4
darts_pt_s3_2 | S3.0 S3.1 K.0 S3.1 K.0 S3.3 S3.1 K.4 | S3.0 S3.1 S3.0 K.1 S3.0 S3.1 S3.2 K.3
darts_pt_s4_1 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.1 S3.2 | S3.0 S3.1 S3.0 S3.2 S3.0 S3.3 S3.0 S3.1
darts_pt_s4_2 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.3 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.2
blank_pt_s1_1 | K.0 D5.1 S3.1 K.2 M.0 K.3 S3.0 M.1 | A.0 M.1 M.0 M.1 K.2 D5.3 D5.2 K.3
blank_pt_s1_2 | K.0 K.1 S3.1 K.2 M.0 S3.1 K.2 D5.3 | A.0 D3.1 M.1 D5.2 A.0 K.3 K.2 D5.3
blank_pt_s2_1 | S3.0 S3.1 K.0 K.2 S3.1 S3.2 S3.0 K.3 | S3.0 S3.1 S3.1 K.2 S3.0 K.3 S3.2 K.4
blank_pt_s2_2 | S3.0 S3.1 S3.0 S3.2 S3.0 S3.1 S3.0 K.4 | S3.0 S3.1 S3.0 S3.2 S3.0 K.1 S3.1 S3.2
blank_pt_s3_1 | S3.0 K.1 K.0 S3.1 S3.0 K.2 K.3 K.4 | S3.0 S3.1 S3.0 S3.2 S3.0 S3.1 S3.1 S3.3
blank_pt_s3_2 | S3.0 S3.1 S3.0 K.1 S3.0 S3.1 K.0 S3.2 | S3.0 S3.1 S3.0 S3.1 S3.0 K.3 K.2 K.3
blank_pt_s4_1 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.2 S3.0 S3.3 S3.0 S3.1
blank_pt_s4_2 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1
darts_pt_s1_c100_1 | K.0 K.1 D5.0 K.2 S3.2 K.3 S3.0 K.2 | M.0 M.1 M.1 D5.2 S3.1 K.2 K.2 D5.3
darts_pt_s1_c100_2 | D3.0 K.1 K.0 K.2 K.0 D3.3 K.2 D5.3 | A.0 M.1 M.0 D5.2 A.0 S3.1 M.1 K.4
darts_pt_s2_c100_1 | K.0 S3.1 S3.0 K.2 S3.1 K.3 K.3 S3.4 | S3.0 S3.1 K.0 K.2 K.0 K.3 S3.2 K.4
darts_pt_s2_c100_2 | K.0 S3.1 S3.0 K.2 K.2 S3.3 K.3 S3.4 | S3.0 S3.1 K.1 K.2 S3.1 K.3 S3.0 K.3
darts_pt_s3_c100_1 | S3.0 S3.1 S3.0 S3.1 K.0 K.1 S3.0 S3.1 | S3.0 K.1 S3.0 K.2 K.2 S3.3 S3.1 K.3
darts_pt_s3_c100_2 | S3.0 K.1 S3.0 K.1 S3.0 S3.3 S3.1 K.4 | S3.0 K.1 S3.0 K.2 K.1 K.3 S3.2 K.4
darts_pt_s4_c100_1 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1
darts_pt_s4_c100_2 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.2 S3.0 S3.4
blank_pt_s1_c100_1 | K.0 D5.1 S3.1 K.2 M.0 K.3 S3.0 M.1 | M.0 D3.1 M.1 K.2 S3.1 D5.3 K.3 K.4
blank_pt_s1_c100_2 | K.0 D5.1 K.0 S3.1 M.0 K.3 S3.0 M.1 | M.0 D3.1 A.1 K.2 M.1 D5.3 D5.2 K.3
blank_pt_s2_c100_1 | K.0 S3.1 S3.0 K.2 S3.0 S3.1 K.3 K.4 | S3.0 S3.1 S3.0 S3.1 S3.1 K.2 K.3 K.4
blank_pt_s2_c100_2 | K.0 S3.1 S3.0 K.2 K.0 S3.1 K.3 K.4 | S3.0 S3.1 S3.0 S3.1 S3.1 K.2 S3.2 K.4
blank_pt_s3_c100_1 | S3.0 S3.1 K.0 K.2 S3.0 S3.1 S3.0 S3.4 | S3.0 K.1 S3.0 S3.1 K.2 S3.3 S3.1 K.3
blank_pt_s3_c100_2 | S3.0 S3.1 K.0 S3.1 K.0 S3.3 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.1 S3.2 K.3 K.0 S3.1
blank_pt_s4_c100_1 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.2 S3.0 S3.3 S3.0 S3.1
blank_pt_s4_c100_2 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.2 S3.0 S3.1 S3.0 S3.1
darts_pt_s1_svhn_1 | K.0 K.1 D5.0 K.2 M.0 S3.2 D3.3 D3.4 | M.0 D3.1 A.1 D5.2 K.2 D5.3 A.0 K.4
darts_pt_s1_svhn_2 | K.0 K.1 D5.0 K.2 M.0 K.3 D3.3 D3.4 | A.0 M.1 A.0 D5.2 S3.1 D5.3 K.3 K.4
darts_pt_s2_svhn_1 | S3.0 K.1 K.0 K.2 S3.0 K.3 S3.1 S3.4 | S3.0 K.1 K.0 S3.2 K.2 S3.3 K.3 S3.4
darts_pt_s2_svhn_2 | K.0 K.1 S3.0 K.2 S3.0 S3.3 S3.2 K.4 | S3.0 K.1 K.0 K.2 S3.1 S3.2 S3.0 S3.4
darts_pt_s3_svhn_1 | S3.0 K.1 S3.1 S3.2 K.2 K.3 S3.3 S3.4 | S3.0 K.1 K.1 S3.2 K.2 S3.3 S3.3 S3.4
darts_pt_s3_svhn_2 | K.0 K.1 K.0 K.1 S3.1 S3.3 S3.0 K.4 | K.0 S3.1 S3.1 S3.2 S3.2 S3.3 K.2 S3.4
darts_pt_s4_svhn_1 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.1 S3.2 | S3.0 S3.1 S3.0 S3.2 S3.0 S3.3 S3.0 S3.1
darts_pt_s4_svhn_2 | S3.0 S3.1 S3.0 S3.2 S3.1 S3.3 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.2 S3.0 S3.2 S3.1 S3.3
blank_pt_s1_svhn_1 | D3.0 D5.1 S3.1 K.2 S3.2 K.3 D5.3 D5.4 | A.0 M.1 A.1 K.2 K.2 D5.3 K.3 D5.4
blank_pt_s1_svhn_2 | D3.0 D5.1 S3.1 D3.2 S3.1 S3.2 S3.0 M.1 | A.0 D3.1 M.0 A.1 A.0 K.2 M.1 D5.4
blank_pt_s2_svhn_1 | S3.0 S3.1 K.1 S3.2 S3.1 S3.2 S3.1 S3.3 | S3.0 K.1 S3.0 S3.2 S3.2 S3.3 K.2 K.4
blank_pt_s2_svhn_2 | S3.0 S3.1 S3.1 S3.2 S3.1 S3.3 S3.3 K.4 | S3.0 S3.1 S3.0 S3.2 K.1 S3.3 S3.0 K.2
blank_pt_s3_svhn_1 | S3.0 S3.1 S3.1 K.2 S3.0 K.3 S3.1 S3.3 | S3.0 S3.1 K.1 S3.2 S3.2 S3.3 K.2 S3.4
blank_pt_s3_svhn_2 | S3.0 S3.1 S3.0 S3.1 S3.1 S3.2 S3.0 S3.1 | S3.0 S3.1 K.1 S3.2 K.0 S3.3 S3.2 S3.4
blank_pt_s4_svhn_1 | S3.0 S3.1 S3.0 S3.1 S3.1 S3.2 S3.0 S3.1 | S3.0 S3.1 S3.1 S3.2 S3.1 S3.3 S3.0 S3.2
blank_pt_s4_svhn_2 | S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.1 S3.2 S3.3 S3.1 S3.4
darts_pt_s5_0 | S3.0 S3.1 S5.0 D3.1 K.0 K.2 K.0 M.4 | S3.0 A.1 D5.1 D3.2 A.0 M.2 S3.2 K.4
darts_pt_s5_1 | S3.0 S3.1 S3.0 D3.1 M.0 K.2 K.0 D3.4 | D5.0 A.1 M.0 S5.2 M.1 D3.3 S5.0 S3.4
darts_pt_s5_2 | K.0 S3.1 S3.0 D3.1 K.2 D3.3 M.1 K.2 | A.0 M.1 A.0 S3.1 D5.2 K.3 S3.2 S5.4
darts_pt_s5_3 | S3.0 S3.1 S3.0 S3.1 K.0 K.2 S3.1 K.3 | A.0 S5.1 M.1 K.2 D5.1 M.3 S5.2 K.3
blank_pt_s5_0 | S3.0 S5.1 S3.0 S3.1 A.1 K.3 M.0 A.2 | K.0 S5.1 D3.1 S5.2 M.0 K.3 M.0 M.2
blank_pt_s5_1 | A.0 A.1 S3.0 M.2 K.2 S3.3 S5.0 S5.1 | M.0 D5.1 S3.0 K.1 A.2 M.3 S5.3 S5.4
blank_pt_s5_2 | A.0 D3.1 S5.0 M.1 M.0 K.1 S5.1 A.2 | S3.0 A.1 A.0 S5.1 M.0 S5.3 M.2 D5.4
blank_pt_s5_3 | S3.0 S3.1 S3.0 K.1 M.2 S3.3 A.0 S5.1 | D5.0 S5.1 S5.0 D3.1 A.1 K.2 M.0 K.4
"""


@functools.cache
def cells() -> dict[str, dict[str, tuple]]:
    """The nodes (`notations.Node`) of the normal and the reduction cell, by the name of the architecture.

    Every cell has two inputs, four nodes, and all nodes as its output.
    """
    found = {}
    for line in _TABLE.strip().splitlines():
        name, *columns = line.split(" | ")
        found[name] = dict(zip(("normal", "reduce"), map(_nodes, columns), strict=True))
    return found


def _nodes(text: str) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Two (operation, source) for each node of a cell, from a column of the table."""
    pairs = [(_SHORT[operation], int(source)) for operation, source in (entry.split(".") for entry in text.split())]
    return tuple(tuple(pairs[i : i + 2]) for i in range(0, len(pairs), 2))
