"""The label-conditioned perturbation generator and its checkpoint."""
