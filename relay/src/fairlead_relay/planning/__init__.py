"""Planning: from a bundle and an environment to a signed deployment statement and its job."""
