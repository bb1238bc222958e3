"""Tests of Fairlead across its members, and the real Kubernetes (`tests.cluster`) that they run on."""
