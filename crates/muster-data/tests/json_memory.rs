//! Values whose content comes before their type, one in another: each level held a copy of all that was
//! in it.
//!
//! Memory is read from `/proc`, so this runs on Linux.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use muster_data::{Limits, json};

/// The most memory that this process has had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<usize>().unwrap() << 10
}

#[test]
fn content_before_its_type_is_not_copied() {
    const LEVELS: usize = 60;
    const LENGTH: usize = 4 << 20;
    let mut text = r#"{"data":["#.repeat(LEVELS);
    text.push_str(r#"{"data":""#);
    text.push_str(&"x".repeat(LENGTH));
    text.push_str(r#"","@data-type":"string"}"#);
    text.push_str(&r#"],"@data-type":"vector"}"#.repeat(LEVELS));
    let before = peak();
    json::read(text.as_bytes(), &Limits::default()).unwrap();
    let grown = peak() - before;
    assert!(grown < 4 * LENGTH, "{grown} bytes");
}
