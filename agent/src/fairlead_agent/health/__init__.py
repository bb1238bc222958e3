"""Health of objects: one status and, if it is not healthy, one sentence that says why."""
