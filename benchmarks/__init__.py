"""Numbers to show: targets in code, one case for each group of them, and the table of results."""
