"""Published checkpoints of other code bases, turned into runs."""
