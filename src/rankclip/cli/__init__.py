"""The command line: the only place that prints, prompts or exits. One file a command; `app` has the table."""
