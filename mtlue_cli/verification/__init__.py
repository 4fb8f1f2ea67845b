"""Victim experiments, the audit of a release and the verdict."""
