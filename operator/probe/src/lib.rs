//! Looks at what a TLS server serves, through the one door.
