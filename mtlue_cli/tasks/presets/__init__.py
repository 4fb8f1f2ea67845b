"""Presets: how the label table of a published data set is read, one TOML file each."""
