"""The methods of the paper's Table 2 and of its sections 6.2 and 6.3, in the DARTS space on CIFAR-10.

    python -m experiments.main --config=configs/table2.py:sdarts_rs_pt

The argument is one of darts, darts_second_order, darts_pt, darts_pt_mag, darts_pt_fixed, sdarts_rs, sdarts_rs_pt,
sdarts_adv, sdarts_adv_pt, sgas, sgas_pt; methods without pt select as in their own papers. Made for an accelerator.
"""

from darts_pt_jax.configs import common, darts_c10


def get_config(argument=""):
    (method,) = common.arguments(argument, common.METHODS)
    config = darts_c10.get_config()
    config.update_from_flattened_dict(common.METHODS[method])
    return config
