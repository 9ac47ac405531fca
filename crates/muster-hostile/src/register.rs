//! What is read of the store with the values that change while a cluster runs: keys, definitions and values, as anybody may have written them.

use muster_cluster::register::{ConfigKey, Definition, Register};
use muster_data::{Data, Subnet};
use muster_store::Encoded;

/// What an error says besides the words of the definition, in bytes.
const MOST_SAID: usize = 1024;

/// How much longer a definition is in words than in bytes: the escapes of a text.
const MOST_WORDS: usize = 64;

/// Reads the bytes as a key, and as a definition with a value and a text behind it.
///
/// # Panics
/// If a rule is broken.
pub fn register(bytes: &[u8]) {
    let Ok((first, size)) = Encoded::parse_first(bytes) else {
        return;
    };
    if let Some(key) = ConfigKey::read(first.view()) {
        let again = key.encoded();
        assert_eq!(ConfigKey::read(again.view()), Some(key));
    }
    let Ok(definition) = Definition::read(&first) else {
        return;
    };
    let again = Definition::read(&definition.encoded());
    assert_eq!(again.as_ref(), Ok(&definition));
    let most_said = MOST_SAID + MOST_WORDS * first.size();
    let takes = definition.takes.to_string();
    assert!(takes.len() <= most_said, "{} bytes", takes.len());
    let shown = Definition::shown(&definition.default);
    assert!(shown.len() <= most_said, "{} bytes", shown.len());

    let rest = &bytes[size..];
    let text = String::from_utf8_lossy(rest);
    match definition.read_text(&text) {
        Ok(data) => assert_eq!(definition.check(&Encoded::of(&data)), Ok(())),
        Err(unfit) => assert!(unfit.to_string().len() <= most_said, "{unfit}"),
    }
    if let Ok((value, _)) = Encoded::parse_first(rest)
        && let Err(unfit) = definition.check(&value)
    {
        assert!(unfit.to_string().len() <= most_said, "{unfit}");
    }
}

/// Keys and definitions to start with.
pub(crate) fn entries() -> Vec<Vec<u8>> {
    const MOST: Register<u64> = Register::new("a.most", || 10, "how many").within(1, 100);
    const MODE: Register<String> =
        Register::new("a.mode", String::new, "how").one_of(&["", "tell", "block"]);
    const NETS: Register<Vec<Subnet>> = Register::new("a.nets", Vec::new, "where");
    const PAIR: Register<(u64, Option<f64>)> = Register::new("a.pair", || (1, None), "both");
    let definitions = [
        MOST.definition(),
        MODE.definition(),
        NETS.definition(),
        PAIR.definition(),
    ];
    let values: [&[u8]; 4] = [b"25", b"tell", b"10.0.0.0/8", b"[1, 2.0]"];
    let with_texts = definitions.iter().zip(values);
    let with_texts = with_texts.map(|(it, text)| [it.encoded().as_bytes(), text].concat());
    let with_value = Encoded::of(&Data::Count(25));
    let with_value = [
        MOST.definition().encoded().as_bytes(),
        with_value.as_bytes(),
    ]
    .concat();
    let name = || "a.most".to_owned();
    let keys = [ConfigKey::Value(name()), ConfigKey::Definition(name())];
    let keys = keys.iter().map(|key| key.encoded().as_bytes().to_vec());
    with_texts.chain([with_value]).chain(keys).collect()
}
