//! Muster cluster layer without I/O: layout, roles, pools, membership, node loop.
