//! Records: structs to bytes and back, without values in between.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use muster_data::{
    Address, ConvertErrorKind, Data, DataRef, Decode, Encode, EnumRef, Limits, Port, Protocol,
    Record, Timestamp, Type, Typed, encode_to_vec, from_data, to_data,
};

#[derive(Record, Debug, Clone, PartialEq)]
#[record(name = "Muster::scan_attempt")]
struct Scan<'a> {
    #[record(rename = "id.orig_h")]
    source: Address,
    port: Port,
    note: Option<&'a str>,
    proto: EnumRef<'a>,
    payload: &'a [u8],
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Inner {
    list: Vec<u64>,
    names: BTreeSet<String>,
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Outer {
    time: Timestamp,
    inner: Inner,
    by_host: BTreeMap<Address, Inner>,
    extra: Option<u32>,
    r#type: Option<Data>,
}

#[derive(Record, Debug, PartialEq)]
struct Nothing {}

fn scan() -> Scan<'static> {
    Scan {
        source: "10.0.0.1".parse().unwrap(),
        port: Port::new(80, Protocol::Tcp),
        note: None,
        proto: EnumRef::new("tcp"),
        payload: b"\xff\x00",
    }
}

fn outer() -> Outer {
    let inner = Inner {
        list: vec![1, 2, 3],
        names: ["b".into(), "a".into()].into(),
    };
    Outer {
        time: Timestamp::from_secs(5),
        inner: inner.clone(),
        by_host: [("10.0.0.1".parse().unwrap(), inner)].into(),
        extra: Some(7),
        r#type: None,
    }
}

