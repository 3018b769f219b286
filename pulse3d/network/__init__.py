"""The networks: clips in, logits out; and the files that hold their weights."""
