//! The one door out: resolve, classify, allow, dial.
