//! Replays `hrw.json`: digests, site ids, weights and owners as Zeek has them.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use muster_cluster::{Key, fnv1a32, site_id, weight};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("hrw.json")).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn digests() {
    let vectors = vectors();
    let entries = vectors["fnv1a32"].as_array().unwrap();
    for entry in entries {
        let text = entry["bytes"].as_str().unwrap();
        let bytes: Vec<_> = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(fnv1a32(&bytes), number(&entry["hash"]), "{}", entry["key"]);
    }
    let hashes: Vec<_> = entries.iter().map(|entry| number(&entry["hash"])).collect();
    let keys = [
        Key::from("foobar"),
        Key::from(123_u64),
        Key::from(123.0),
        Key::from(true),
    ];
    assert_eq!(keys.map(Key::digest).as_slice(), hashes);
}

#[test]
fn site_ids() {
    for entry in vectors()["site_ids"].as_array().unwrap() {
        assert_eq!(
            site_id(entry["name"].as_str().unwrap(), 0),
            number(&entry["site_id"]),
            "{entry}"
        );
    }
}

#[test]
fn weights_and_winners() {
    for entry in vectors()["hrw_pool_proxy1_proxy2"].as_array().unwrap() {
        let key = Key::from(entry["count_key"].as_u64().unwrap());
        assert_eq!(key.digest(), number(&entry["digest"]));
        let weights = entry["weights"].as_object().unwrap();
        for (name, expected) in weights {
            assert_eq!(
                weight(key.digest(), site_id(name, 0)),
                number(expected),
                "{entry}"
            );
        }
        let winner = weights
            .keys()
            .max_by_key(|name| weight(key.digest(), site_id(name, 0)))
            .unwrap();
        assert_eq!(winner, entry["winner"].as_str().unwrap());
    }
}
