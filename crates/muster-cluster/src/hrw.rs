//! Rendezvous hashing (HRW), identical to Zeek's, so that Zeek and Muster agree on who owns a key.
//!
//! A key's bytes are those that Zeek's `fnv1a32` hashes for the same value; they are never built,
//! only hashed. On a big-endian machine Zeek hashes other bytes; Muster always takes the
//! little-endian ones.
//!
//! | value | bytes |
//! | --- | --- |
//! | string alone | its bytes |
//! | bool, int | i32 type number (1, 2), i64 |
//! | count | i32 3, u64 |
//! | double, time | i32 (4, 5), f64; a time in seconds |
//! | enum | i32 9, name of the enum type, name of the value, NUL |
//! | port | i32 10, u32 number, `/`, NUL, protocol name |
//! | addr, subnet | i32 (11, 12), text, NUL |
//! | string in a list or vector | i32 7, i32 length, its bytes |
//! | list `[a, b]` | i32 16, i32 0, u64 n, the n types, u64 n, the n values as above |
//! | `vector of T` | i32 19, the type T, `[` NUL, the values as above with `, ` NUL between, `]` NUL |
//!
//! The layouts of list, vector and enum were read from Zeek's source, the others are checked
//! against its test suite. **Not the same as in Zeek**: records, sets and tables (Zeek hashes the
//! description of their type, field names and comments on them included, which a value does not
//! carry), intervals, and an enum whose type's name is not given. Such keys have an owner on which
//! Muster nodes agree with one another. Zeek's own scripts avoid them: they join the parts of a
//! compound key to a text with `cat`, and so does [`Key::cat`].

use std::net::IpAddr;

use muster_data::{Address, Data, EnumValue, Port, Subnet, Timestamp};

/// What is hashed to find the owner of something. Made from one value with `from`, from several with [`Key::cat`] or
/// [`Key::list`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    digest: u32,
}

impl Key {
    /// The digest that Zeek's `fnv1a32` gives for the same value.
    pub const fn digest(self) -> u32 {
        self.digest
    }

    /// The key of a list, as Zeek takes `[a, b]`.
    pub fn list(values: &[Data]) -> Self {
        hashed(|hash| describe_list(values, hash))
    }

    /// The key of a Zeek `vector of T`; the type is that of the first value, so an empty vector has
    /// a key of Muster's own.
    pub fn vector(values: &[Data]) -> Self {
        hashed(|hash| describe_vector(values, hash))
    }

    /// The key of several values joined into one text like Zeek's `cat` does: without separators, booleans as `T` and
    /// `F`. `Known::services`, for one, is divided by `cat(host, port)`.
    ///
    /// Identical to Zeek's for strings, counts, ints, booleans, addresses, subnets, ports and enums.
    pub fn cat(values: &[Data]) -> Self {
        hashed(|hash| values.iter().for_each(|value| describe_text(value, hash)))
    }

    /// The key of an enum value, such as `("Notice::Action", "Notice::ACTION_LOG")`.
    pub fn enumeration(type_name: &str, value_name: &str) -> Self {
        hashed(|hash| describe_enum(type_name.as_bytes(), value_name.as_bytes(), hash))
    }
}

/// FNV-1a with 32 bits; Zeek's `fnv1a32` of a string.
pub fn fnv1a32(bytes: &[u8]) -> u32 {
    let mut hash = Fnv::default();
    hash.add(bytes);
    hash.0
}

/// The site id of a node in a pool: FNV-1a of `name.attempt`. Attempt 0 counts unless another
/// member of the pool has the same id already.
pub fn site_id(name: &str, attempt: u32) -> u32 {
    let mut hash = Fnv::default();
    hash.add(name.as_bytes());
    hash.add(b".");
    hash.add(attempt.to_string().as_bytes());
    hash.0
}

/// The weight of a site for a key's digest, below 2^31; the site of the highest weight owns the
/// key, the larger site id wins a tie. Identical to Zeek's `hrw_weight`.
pub const fn weight(digest: u32, site: u32) -> u32 {
    const A: u32 = 1_103_515_245;
    const B: u32 = 12_345;
    const MASK: u32 = 0x7fff_ffff;
    let mixed = A.wrapping_mul(site).wrapping_add(B) ^ (digest & MASK);
    A.wrapping_mul(mixed).wrapping_add(B) & MASK
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<&String> for Key {
    fn from(text: &String) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        hashed(|hash| hash.add(bytes))
    }
}

