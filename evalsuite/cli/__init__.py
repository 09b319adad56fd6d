"""The command line: one file a command, whose imports wait until it is called."""
