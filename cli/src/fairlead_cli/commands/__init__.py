"""One module per command group, each holding a click command of its own name; `__main__` imports the one that runs."""
