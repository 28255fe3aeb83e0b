//! certmon's decisions: no clock, no IO, no async, no Kubernetes.
