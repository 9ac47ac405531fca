//! Zeek's messages and the records of its logs.

use muster_data::{DataRef, Limits};
use muster_wire::zeek::serial::{Fields, Value, put_record, read_record};
use muster_wire::zeek::{EventRef, Message, put_log_create, put_log_write};

/// Checks Zeek's messages in a value, and the log records in them.
pub fn zeek(bytes: &[u8]) {
    // Unchecked bytes never come this far, and must do no harm if they do.
    let _ = Message::read(DataRef::from_validated(bytes));
    let Ok(value) = DataRef::parse(bytes, &Limits::default()) else {
        return;
    };
    let is_event = EventRef::read(value).is_ok();
    match Message::read(value) {
        Ok(message) => {
            assert_eq!(is_event, matches!(message, Message::Event(_)));
            read(&message, bytes.len());
        }
        Err(error) => {
            assert!(!is_event);
            assert!(error.to_string().len() < 500);
        }
    }
}

fn read(message: &Message<'_>, size: usize) {
    let mut out = Vec::new();
    match message {
        Message::Event(event) => {
            let _ = (event.timestamp(), event.metadata(1), event.has_metadata());
            assert!(event.name().len() <= size);
            assert!(event.arguments().as_vector().is_some());
        }
        Message::LogCreate(create) => {
            assert!(create.fields.len() <= size && create.info.config.len() <= size);
            for field in &create.fields {
                assert!(!field.type_name().is_empty());
            }
            put_log_create(&mut out, create);
            let value = DataRef::parse(&out, &Limits::default()).expect("valid when written");
            let Ok(Message::LogCreate(again)) = Message::read(value) else {
                panic!("a description of a log does not come back");
            };
            assert_eq!(again.fields, create.fields);
            assert_eq!((again.stream, again.writer), (create.stream, create.writer));
        }
        Message::LogWrite(write) => {
            put_log_write(&mut out, write);
            let value = DataRef::parse(&out, &Limits::default()).expect("valid when written");
            let Ok(Message::LogWrite(again)) = Message::read(value) else {
                panic!("a log record does not come back");
            };
            assert_eq!(again, *write);
            serial(write.serial_data);
        }
        Message::IdentifierUpdate(update) => {
            assert!(update.name.len() <= size);
            let _ = update.value.to_data();
        }
        Message::Batch(batch) => {
            assert!(batch.len() <= size);
            let mut messages = 0;
            for message in batch {
                messages += 1;
                read(&message, size);
            }
            assert_eq!(
                messages,
                batch.len(),
                "all messages of a batch are well-formed"
            );
        }
        _ => {}
    }
}

/// Checks a log record in Zeek's own serialisation.
pub fn serial(bytes: &[u8]) {
    let whole = read_record(bytes);
    let Ok(fields) = Fields::new(bytes) else {
        assert!(whole.is_err());
        return;
    };
    let one_by_one: Result<Vec<_>, _> = fields.collect();
    let values = match (one_by_one, whole) {
        (Ok(values), Ok(whole)) => {
            assert!(same(&values, &whole));
            values
        }
        // Bytes behind the last field are seen by who looks at the whole.
        (Err(_) | Ok(_), Err(error)) => {
            assert!(error.to_string().len() < 500);
            return;
        }
        (Err(error), Ok(_)) => panic!("only field by field: {error}"),
    };
    assert!(count(&values) <= bytes.len());
    let mut out = Vec::new();
    put_record(&mut out, &values);
    assert!(
        out.len() <= 4 * bytes.len(),
        "{} of {}",
        out.len(),
        bytes.len()
    );
    let again = read_record(&out).expect("what is written is read");
    assert!(same(&again, &values));
}

/// All values, those in containers included.
fn count(values: &[Value<'_>]) -> usize {
    values.iter().map(|value| 1 + count(value.elements())).sum()
}

/// Equality in which a number that is none equals itself.
fn same(left: &[Value<'_>], right: &[Value<'_>]) -> bool {
    let bits = |value: &Value<'_>| match value {
        Value::Double(number) | Value::Time(number) | Value::Interval(number) => {
            Some(number.to_bits())
        }
        _ => None,
    };
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| {
            let alike = match (bits(left), bits(right)) {
                (Some(left), Some(right)) => left == right,
                _ if !left.elements().is_empty() => same(left.elements(), right.elements()),
                _ => left == right,
            };
            alike && left.ty() == right.ty()
        })
}