impl From<bool> for Key {
    fn from(value: bool) -> Self {
        hashed(|hash| describe_int(tag::BOOL, value.into(), hash))
    }
}

impl From<i64> for Key {
    fn from(value: i64) -> Self {
        hashed(|hash| describe_int(tag::INT, value, hash))
    }
}

impl From<u64> for Key {
    fn from(value: u64) -> Self {
        hashed(|hash| describe_count(value, hash))
    }
}

impl From<f64> for Key {
    fn from(value: f64) -> Self {
        hashed(|hash| describe_double(tag::DOUBLE, value, hash))
    }
}

impl From<Timestamp> for Key {
    fn from(value: Timestamp) -> Self {
        hashed(|hash| describe_double(tag::TIME, value.as_secs_f64(), hash))
    }
}

impl From<Address> for Key {
    fn from(value: Address) -> Self {
        hashed(|hash| describe_address(value, hash))
    }
}

impl From<&Address> for Key {
    fn from(value: &Address) -> Self {
        Self::from(*value)
    }
}

impl From<IpAddr> for Key {
    fn from(value: IpAddr) -> Self {
        Self::from(Address::from(value))
    }
}

impl From<Subnet> for Key {
    fn from(value: Subnet) -> Self {
        hashed(|hash| describe_subnet(value, hash))
    }
}

impl From<Port> for Key {
    fn from(value: Port) -> Self {
        hashed(|hash| describe_port(value, hash))
    }
}

/// Without the name of the enum's type: not the key that Zeek takes.
impl From<&EnumValue> for Key {
    fn from(value: &EnumValue) -> Self {
        hashed(|hash| describe_enum(b"", value.as_bytes(), hash))
    }
}

/// A vector counts as a list, see [`Key::list`].
impl From<&Data> for Key {
    fn from(value: &Data) -> Self {
        hashed(|hash| match value {
            Data::String(bytes) => hash.add(bytes),
            value => describe(value, hash),
        })
    }
}

/// Zeek's numbers of its types, which open the bytes of all keys but strings.
mod tag {
    pub(super) const NONE: i32 = 0;
    pub(super) const BOOL: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const COUNT: i32 = 3;
    pub(super) const DOUBLE: i32 = 4;
    pub(super) const TIME: i32 = 5;
    pub(super) const INTERVAL: i32 = 6;
    pub(super) const STRING: i32 = 7;
    pub(super) const ENUM: i32 = 9;
    pub(super) const PORT: i32 = 10;
    pub(super) const ADDR: i32 = 11;
    pub(super) const SUBNET: i32 = 12;
    pub(super) const TABLE: i32 = 14;
    pub(super) const LIST: i32 = 16;
    pub(super) const VECTOR: i32 = 19;
}

#[derive(Clone, Copy)]
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(2_166_136_261)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(16_777_619);
        }
    }

    fn tag(&mut self, tag: i32) {
        self.add(&tag.to_le_bytes());
    }

    /// A C string with its NUL.
    fn c_string(&mut self, text: &[u8]) {
        self.add(text);
        self.add(&[0]);
    }

    fn count(&mut self, value: usize) {
        self.add(&(value as u64).to_le_bytes());
    }
}

fn hashed(fill: impl FnOnce(&mut Fnv)) -> Key {
    let mut hash = Fnv::default();
    fill(&mut hash);
    Key { digest: hash.0 }
}

/// A value with its type, as it stands inside a list or vector.
fn describe(value: &Data, hash: &mut Fnv) {
    match value {
        Data::None => hash.tag(tag::NONE),
        Data::Boolean(value) => describe_int(tag::BOOL, (*value).into(), hash),
        Data::Count(value) => describe_count(*value, hash),
        Data::Integer(value) => describe_int(tag::INT, *value, hash),
        Data::Real(value) => describe_double(tag::DOUBLE, *value, hash),
        Data::String(bytes) => {
            hash.tag(tag::STRING);
            // Zeek's length of a string is an int.
            hash.add(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_le_bytes());
            hash.add(bytes);
        }
        Data::Address(value) => describe_address(*value, hash),
        Data::Subnet(value) => describe_subnet(*value, hash),
        Data::Port(value) => describe_port(*value, hash),
        Data::Timestamp(value) => describe_double(tag::TIME, value.as_secs_f64(), hash),
        Data::Timespan(value) => describe_double(tag::INTERVAL, value.as_secs_f64(), hash),
        Data::Enum(value) => describe_enum(b"", value.as_bytes(), hash),
        Data::Vector(values) => describe_list(values, hash),
        Data::Set(values) => {
            hash.tag(tag::TABLE);
            hash.count(values.len());
            for value in values {
                describe(value, hash);
            }
        }
        Data::Table(entries) => {
            hash.tag(tag::TABLE);
            hash.count(entries.len());
            for (key, value) in entries {
                describe(key, hash);
                describe(value, hash);
            }
        }
    }
}

