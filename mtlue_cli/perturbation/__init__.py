"""The bound on a perturbation and its application to photos."""
