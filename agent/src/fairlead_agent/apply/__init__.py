"""The deploy engine: preflight, order, writes, inventory and prune of one environment."""
