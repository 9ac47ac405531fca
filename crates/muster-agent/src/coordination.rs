//! The agent's part among the coordinators of its cluster.

mod voter_file;
