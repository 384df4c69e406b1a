"""How alphas become the edge weights of a training step."""

SAMPLERS = dict.fromkeys(("darts", "fixed", "sdarts_rs", "sdarts_rs_gaussian", "sdarts_adv"))
