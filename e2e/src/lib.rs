//! certmon against a real API server: harness, stories, demo.
