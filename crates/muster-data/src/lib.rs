//! Muster value model: typed values, text form, binary encoding, typed conversion.
