//! Properties of all values: round trips, order, and safety on arbitrary bytes and texts.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

use muster_data::{
    Address, Data, DataRef, EnumValue, Limits, Port, Protocol, Subnet, Timespan, Timestamp,
    ValueRef, encode_to_vec, json, to_data, validate,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn leaf() -> impl Strategy<Value = Data> {
    let protocol = prop_oneof![
        Just(Protocol::Unknown),
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Icmp)
    ];
    let address = prop_oneof![
        any::<[u8; 16]>().prop_map(Address::from_bytes),
        any::<[u8; 4]>().prop_map(|bytes| Address::from(std::net::Ipv4Addr::from(bytes))),
        // Few bits, to see equal addresses and runs of zeros.
        (0..16_usize, any::<u8>()).prop_map(|(at, byte)| {
            let mut bytes = [0; 16];
            bytes[at] = byte;
            Address::from_bytes(bytes)
        }),
    ];
    let name = prop_oneof![
        "[A-Za-z_:0-9]{0,8}",
        "[a-f]{1,4}::[a-f]{1,4}",
        "(addr|string|enum|Foo|T)::[A-Za-z0-9]{1,3}",
    ];
    prop_oneof![
        Just(Data::None),
        any::<bool>().prop_map(Data::from),
        prop_oneof![0..3_u64, any::<u64>()].prop_map(Data::from),
        prop_oneof![-2..2_i64, any::<i64>()].prop_map(Data::from),
        any::<u64>().prop_map(|bits| Data::Real(f64::from_bits(bits))),
        prop_oneof![
            Just(0.0),
            Just(-0.0),
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(5e-324),
            any::<f64>()
        ]
        .prop_map(Data::Real),
        vec(any::<u8>(), 0..20).prop_map(Data::string),
        any::<String>().prop_map(Data::from),
        vec(any::<u8>(), 120..300).prop_map(Data::string),
        address.clone().prop_map(Data::from),
        (address, any::<u8>())
            .prop_map(|(address, length)| Data::from(Subnet::from_wire(address, length))),
        (any::<u16>(), protocol).prop_map(|(number, protocol)| Port { number, protocol }.into()),
        any::<i64>().prop_map(|nanos| Timestamp::from_nanos(nanos).into()),
        any::<i32>().prop_map(|secs| Timestamp::from_secs(secs.into()).into()),
        any::<i64>().prop_map(|nanos| Timespan::from_nanos(nanos).into()),
        any::<i16>().prop_map(|millis| Timespan::from_millis(millis.into()).into()),
        name.prop_map(|name| EnumValue::new(name).into()),
        vec(any::<u8>(), 0..8).prop_map(|name| EnumValue::new(name).into()),
    ]
}

fn data() -> impl Strategy<Value = Data> {
    leaf().prop_recursive(4, 64, 12, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..12).prop_map(Data::from),
            vec(inner.clone(), 0..12).prop_map(Data::set),
            vec((inner.clone(), inner), 0..12).prop_map(Data::table),
        ]
    })
}

/// Whether two values are the same to the last bit, which equality of reals does not say.
fn identical(left: &Data, right: &Data) -> bool {
    left.to_string() == right.to_string()
}

/// Reads everything there is, as a program would that trusts the bytes.
fn visit(value: DataRef<'_>, depth: u32) -> usize {
    if depth == 0 {
        return 0;
    }
    match value.get() {
        ValueRef::Vector(vector) => vector.iter().map(|value| visit(value, depth - 1)).sum(),
        ValueRef::Set(set) => set.iter().map(|value| visit(value, depth - 1)).sum(),
        ValueRef::Table(table) => table
            .iter()
            .map(|(key, value)| visit(key, depth - 1) + visit(value, depth - 1))
            .sum(),
        _ => 1,
    }
}

