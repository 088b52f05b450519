"""Tables and figures as they are shown."""
