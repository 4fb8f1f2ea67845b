"""Task weightings of a multi-task network: adapters on TorchJD."""
