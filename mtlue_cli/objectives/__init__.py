"""Base objectives that a generator is trained on: EM, TAP, SEP."""
