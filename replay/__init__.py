"""Reading the log again: one subcommand, one file."""
