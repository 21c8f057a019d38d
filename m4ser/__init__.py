"""What a user runs: the command `m4ser`. It stands on everything else, and nothing imports it."""
