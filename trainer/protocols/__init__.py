"""Evaluation protocols: labelled tasks on real recordings, what is compared on them, and the tables."""
