//! Lines of a file in bounded memory.

use std::io::{self, BufRead};

use memchr::memchr;

/// The longest line that is read, in bytes; longer ones are skipped.
pub const LONGEST_LINE: usize = 1 << 20;

/// The bytes that are kept of a line that is skipped.
const KEPT: usize = 64;

/// A line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The line is in [`Lines::bytes`]; whether a line end followed it.
    Whole {
        /// `false` for a last line that just stops.
        is_ended: bool,
    },
    /// The line was longer than [`LONGEST_LINE`]; only its first bytes are in [`Lines::bytes`].
    TooLong,
}

/// Reader of lines that end in LF or CR LF.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    line: Vec<u8>,
    number: u64,
    /// Bytes up to the end of what was read.
    offset: u64,
    /// Where the line that was read last begins.
    start: u64,
    /// The line in `line` has not come to its end.
    is_partial: bool,
    is_too_long: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            line: Vec::with_capacity(1024),
            number: 0,
            offset: 0,
            start: 0,
            is_partial: false,
            is_too_long: false,
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

    /// Where the line that was read last begins, and where it ends.
    pub(super) fn span(&self) -> (u64, u64) {
        (self.start, self.offset)
    }

    /// Where the last whole line ends, and its number.
    pub(super) fn place(&self) -> (u64, u64) {
        if self.is_partial {
            (self.start, self.number - 1)
        } else {
            (self.offset, self.number)
        }
    }

    /// What the lines are read from.
    pub(super) fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// The source was moved on by so many bytes.
    pub(super) fn passed_over(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    /// Passes over everything before an offset, where a line of this number ended. `false` if the source ends before.
    pub(super) fn skip_to(&mut self, offset: u64, number: u64) -> io::Result<bool> {
        while self.offset < offset {
            let piece = match self.source.fill_buf() {
                Ok(piece) => piece.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece == 0 {
                return Ok(false);
            }
            let rest = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
            let used = piece.min(rest);
            self.source.consume(used);
            self.offset += used as u64;
        }
        (self.number, self.is_partial) = (number, false);
        Ok(true)
    }

    /// Reads the next line. `None` at the end; an error leaves the line that it hit incomplete. If the source has
    /// nothing at the moment, the next call goes on with the line.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        if !self.is_partial {
            self.line.clear();
            self.number += 1;
            self.start = self.offset;
            (self.is_partial, self.is_too_long) = (true, false);
        }
        let is_ended = loop {
            let piece = match self.source.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece.is_empty() {
                break false;
            }
            // A file that was made empty while its writer goes on has zeros where its rows were.
            if self.line.is_empty() && !self.is_too_long && piece.first() == Some(&0) {
                let zeros = piece.iter().take_while(|byte| **byte == 0).count();
                self.source.consume(zeros);
                self.offset += zeros as u64;
                continue;
            }
            let end = memchr(b'\n', piece);
            let text = &piece[..end.unwrap_or(piece.len())];
            if self.is_too_long {
                // Its beginning is kept.
            } else if self.line.len() + text.len() > LONGEST_LINE {
                self.is_too_long = true;
                self.line.extend_from_slice(&text[..text.len().min(KEPT)]);
                self.line.truncate(KEPT);
            } else {
                self.line.extend_from_slice(text);
            }
            let used = text.len() + usize::from(end.is_some());
            self.source.consume(used);
            self.offset += used as u64;
            if end.is_some() {
                break true;
            }
        };
        self.is_partial = false;
        if self.is_too_long {
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
        let mut text = b"begin".to_vec();
        text.extend(vec![b'x'; 3 * LONGEST_LINE]);
        text.extend_from_slice(b"\nshort\n");
        let mut lines = Lines::new(io::BufReader::new(&text[..]));
        assert_eq!(lines.next().unwrap(), Some(Line::TooLong));
        assert!(lines.line.capacity() <= 2 * LONGEST_LINE);
        assert!(lines.bytes().starts_with(b"beginx") && lines.bytes().len() <= KEPT);
        assert_eq!(lines.next().unwrap(), Some(Line::Whole { is_ended: true }));
        assert_eq!((lines.bytes(), lines.number()), (&b"short"[..], 2));
    }

    /// A source that has nothing before every byte.
    struct Halting<'a>(&'a [u8], bool);

    impl io::Read for Halting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            io::Read::read(&mut self.0, &mut buffer[..1])
        }
    }

    #[test]
    fn a_line_goes_on_when_its_rest_comes() {
        let mut lines = Lines::new(io::BufReader::new(Halting(b"ab\n\nc", false)));
        let mut found = Vec::new();
        loop {
            match lines.next() {
                Ok(None) => break,
                Ok(Some(_)) => found.push((lines.bytes().to_vec(), lines.number(), lines.span())),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    let ends = [(0, 0), (3, 1), (4, 2), (5, 3)];
                    assert!(ends.contains(&lines.place()), "{:?}", lines.place());
                }
            }
        }
        let line = |text: &str, number, span| (text.as_bytes().to_vec(), number, span);
        assert_eq!(
            found,
            [
                line("ab", 1, (0, 3)),
                line("", 2, (3, 4)),
                line("c", 3, (4, 5))
            ]
        );
    }

    #[test]
    fn what_was_read_before_is_passed_over() {
        let mut lines = Lines::new(io::BufReader::with_capacity(2, &b"head\nold\nnew\n"[..]));
        lines.next().unwrap();
        assert!(lines.skip_to(9, 2).unwrap());
        lines.next().unwrap();
        assert_eq!(
            (lines.bytes(), lines.number(), lines.span()),
            (&b"new"[..], 3, (9, 13))
        );
        assert!(!lines.skip_to(14, 3).unwrap());
    }
}
