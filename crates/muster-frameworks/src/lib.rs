//! Detection work, log input and logging on Muster nodes.
