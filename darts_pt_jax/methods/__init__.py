"""How a supernet is trained: where the alphas' gradient comes from, and what the weights are trained under.

A method is a factory of functions on states and batches. Its parts are compiled apart: `program` says how, and is the
identity where all of a step is one program.
"""