/// A value's type alone.
fn describe_type(value: &Data, hash: &mut Fnv) {
    hash.tag(match value {
        Data::None => tag::NONE,
        Data::Boolean(_) => tag::BOOL,
        Data::Count(_) => tag::COUNT,
        Data::Integer(_) => tag::INT,
        Data::Real(_) => tag::DOUBLE,
        Data::String(_) => tag::STRING,
        Data::Address(_) => tag::ADDR,
        Data::Subnet(_) => tag::SUBNET,
        Data::Port(_) => tag::PORT,
        Data::Timestamp(_) => tag::TIME,
        Data::Timespan(_) => tag::INTERVAL,
        Data::Enum(_) => tag::ENUM,
        Data::Set(_) | Data::Table(_) => tag::TABLE,
        Data::Vector(values) => {
            hash.tag(tag::LIST);
            hash.tag(0);
            hash.count(values.len());
            for value in values {
                describe_type(value, hash);
            }
            return;
        }
    });
}

fn describe_list(values: &[Data], hash: &mut Fnv) {
    hash.tag(tag::LIST);
    // Not "pure": Zeek's lists of expressions never promise one type for all.
    hash.tag(0);
    hash.count(values.len());
    for value in values {
        describe_type(value, hash);
    }
    hash.count(values.len());
    for value in values {
        describe(value, hash);
    }
}

fn describe_vector(values: &[Data], hash: &mut Fnv) {
    hash.tag(tag::VECTOR);
    if let Some(first) = values.first() {
        describe_type(first, hash);
    }
    hash.c_string(b"[");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            hash.c_string(b", ");
        }
        describe(value, hash);
    }
    hash.c_string(b"]");
}

fn describe_int(tag: i32, value: i64, hash: &mut Fnv) {
    hash.tag(tag);
    hash.add(&value.to_le_bytes());
}

fn describe_count(value: u64, hash: &mut Fnv) {
    hash.tag(tag::COUNT);
    hash.add(&value.to_le_bytes());
}

fn describe_double(tag: i32, value: f64, hash: &mut Fnv) {
    hash.tag(tag);
    hash.add(&value.to_le_bytes());
}

fn describe_address(value: Address, hash: &mut Fnv) {
    hash.tag(tag::ADDR);
    hash.c_string(value.to_zeek_text().as_bytes());
}

fn describe_subnet(value: Subnet, hash: &mut Fnv) {
    hash.tag(tag::SUBNET);
    hash.c_string(value.to_zeek_text().as_bytes());
}

fn describe_port(value: Port, hash: &mut Fnv) {
    hash.tag(tag::PORT);
    hash.add(&u32::from(value.number).to_le_bytes());
    hash.c_string(b"/");
    hash.add(value.protocol.name().as_bytes());
}

fn describe_enum(type_name: &[u8], value_name: &[u8], hash: &mut Fnv) {
    hash.tag(tag::ENUM);
    hash.add(type_name);
    hash.c_string(value_name);
}

