//! Derive macro for typed records of Muster values.
