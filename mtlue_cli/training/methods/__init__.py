"""Ways of training: from scratch, in part, or from a pretrained backbone."""
