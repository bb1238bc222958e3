"""Backup and restore of everything a relay has: store, bundles and certificate authority, in one file."""
