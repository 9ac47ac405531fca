//! What a package needs of the command line.

pub(crate) mod completions;
pub(crate) mod manual;
