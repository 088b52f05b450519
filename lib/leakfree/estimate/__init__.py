"""What a plain split of a user's own images would do: who is on both sides, and what a score gains by it."""
