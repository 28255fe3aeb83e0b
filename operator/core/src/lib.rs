//! certmon's decisions, and nothing else: no clock (`now` is always the last parameter), no IO, no async, no
//! Kubernetes. What the world did wrong is data here; `Err` is for a caller's own input that can't be parsed.
//!
//! The data's way through the rooms:
//!
//! ```text
//! bytes ── certificate, bundle ──▶ StoredValue ─┐
//! looks ── dial ─────────────────▶ Dialled ─────┴─ assess(policy, now) ──▶ findings
//!    findings ── alert::step(now) ──▶ transitions, ledger ── delivery::decide(now) ──▶ intent ── message
//! ```
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod alert;
pub mod assess;
pub mod bundle;
pub mod certificate;
pub mod delivery;
mod der;
pub mod dial;
pub mod finding;
#[cfg(test)]
mod fixture;
pub mod hash;
pub mod ledger;
pub mod message;
pub mod observation;
pub mod place;
pub mod policy;
pub mod reason;
pub mod schedule;
mod signature;
pub mod silence;
pub mod sink;
pub mod target;
pub mod text;
pub mod trust;