/// The encoded value with its containers in some other order.
fn shuffled(data: &Data, out: &mut Vec<u8>) {
    match data {
        Data::Set(set) => {
            muster_data::encode::set_header(out, set.len());
            for element in set.iter().rev() {
                shuffled(element, out);
            }
        }
        Data::Table(table) => {
            muster_data::encode::table_header(out, table.len());
            for (key, value) in table.iter().rev() {
                shuffled(key, out);
                shuffled(value, out);
            }
        }
        Data::Vector(elements) => {
            muster_data::encode::vector_header(out, elements.len());
            for element in elements {
                shuffled(element, out);
            }
        }
        _ => out.extend(encode_to_vec(data)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn text_round_trip(data in data()) {
        let text = data.to_string();
        let read: Data = text.parse().map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert!(identical(&read, &data), "{} became {}", text, read);
    }

    #[test]
    fn binary_round_trip(data in data()) {
        let bytes = encode_to_vec(&data);
        let value = DataRef::parse(&bytes, &Limits::default())
            .map_err(|error| TestCaseError::fail(format!("{data}: {error}")))?;
        prop_assert_eq!(&value.to_data(), &data);
        prop_assert_eq!(encode_to_vec(&value.to_data()), bytes.clone());
        prop_assert_eq!(&to_data(&data), &data);
        prop_assert_eq!(data.to::<Data>(), Ok(data));
    }

    #[test]
    fn any_order_is_the_same_value(data in data()) {
        let mut bytes = Vec::new();
        shuffled(&data, &mut bytes);
        let value = DataRef::parse(&bytes, &Limits::default())
            .map_err(|error| TestCaseError::fail(format!("{data}: {error}")))?;
        prop_assert_eq!(&value.to_data(), &data);
        let canonical = encode_to_vec(&data);
        prop_assert_eq!(value, DataRef::from_validated(&canonical));
    }

    #[test]
    fn order_of_bytes_is_order_of_values(left in data(), right in data()) {
        let (left_bytes, right_bytes) = (encode_to_vec(&left), encode_to_vec(&right));
        let order = DataRef::from_validated(&left_bytes).cmp(&DataRef::from_validated(&right_bytes));
        prop_assert_eq!(order, left.cmp(&right));
        prop_assert_eq!(left == right, right == left);
        // A set of both is valid exactly if they differ.
        let mut set = Vec::new();
        muster_data::encode::set_header(&mut set, 2);
        set.extend([left_bytes, right_bytes].concat());
        prop_assert_eq!(validate(&set, &Limits::default()).is_ok(), left != right);
    }

    #[test]
    fn duplicates_are_found_wherever_they_are(
        elements in vec(leaf(), 1..40),
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
    ) {
        let mut elements = Data::set(elements).as_set().unwrap().clone().into_vec();
        elements.reverse();
        let encoded = |elements: &[Data]| {
            let mut bytes = Vec::new();
            muster_data::encode::set_header(&mut bytes, elements.len());
            for element in elements {
                bytes.extend(encode_to_vec(element));
            }
            bytes
        };
        prop_assert!(validate(&encoded(&elements), &Limits::default()).is_ok());
        let duplicate = elements[which.index(elements.len())].clone();
        elements.insert(place.index(elements.len() + 1), duplicate);
        prop_assert!(validate(&encoded(&elements), &Limits::default()).is_err());
    }

    #[test]
    fn transitive(a in data(), b in data(), c in data()) {
        let mut sorted = [a, b, c];
        sorted.sort();
        prop_assert!(sorted[0] <= sorted[1] && sorted[1] <= sorted[2] && sorted[0] <= sorted[2]);
    }

    #[test]
    fn mutated_bytes_never_panic(
        data in data(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode_to_vec(&data);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            let value = DataRef::from_validated(bytes);
            visit(value, 300);
            let _ = value.cmp(&DataRef::from_validated(&bytes[bytes.len() / 2..]));
            let owned = value.to_data();
            prop_assert!(validate(&encode_to_vec(&owned), &Limits::default()).is_ok());
            if validate(bytes, &Limits::default()).is_ok() {
                prop_assert!(identical(&owned.to_string().parse().unwrap(), &owned));
            }
        }
    }

    #[test]
    fn garbage_never_panics(tag in 0..16_u8, bytes in vec(prop_oneof![0..16_u8, any::<u8>()], 0..60)) {
        let bytes = [&[tag][..], &bytes].concat();
        let value = DataRef::from_validated(&bytes);
        visit(value, 300);
        let owned = value.to_data();
        prop_assert!(validate(&encode_to_vec(&owned), &Limits::default()).is_ok());
        if let Ok(value) = DataRef::parse(&bytes, &Limits::default()) {
            prop_assert_eq!(value.to_data(), owned);
        }
    }

    #[test]
    fn garbage_text_never_panics(text in "[-+.:/a-fTFZ0-9 {}\\[\\]\",>\\\\xé]{0,24}") {
        if let Ok(data) = text.parse::<Data>() {
            prop_assert!(identical(&data.to_string().parse().unwrap(), &data));
        }
        for word in ["count", "int", "real", "addr", "subnet", "port", "time", "interval", "enum"] {
            let _ = format!("{word}:{text}").parse::<Data>();
        }
    }
}

/// Whether JSON can hold a value exactly.
fn is_exact_in_json(data: &Data) -> bool {
    match data {
        Data::String(bytes) => std::str::from_utf8(bytes).is_ok(),
        Data::Enum(name) => name.as_str().is_some(),
        Data::Subnet(subnet) => {
            let masked = Subnet::new(subnet.address(), subnet.length());
            masked.is_ok_and(|masked| masked == *subnet)
        }
        Data::Set(set) => set.iter().all(is_exact_in_json),
        Data::Table(table) => table
            .iter()
            .all(|(key, value)| is_exact_in_json(key) && is_exact_in_json(value)),
        Data::Vector(values) => values.iter().all(is_exact_in_json),
        _ => true,
    }
}

proptest! {
    #[test]
    fn json_is_valid_and_reads_back(data in data()) {
        let bytes = encode_to_vec(&data);
        // The encoded form has no subnormal reals.
        let data = Data::from_bytes(&bytes, &Limits::default()).unwrap();
        let text = json::to_string(DataRef::from_validated(&bytes));
        // One number of ours is beyond what this reader knows.
        let plain = text.replace("1e400", "1e40");
        prop_assert!(serde_json::from_str::<serde_json::Value>(&plain).is_ok(), "{}", text);
        let read = json::read(text.as_bytes(), &Limits::default());
        if is_exact_in_json(&data) {
            let read = read.unwrap();
            prop_assert!(identical(&read, &data), "{} {} {}", text, read, data);
        } else {
            // Two strings that are not UTF-8 may be written alike: then a set has an element twice.
            prop_assert!(read.is_ok() || text.contains("\\\\x") || text.contains("subnet"), "{}", text);
        }
    }

    #[test]
    fn json_is_safe_on_any_text(text in "[\\[\\]{}:,\"\\\\@a-z0-9.e+-]{0,200}", bytes in vec(any::<u8>(), 0..200)) {
        let _ = json::read(text.as_bytes(), &Limits::default());
        let _ = json::read(&bytes, &Limits::default());
    }

    #[test]
    fn json_is_safe_when_damaged(data in data(), at in any::<usize>(), byte in any::<u8>()) {
        let encoded = encode_to_vec(&data);
        let mut text = json::to_string(DataRef::from_validated(&encoded)).into_bytes();
        let length = text.len();
        text[at % length] = byte;
        if let Ok(read) = json::read(&text, &Limits::default()) {
            prop_assert!(validate(&encode_to_vec(&read), &Limits::default()).is_ok());
        }
    }
}
