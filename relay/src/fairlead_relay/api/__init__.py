"""The HTTP API for people, CI and the CLI: routes, access, problem documents, live streams."""
