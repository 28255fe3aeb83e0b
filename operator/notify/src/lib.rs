//! Sinks: render (pure) and deliver through the one door.
