//! Names of enum values.

use std::fmt;

use crate::text::write_enum;

/// The name of an enum value, such as `Notice::ACTION_LOG`. It need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnumValue(Box<[u8]>);

impl EnumValue {
    /// Makes an enum value of a name.
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        Self(name.as_ref().into())
    }

    /// Returns the bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the name, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Returns the borrowed form.
    pub fn as_enum_ref(&self) -> EnumRef<'_> {
        EnumRef(&self.0)
    }
}

/// The borrowed name of an enum value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnumRef<'a>(&'a [u8]);

impl<'a> EnumRef<'a> {
    /// Makes an enum value of a name.
    pub fn new(name: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self(name.as_ref())
    }

    /// Returns the bytes of the name.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Returns the name, if it is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }

    /// Returns the owned form.
    pub fn to_value(&self) -> EnumValue {
        EnumValue(self.0.into())
    }
}

impl fmt::Display for EnumValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_enum(&self.0, f)
    }
}

impl fmt::Debug for EnumValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_enum(&self.0, f)
    }
}

impl fmt::Display for EnumRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_enum(self.0, f)
    }
}

impl fmt::Debug for EnumRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_enum(self.0, f)
    }
}
