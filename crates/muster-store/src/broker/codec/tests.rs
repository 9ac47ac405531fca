use muster_data::Data;
use proptest::prelude::*;

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

const C: &str = "1241a918 39e5 52d5 8474 6b1881363ddc 0000000000000007";
const M: &str = "22d20043 ff91 5397 aba1 364ea88c1e4b 0000000000000007";
const NIL: &str = "00000000 0000 0000 0000 000000000000 0000000000000000";

fn entity(text: &str) -> Entity {
    let bytes = unhex(text);
    super::entity(&mut Reader::new(&bytes)).unwrap()
}

/// The worked examples of section 7.3.
#[test]
fn commands_are_those_of_the_specification() {
    let (c, m) = (entity(C), entity(M));
    let put = |sender, receiver| BrokerCommand {
        number: 2,
        sender,
        receiver,
        content: Content::Put {
            key: Encoded::key("x"),
            value: Encoded::of(&10u64),
            ttl: None,
            publisher: c,
        },
    };
    let control = |number, sender, receiver, content| BrokerCommand {
        number,
        sender,
        receiver,
        content,
    };
    let set = Data::set(["a", "b"]);
    let examples = [
        (
            format!("0000000000000000 {C} {NIL} 0b 01 0000000000000000"),
            control(0, c, EVERYBODY, Content::Nack { numbers: vec![0] }),
        ),
        (
            format!(
                "0000000000000001 {M} {C} 0c 0000000000000001 0005 02 0504696e6974 \
                 020000000000000001 020000000000000005 0c02050161050162"
            ),
            control(
                1,
                m,
                c,
                Content::AckClone {
                    offset: 1,
                    heartbeat: 5,
                    state: vec![
                        (Encoded::key("init"), Encoded::of(&1u64)),
                        (Encoded::key(&5u64), Encoded::of(&set)),
                    ],
                },
            ),
        ),
        (
            format!("0000000000000000 {C} {M} 0a 0000000000000001"),
            control(0, c, m, Content::CumulativeAck { number: 1 }),
        ),
        (
            format!("0000000000000000 {C} {M} 08 0000000000000001 0005"),
            control(
                0,
                c,
                m,
                Content::AttachWriter {
                    offset: 1,
                    heartbeat: 5,
                },
            ),
        ),
        (
            format!("0000000000000002 {C} {M} 00 050178 02000000000000000a 00 {C}"),
            put(c, m),
        ),
        (
            format!("0000000000000002 {M} {NIL} 00 050178 02000000000000000a 00 {C}"),
            put(m, EVERYBODY),
        ),
    ];
    for (hex, command) in examples {
        let mut bytes = unhex(&hex);
        assert_eq!(command.encode(), bytes);
        assert_eq!(BrokerCommand::decode(&bytes), Ok(command.clone()));
        for end in 0..bytes.len() {
            assert_eq!(BrokerCommand::decode(&bytes[..end]), Err(CommandError));
        }
        bytes.extend_from_slice(b"trailing");
        assert_eq!(BrokerCommand::decode(&bytes), Ok(command));
    }
}

#[test]
fn counts_are_not_trusted() {
    let bytes = unhex(&format!("0000000000000000 {C} {NIL} 0b ffffffff0f"));
    assert_eq!(BrokerCommand::decode(&bytes), Err(CommandError));
    let bytes = unhex(&format!("0000000000000000 {C} {NIL} 0e"));
    assert_eq!(BrokerCommand::decode(&bytes), Err(CommandError));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = BrokerCommand::decode(&bytes);
    }

    #[test]
    fn what_is_read_is_written_the_same(
        index in 0u8..14,
        rest in prop::collection::vec(0u8..16, 0..200),
    ) {
        let mut bytes = unhex(&format!("0000000000000009 {C} {M}"));
        bytes.push(index);
        bytes.extend_from_slice(&rest);
        if let Ok(command) = BrokerCommand::decode(&bytes) {
            prop_assert_eq!(BrokerCommand::decode(&command.encode()), Ok(command));
        }
    }
}