/// A value as Zeek's `cat` writes it.
fn describe_text(value: &Data, hash: &mut Fnv) {
    match value {
        Data::Boolean(value) => hash.add(if *value { b"T" } else { b"F" }),
        Data::String(bytes) => hash.add(bytes),
        Data::Enum(name) => hash.add(name.as_bytes()),
        Data::Count(value) => hash.add(value.to_string().as_bytes()),
        Data::Integer(value) => hash.add(value.to_string().as_bytes()),
        Data::Address(value) => hash.add(value.to_zeek_text().as_bytes()),
        Data::Subnet(value) => hash.add(value.to_zeek_text().as_bytes()),
        Data::Port(value) => hash.add(value.to_string().as_bytes()),
        value => describe(value, hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_agree_with_the_tests_of_zeek() {
        for (key, digest) in [
            (Key::from("a"), 0xe40c_292c),
            (Key::from("foobar"), 0xbf9c_f968),
            (Key::from("a very very long input sort of"), 0xd14b_f21b),
            (Key::from("123"), 0x7238_631b),
            (Key::from(123_u64), 0xc5b4_42fd),
            (Key::from(123.0), 0x15d2_016f),
            (Key::from("T"), 0xd10c_0b43),
            (Key::from(true), 0x6c11_51a5),
            (Key::from(false), 0x0eaf_f284),
            (Key::from([1, 2, 3, 4].as_slice()), 0x5734_a87d),
        ] {
            assert_eq!(key.digest(), digest, "{key:?}");
        }
    }

    #[test]
    fn the_owner_agrees_with_the_tests_of_zeek() {
        let owner = |key: Key, sites: &[u32]| {
            sites
                .iter()
                .copied()
                .max_by_key(|&site| (weight(key.digest(), site), site))
        };
        let keys = [
            Key::from("one"),
            Key::from("two"),
            Key::from("three"),
            Key::from("four"),
            Key::from("five"),
            Key::from("six"),
            Key::from(1_u64),
            Key::from(2_u64),
            Key::from(3_u64),
        ];
        let owners = |sites: &[u32]| keys.map(|key| owner(key, sites).unwrap());
        assert_eq!(owners(&[0, 1, 3, 4]), [0, 3, 1, 1, 3, 3, 1, 0, 1]);
        assert_eq!(owners(&[1, 3, 4]), [1, 3, 1, 1, 3, 3, 1, 4, 1]);
    }

    #[test]
    fn compound_keys_have_the_bytes_that_zeek_describes() {
        let address: Address = "10.0.0.1".parse().unwrap();
        let pair = [Data::Address(address), Data::Port(Port::tcp(22))];
        let list: &[&[u8]] = &[
            &[16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            &[11, 0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            &[11, 0, 0, 0],
            b"10.0.0.1\0",
            &[10, 0, 0, 0, 22, 0, 0, 0],
            b"/\0tcp",
        ];
        assert_eq!(Key::list(&pair).digest(), fnv1a32(&list.concat()));
        assert_eq!(
            Key::from(&Data::Vector(pair.to_vec().into())),
            Key::list(&pair)
        );
        assert_eq!(Key::cat(&pair), Key::from("10.0.0.122/tcp"));

        let texts = [
            Data::String(b"a".to_vec().into()),
            Data::String(b"bc".to_vec().into()),
        ];
        let vector: &[&[u8]] = &[
            &[19, 0, 0, 0, 7, 0, 0, 0],
            b"[\0",
            &[7, 0, 0, 0, 1, 0, 0, 0],
            b"a",
            b", \0",
            &[7, 0, 0, 0, 2, 0, 0, 0],
            b"bc",
            b"]\0",
        ];
        assert_eq!(Key::vector(&texts).digest(), fnv1a32(&vector.concat()));
        assert_eq!(
            Key::enumeration("Notice::Action", "Notice::ACTION_LOG").digest(),
            fnv1a32(b"\x09\0\0\0Notice::ActionNotice::ACTION_LOG\0")
        );
    }

    #[test]
    fn a_value_and_the_data_of_it_are_one_key() {
        let address: Address = "2001:db8::1".parse().unwrap();
        assert_eq!(Key::from(&Data::Address(address)), Key::from(address));
        assert_eq!(
            Key::from(address).digest(),
            fnv1a32(b"\x0b\0\0\x002001:db8::1\0")
        );
        assert_eq!(
            Key::from(&Data::String(b"x".to_vec().into())),
            Key::from("x")
        );
        assert_eq!(Key::from(&Data::Count(1)), Key::from(1_u64));
        assert_eq!(Key::from(&Data::Boolean(true)), Key::from(true));
        let subnet: Subnet = "10.0.0.0/8".parse().unwrap();
        assert_eq!(
            Key::from(subnet).digest(),
            fnv1a32(b"\x0c\0\0\x0010.0.0.0/8\0")
        );
    }

    #[test]
    fn addresses_are_written_as_zeek_writes_them() {
        for (address, text) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::", "::"),
            ("::1", "::1"),
            ("::2", "::2"),
            ("::1:2", "::0.1.0.2"),
            ("::ffff:0:1:2", "::ffff:0:0.1.0.2"),
            ("2001:db8::1:0:0:1", "2001:db8::1:0:0:1"),
        ] {
            assert_eq!(address.parse::<Address>().unwrap().to_zeek_text(), text);
        }
    }
}
