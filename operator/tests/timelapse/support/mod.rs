//! What the stories are played with.

pub(crate) mod certificates;
pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod objects;
pub(crate) mod receivers;
pub(crate) mod servers;
pub(crate) mod stage;
pub(crate) mod status_rules;
pub(crate) mod story;
pub(crate) mod telling_rules;
pub(crate) mod timeline;
