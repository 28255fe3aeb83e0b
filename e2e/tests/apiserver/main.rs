//! Against a real API server: one binary, so that all its tests share one control plane.
//!
//! `make test` runs it with the rest; `cargo test -p certmon-e2e --test apiserver -- manifests` runs a module. With
//! `CERTMON_E2E_KUBECONFIG` the tests use that cluster; those that read the audit log, or need flags of their own, start
//! a control plane all the same.

mod chart;
mod controlplane;
mod crds;
mod demo;
mod documents;
mod faults;
mod kill;
mod manifests;
mod stories;
