"""Task metrics and image quality, on torchmetrics."""
