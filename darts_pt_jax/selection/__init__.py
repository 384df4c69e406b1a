"""How an architecture is read off a supernet: by perturbation, by magnitude, at random."""
