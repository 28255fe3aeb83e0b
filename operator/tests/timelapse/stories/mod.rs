//! The stories.

mod crashes;
mod delivery;
mod dialled;
mod edits;
mod ingress;
mod lives;

/// A sink without a Secret, and one source: every TLS Secret of the namespace.
pub(crate) const SECRETS: &str = "
sources:
- name: tls
  secrets: {}
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
";

/// One endpoint, looked at every hour.
pub(crate) const ENDPOINT: &str = "
sources:
- name: public
  endpoints:
  - host: www.example.com
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
";
