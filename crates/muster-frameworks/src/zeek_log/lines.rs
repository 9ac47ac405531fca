//! Lines of a file in bounded memory.

use std::io::{self, BufRead};

use memchr::memchr;

/// The longest line that is read, in bytes; longer ones are skipped.
pub const LONGEST_LINE: usize = 1 << 20;

/// A line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The line is in [`Lines::bytes`]; whether a line end followed it.
    Whole {
        /// `false` for a last line that just stops.
        is_ended: bool,
    },
    /// The line was longer than [`LONGEST_LINE`] and is lost.
    TooLong,
}

/// Reader of lines that end in LF or CR LF.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            line: Vec::with_capacity(1024),
            number: 0,
        }
    }

    /// The line that was read last.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.line
    }

    /// The number of the line that was read last, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line. `None` at the end; an error leaves the line that it hit incomplete.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        self.line.clear();
        self.number += 1;
        let mut is_too_long = false;
        let is_ended = loop {
            let piece = match self.source.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece.is_empty() {
                break false;
            }
            let end = memchr(b'\n', piece);
            let text = &piece[..end.unwrap_or(piece.len())];
            if self.line.len() + text.len() > LONGEST_LINE {
                is_too_long = true;
                self.line.clear();
            }
            if !is_too_long {
                self.line.extend_from_slice(text);
            }
            let used = text.len() + usize::from(end.is_some());
            self.source.consume(used);
            if end.is_some() {
                break true;
            }
        };
        if is_too_long {
            return Ok(Some(Line::TooLong));
        }
        if !is_ended && self.line.is_empty() {
            self.number -= 1;
            return Ok(None);
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(Some(Line::Whole { is_ended }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], buffer: usize) -> Vec<(Line, Vec<u8>)> {
        let mut lines = Lines::new(io::BufReader::with_capacity(buffer, text));
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push((line, lines.bytes().to_vec()));
        }
        all
    }

    #[test]
    fn line_ends() {
        let ended = Line::Whole { is_ended: true };
        let last = Line::Whole { is_ended: false };
        for buffer in [1, 2, 3, 64] {
            let lines = read(b"a\r\n\nbc\nlast", buffer);
            let expected: [(Line, &[u8]); 4] =
                [(ended, b"a"), (ended, b""), (ended, b"bc"), (last, b"last")];
            assert!(
                lines
                    .iter()
                    .map(|(line, text)| (*line, &text[..]))
                    .eq(expected)
            );
        }
        assert!(read(b"", 8).is_empty());
    }

    #[test]
    fn long_lines_are_passed_over_in_bounded_memory() {
        let mut text = vec![b'x'; 3 * LONGEST_LINE];
        text.extend_from_slice(b"\nshort\n");
        let mut lines = Lines::new(io::BufReader::new(&text[..]));
        assert_eq!(lines.next().unwrap(), Some(Line::TooLong));
        assert!(lines.line.capacity() <= 2 * LONGEST_LINE);
        assert_eq!(lines.next().unwrap(), Some(Line::Whole { is_ended: true }));
        assert_eq!((lines.bytes(), lines.number()), (&b"short"[..], 2));
    }
}
