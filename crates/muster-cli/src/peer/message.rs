//! Messages as they are printed and typed: Zeek's text form, or JSON.

use anyhow::Result;
use muster_data::{Data, DataRef, Encode, Limits, json};
use muster_wire::Topic;
use muster_wire::zeek::{self, EventRef, Metadata};

use crate::arguments::Format;
use crate::output::{Failure, one_line};

/// A message as one line.
pub(crate) fn line(topic: &[u8], value: DataRef<'_>, format: Format) -> Vec<u8> {
    let mut line = Vec::new();
    match format {
        Format::Json => json::write_message(&mut line, topic, value),
        Format::Text => line.extend_from_slice(text(topic, value).as_bytes()),
    }
    line.push(b'\n');
    line
}

/// A message as Zeek's scripts would write it: topic, event and arguments, or the bare value.
fn text(topic: &[u8], value: DataRef<'_>) -> String {
    let topic = one_line(String::from_utf8_lossy(topic));
    let Ok(event) = EventRef::read(value) else {
        return format!("{topic} {value}");
    };
    let arguments: Vec<String> = event
        .arguments()
        .as_vector()
        .into_iter()
        .flat_map(|arguments| arguments.iter())
        .map(|argument| argument.to_string())
        .collect();
    let name = one_line(event.name().into());
    format!("{topic} {name}({})", arguments.join(", "))
}

/// An event of a name and arguments as they are typed, encoded.
pub(crate) fn event(name: &str, arguments: &[String]) -> Result<Vec<u8>> {
    let values = arguments
        .iter()
        .enumerate()
        .map(|(at, text)| argument(at + 1, text))
        .collect::<Result<Vec<Data>>>()?;
    let mut event = Vec::new();
    zeek::put_event(&mut event, name, Metadata::default(), |out| {
        values[..].encode(out);
    });
    Ok(event)
}

/// An argument: Zeek's text form, perhaps with its type in front, or JSON with or without types.
pub(crate) fn argument(number: usize, text: &str) -> Result<Data> {
    let limits = Limits::default();
    let typed = match Data::parse_text(text, &limits) {
        Ok(data) => return Ok(data),
        Err(error) => error,
    };
    let failed = |problem: String| {
        Failure::new(format!("argument {number} `{text}`: {problem}")).hint(
            "arguments are typed: count:5, int:-5, addr:10.0.0.1, port:80/tcp, string:text, T, [count:1, \"a\"], \
             or JSON: {\"a\": 1}, {\"@data-type\": \"count\", \"data\": 5}",
        )
    };
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
        return Err(failed(typed.to_string()).into());
    };
    if value.get("@data-type").is_some() {
        let data = json::read(text.as_bytes(), &limits);
        return Ok(data.map_err(|error| failed(error.to_string()))?);
    }
    Ok(plain(value))
}

/// JSON without types: what looks like a count is one, an object is a table by strings.
fn plain(value: serde_json::Value) -> Data {
    use serde_json::Value;
    match value {
        Value::Null => Data::None,
        Value::Bool(value) => Data::Boolean(value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(count), _) => Data::Count(count),
            (_, Some(integer)) => Data::Integer(integer),
            _ => Data::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Data::from(text),
        Value::Array(elements) => {
            Data::from(elements.into_iter().map(plain).collect::<Vec<Data>>())
        }
        Value::Object(entries) => {
            let entries = entries.into_iter();
            Data::table(entries.map(|(key, value)| (Data::from(key), plain(value))))
        }
    }
}

/// A message of a line of JSON: its topic, and its value encoded.
pub(crate) fn of_line(number: usize, line: &str) -> Result<(Topic, Vec<u8>)> {
    let failed = |problem: String| {
        Failure::new(format!("line {number}: {problem}"))
            .hint("each line must be as `muster subscribe --format json` prints it")
    };
    let message = json::read_message(line.as_bytes(), &Limits::default())
        .map_err(|error| failed(error.to_string()))?;
    let topic = message.topic.ok_or_else(|| failed("no topic".to_owned()))?;
    let topic = Topic::new(topic).map_err(|error| failed(error.to_string()))?;
    Ok((topic, muster_data::encode_to_vec(&message.data)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn arguments_as_they_are_typed() {
        let cases = [
            ("count:5", "5"),
            ("-5", "-5"),
            ("addr:10.0.0.1", "10.0.0.1"),
            ("true", "T"),
            ("null", "nil"),
            (
                r#"{"a": 1, "b": [true, -1, 0.5]}"#,
                r#"{"a" -> 1, "b" -> [T, -1, 0.5]}"#,
            ),
            (r#"{"@data-type": "port", "data": "80/tcp"}"#, "80/tcp"),
        ];
        for (typed, shown) in cases {
            assert_eq!(argument(1, typed).unwrap().to_string(), shown, "{typed}");
        }
        let error = argument(2, "count:x").unwrap_err().to_string();
        assert!(error.starts_with("argument 2 `count:x`: "), "{error}");
        let error = argument(1, r#"{"@data-type": "port", "data": true}"#).unwrap_err();
        assert!(error.to_string().contains("80/tcp"), "{error}");
    }

    #[test]
    fn lines_read_back() {
        let event = event("e", &["count:1".to_owned()]).unwrap();
        let value = DataRef::from_validated(&event);
        assert_eq!(line(b"/t", value, Format::Text), b"/t e(1)\n");
        // A topic forges no line.
        let forged = line(b"/t\n/u \x1b[1m", value, Format::Text);
        assert_eq!(forged, b"/t\\n/u \\u{1b}[1m e(1)\n");
        let json = String::from_utf8(line(b"/t", value, Format::Json)).unwrap();
        let (topic, payload) = of_line(1, &json).unwrap();
        assert_eq!((topic.as_bytes(), payload), (&b"/t"[..], event));
        let error = of_line(7, "{}").unwrap_err().to_string();
        assert!(error.starts_with("line 7: "), "{error}");
    }
}
