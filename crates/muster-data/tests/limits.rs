//! Limits on encoded values, and safety of deep nesting.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

use muster_data::{Data, DataRef, DecodeErrorKind, Limits, encode_to_vec, validate};

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = [14, 1].repeat(depth);
    bytes.push(0);
    bytes
}

fn refusal(bytes: &[u8], limits: &Limits) -> Option<DecodeErrorKind> {
    validate(bytes, limits).err().map(|error| error.kind())
}

#[test]
fn depth() {
    let limits = Limits::default();
    assert_eq!(refusal(&nested(64), &limits), None);
    assert_eq!(
        refusal(&nested(65), &limits),
        Some(DecodeErrorKind::TooDeep)
    );
    let loose = Limits {
        depth: u32::MAX,
        ..limits
    };
    let most = Limits::MAX_DEPTH as usize;
    assert_eq!(refusal(&nested(most), &loose), None);
    assert_eq!(
        refusal(&nested(most + 1), &loose),
        Some(DecodeErrorKind::TooDeep)
    );
    let bytes = nested(most);
    let data = DataRef::parse(&bytes, &loose).unwrap().to_data();
    assert_eq!(encode_to_vec(&data), bytes);
}

/// 200,000 nested vectors crash a C++ peer. Here they must not even hurt code that skips validation.
#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let bytes = nested(200_000);
    let loose = Limits {
        depth: u32::MAX,
        ..Limits::default()
    };
    for limits in [Limits::default(), loose] {
        assert_eq!(refusal(&bytes, &limits), Some(DecodeErrorKind::TooDeep));
    }
    let value = DataRef::from_validated(&bytes);
    assert_eq!(value.as_vector().unwrap().iter().count(), 1);
    assert!(value.to_data().as_vector().is_some());
    let mut other = bytes.clone();
    other.pop();
    other.extend([1, 1]);
    assert_ne!(value, DataRef::from_validated(&other));
    assert!(!value.is::<Vec<u64>>());
    assert!(format!("{value}").len() < 2000);
}

#[test]
fn counts_and_sizes() {
    let bytes = encode_to_vec(&Data::vector([
        Data::set([1u64, 2]),
        Data::table([(1u64, 2u64)]),
    ]));
    let limits = Limits {
        elements: 6,
        bytes: bytes.len(),
        ..Limits::default()
    };
    assert_eq!(refusal(&bytes, &limits), None);
    let few = Limits {
        elements: 5,
        ..limits
    };
    assert_eq!(
        refusal(&bytes, &few),
        Some(DecodeErrorKind::TooManyElements)
    );
    let short = Limits {
        bytes: bytes.len() - 1,
        ..limits
    };
    assert_eq!(refusal(&bytes, &short), Some(DecodeErrorKind::TooLarge));
}

#[test]
fn lengths_that_lie() {
    let limits = Limits::default();
    let cases: [(&[u8], DecodeErrorKind, usize); 9] = [
        (
            &[14, 0xff, 0xff, 0xff, 0xff, 0x0f, 0],
            DecodeErrorKind::Truncated,
            6,
        ),
        (
            &[14, 0xff, 0xff, 0xff, 0xff, 0x1f, 0],
            DecodeErrorKind::BadLength,
            6,
        ),
        (
            &[5, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
            DecodeErrorKind::BadLength,
            6,
        ),
        (&[5, 0x80], DecodeErrorKind::Truncated, 2),
        (&[13, 1, 0], DecodeErrorKind::Truncated, 2),
        (&[16], DecodeErrorKind::UnknownTag, 0),
        (&[0xf2], DecodeErrorKind::UnknownTag, 0),
        (&[2, 0, 0], DecodeErrorKind::Truncated, 3),
        (&[14, 2, 0, 31], DecodeErrorKind::UnknownTag, 3),
    ];
    for (bytes, kind, offset) in cases {
        let error = validate(bytes, &limits).unwrap_err();
        assert_eq!(
            (error.kind(), error.offset()),
            (kind, offset),
            "{bytes:02x?}"
        );
    }
    // Unchecked, the lie must not make the iteration long.
    let value = DataRef::from_validated(&[14, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    assert_eq!(value.as_vector().unwrap().iter().count(), 1);
}

#[test]
fn large_containers_out_of_order() {
    let elements: Vec<u64> = (0..10_000).map(|number| number * 7_919 % 10_007).collect();
    let mut bytes = Vec::new();
    muster_data::encode::set_header(&mut bytes, elements.len());
    for element in &elements {
        muster_data::encode::count(&mut bytes, *element);
    }
    assert_eq!(refusal(&bytes, &Limits::default()), None);
    let from = bytes.len() - 9;
    bytes[from..].copy_from_slice(&encode_to_vec(&elements[17]));
    assert_eq!(
        refusal(&bytes, &Limits::default()),
        Some(DecodeErrorKind::DuplicateElement)
    );
}

/// A set beside a set, level upon level, with a large one that is not in order at the bottom: on every
/// level the two have to be compared.
#[test]
fn nesting_does_not_multiply_the_cost_of_comparing() {
    let mut large = Vec::new();
    muster_data::encode::set_header(&mut large, 60_000);
    for element in (0..60_000_u64).rev() {
        muster_data::encode::count(&mut large, element);
    }
    for _ in 0..40 {
        let mut outer = vec![12, 2, 12, 1, 1, 0];
        outer.append(&mut large);
        large = outer;
    }
    assert_eq!(
        refusal(&large, &Limits::default()),
        Some(DecodeErrorKind::TooComplex)
    );
    // Small values of this kind are no problem.
    let set = |elements: &[&[u8]]| [&[12, 2], elements.concat().as_slice()].concat();
    let unordered = set(&[&[1, 1], &[1, 0]]);
    let ordered = set(&[&[1, 0], &[1, 1]]);
    assert_eq!(
        refusal(&set(&[&unordered, &[12, 0]]), &Limits::default()),
        None
    );
    let both = set(&[&unordered, &ordered]);
    assert_eq!(
        refusal(&both, &Limits::default()),
        Some(DecodeErrorKind::DuplicateElement)
    );
}