#[test]
fn struct_to_bytes_and_back() {
    let bytes = encode_to_vec(&scan());
    let value = DataRef::parse(&bytes, &Limits::default()).unwrap();
    assert_eq!(
        value.to_string(),
        "[10.0.0.1, 80/tcp, nil, enum:\"tcp\", \"\\xff\\x00\"]"
    );
    assert_eq!(value.to::<Scan<'_>>(), Ok(scan()));
    assert_eq!(from_data::<Outer>(&to_data(&outer())), Ok(outer()));
    assert_eq!(
        from_data::<Nothing>(&Data::Vector([].into())),
        Ok(Nothing {})
    );
}

#[test]
fn names() {
    assert_eq!(Scan::NAME, "Muster::scan_attempt");
    assert_eq!(
        Scan::FIELDS,
        ["id.orig_h", "port", "note", "proto", "payload"]
    );
    assert_eq!(Outer::FIELDS, ["time", "inner", "by_host", "extra", "type"]);
    let Type::Record(record) = Outer::data_type() else {
        panic!("no record")
    };
    assert_eq!(record.name, "Outer");
    let types: Vec<String> = record
        .fields
        .iter()
        .map(|field| field.ty.to_string())
        .collect();
    let expected = [
        "time",
        "record Inner",
        "table[addr] of record Inner",
        "count &optional",
        "any &optional",
    ];
    assert_eq!(types, expected);
}

#[test]
fn missing_optional_fields_are_none_and_extra_elements_ignored() {
    let full = to_data(&outer());
    let fields = full.as_vector().unwrap();
    let short = Data::vector(fields[..3].to_vec());
    assert_eq!(
        from_data::<Outer>(&short).map(|outer| outer.extra),
        Ok(None)
    );
    let long = Data::vector(fields.iter().cloned().chain([Data::Count(1)]));
    assert_eq!(from_data::<Outer>(&long), Ok(outer()));
    for data in [&short, &long] {
        let bytes = encode_to_vec(data);
        assert_eq!(
            Outer::data_type().check(DataRef::from_validated(&bytes)),
            Ok(())
        );
    }
}

/// Reads the value both ways; the errors have to agree on the place.
fn refused<T: for<'a> Decode<'a> + Typed + std::fmt::Debug>(
    value: &impl Encode,
) -> (String, ConvertErrorKind) {
    let bytes = encode_to_vec(value);
    let value = DataRef::parse(&bytes, &Limits::default()).unwrap();
    let error = value.to::<T>().unwrap_err();
    let check = T::data_type().check(value).unwrap_err();
    assert_eq!((error.path(), error.kind()), (check.path(), check.kind()));
    (error.to_string(), error.kind())
}

#[test]
fn errors_name_the_field() {
    let (text, kind) = refused::<Outer>(&(Timestamp::EPOCH, ([1u64, 2], 5u64)));
    assert_eq!(text, "Outer.inner.names: expected set, found count 5");
    assert_eq!(kind, ConvertErrorKind::WrongType);
}

#[test]
fn errors_name_the_element() {
    let list = Data::from([1u64.into(), 2u64.into(), 3u64.into(), Data::Integer(4)]);
    let names = BTreeSet::<String>::new();
    let (text, _) = refused::<Outer>(&(Timestamp::EPOCH, (&list, &names)));
    assert_eq!(text, "Outer.inner.list[3]: expected count, found int +4");

    let hosts = Data::table([(Address::from_bytes([0; 16]), to_data(&(list, names)))]);
    let inner = (Vec::<u64>::new(), BTreeSet::<String>::new());
    let (text, _) = refused::<Outer>(&(Timestamp::EPOCH, inner, hosts));
    assert_eq!(
        text,
        "Outer.by_host[::].list[3]: expected count, found int +4"
    );
}

#[test]
fn errors_for_short_records_and_other_values() {
    let (text, kind) = refused::<Outer>(&(Timestamp::EPOCH,));
    assert_eq!(kind, ConvertErrorKind::MissingField);
    assert!(text.starts_with("Outer.inner: missing field"), "{text}");
    let (text, _) = refused::<Outer>(&"text");
    assert_eq!(text, "expected record Outer, found string \"text\"");
    let number = to_data(&u64::MAX);
    assert_eq!(
        number.to::<u32>().unwrap_err().kind(),
        ConvertErrorKind::OutOfRange
    );
    let text = Data::string([0xff]);
    assert_eq!(
        text.to::<String>().unwrap_err().kind(),
        ConvertErrorKind::NotUtf8
    );
    assert!(text.is::<Vec<u8>>());
    assert!(!number.is::<i64>());
}

/// Types whose order differs from Broker's are written in Broker's order all the same.
#[test]
fn sets_and_tables_are_written_in_brokers_order() {
    #[derive(Record, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    struct Key {
        weight: i64,
        label: Option<String>,
    }
    let key = |weight, label: Option<&str>| Key {
        weight,
        label: label.map(Into::into),
    };
    // Reversed order in Rust.
    let map: BTreeMap<std::cmp::Reverse<i64>, u64> = (-2..3)
        .map(|number| (std::cmp::Reverse(number), 1))
        .collect();
    let mut out = Vec::new();
    muster_data::encode::table(&mut out, map.iter().map(|(key, value)| (key.0, value)));
    let data = Data::from_bytes(&out, &Limits::default()).unwrap();
    assert_eq!(encode_to_vec(&data), out);

    let set = BTreeSet::from([key(1, Some("a")), key(1, None), key(-1, None)]);
    let bytes = encode_to_vec(&set);
    assert_eq!(encode_to_vec(&to_data(&set)), bytes);
    assert_eq!(
        DataRef::from_validated(&bytes).to::<BTreeSet<Key>>(),
        Ok(set)
    );
}

#[test]
fn tuples_are_records_without_names() {
    let value = to_data(&("ping", 7u64, Some(1.5)));
    assert_eq!(value.to_string(), "[\"ping\", 7, 1.5]");
    assert_eq!(value.to::<(String, u64)>(), Ok(("ping".into(), 7)));
    let error = value.to::<(String, i64)>().unwrap_err();
    assert_eq!(error.to_string(), "[1]: expected int, found count 7");
    assert_eq!(<(String, u64)>::data_type().to_string(), "(string, count)");
}
