"""How an architecture is read off a supernet: by perturbation, by magnitude, greedily (SGAS), at random."""
