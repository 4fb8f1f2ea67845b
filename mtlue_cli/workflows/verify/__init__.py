"""Train victims on a release and judge it."""
