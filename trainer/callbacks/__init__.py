"""What acts beside the training loop."""
