"""What reaches the collator: rows, order of batches, speeds, cached features."""
