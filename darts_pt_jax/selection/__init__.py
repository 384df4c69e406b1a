"""Selection of an architecture from a supernet: by perturbation, by magnitude, greedily (SGAS), or at random."""
