"""The only package that talks to the Kubernetes API: one thin client, its watches, and its errors made ours."""
