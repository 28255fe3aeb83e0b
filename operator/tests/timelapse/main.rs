//! The time-lapse: the whole operator over its four seams, with a clock that is moved, through months in milliseconds. There is
//! no Kubernetes client and no socket in it.
//!
//! A story is a list of instants and of what happens then. What the operator does about it is written down as a timeline, and
//! compared with the one in `golden/`. Then the story is played again, with a restart of the operator at every step: the sinks
//! must be told the same, in the same order.

mod stories;
mod support;
