//! Watches certificates, tells once, on time.
