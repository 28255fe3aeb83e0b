//! The pure middle: what a monitor asks for ([`spec`]), what that means in the world as it is ([`resolve`]), and what is said
//! of it in its status ([`status`]). No IO, no clock.

pub mod hint;
pub mod judge;
pub mod resolve;
pub mod spec;
pub mod status;
pub mod trust;
