"""The whole study, started by one command."""
