"""
Real Kubernetes on one machine: control plane, kubelet and containerd in network namespaces nothing can dial into.

`Cluster` (cluster.py) is what tests use, `python -m tests.cluster` what people use, `fixtures.py` what pytest loads.
README.md beside this file tells how it is laid out and which traps it steps around.
"""
