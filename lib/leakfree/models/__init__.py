"""Networks and classical models of the study."""
