use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use muster_test_support::Random;

use super::*;

/// Sections with their values, as Python's `configparser` has them.
type Read = BTreeMap<String, BTreeMap<String, String>>;

fn read(text: &str) -> Result<Read, Problem> {
    let ini = Ini::parse(text)?;
    let mut read = Read::new();
    for section in ini.sections() {
        let values = ini.values(section)?;
        let texts = values.into_iter().map(|(key, value)| (key, value.text));
        read.insert(section.name.clone(), texts.collect());
    }
    Ok(read)
}

fn value(text: &str, section: &str, key: &str) -> String {
    read(text).unwrap()[section][key].clone()
}

#[test]
fn what_follows_a_bracket_is_ignored() {
    let text = "[manager] # the head\ntype = manager\n";
    assert_eq!(value(text, "manager", "type"), "manager");
}

#[test]
fn indented_lines_continue_a_value() {
    let text = "[w]\npin_cpus=0,1,\n    2,3\n\n  # not this\n\t4\nhost : h\n";
    assert_eq!(value(text, "w", "pin_cpus"), "0,1,\n2,3\n\n4");
    assert_eq!(value(text, "w", "host"), "h");
    // An indented section is none where a value may go on.
    assert_eq!(value("[w]\na=1\n [x]\n", "w", "a"), "1\n[x]");
}

#[test]
fn defaults_hold_for_every_section() {
    let text = "[w]\ntype=worker\n[DEFAULT]\nhost=h\nType=none\n";
    assert_eq!(value(text, "w", "host"), "h");
    assert_eq!(value(text, "w", "type"), "worker");
}

#[test]
fn names_in_values_are_replaced() {
    let text = "[DEFAULT]\nnet=10.0.0\n[w]\nhost=%(NET)s.%(last)s%%eth0\nlast=1\n";
    assert_eq!(value(text, "w", "host"), "10.0.0.1%eth0");
}

#[test]
fn problems_name_their_line() {
    let line = |text: &str| read(text).unwrap_err().line;
    assert_eq!(line("\nkey=1\n"), 2);
    assert_eq!(line("[a]\nnonsense\n"), 2);
    assert_eq!(line("[a]\n=1\n"), 2);
    assert_eq!(line("[a]\n[b]\n[a]\n"), 3);
    assert_eq!(line("[a]\nk=1\nK=2\n"), 3);
    assert_eq!(line("[a]\nk=1\nl=%(m)s\n"), 3);
    assert_eq!(line("[a]\nk=1\nl=fe80::1%eth0\n"), 3);
    assert_eq!(line("[a]\nk=%(k)s\n"), 2);
}

#[test]
fn a_value_that_multiplies_is_no_value() {
    let mut text = "[a]\nk0=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n".to_owned();
    for level in 1..9 {
        let before = format!("%(k{})s", level - 1).repeat(100);
        let _ = writeln!(text, "k{level}={before}");
    }
    let problem = read(&text).unwrap_err();
    assert!(problem.message.contains("65536"), "{problem:?}");
}

/// Pieces of files, of which the hard cases are made.
const PIECES: [&str; 36] = [
    "\n",
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    "  ",
    "\t",
    "=",
    ":",
    "#",
    ";",
    "[",
    "]",
    "[a]",
    "[b] # c",
    "[DEFAULT]",
    "[]",
    "key",
    "Key",
    "host",
    "type=worker",
    "a=1",
    "b = 2 ; c",
    "%",
    "%%",
    "%(a)s",
    "%(key)s",
    "%(b)s",
    "\u{b}",
    "\u{1f}",
    "é",
    "\n\n",
    "\n    ",
    "\u{a0}",
];

const PYTHON: &str = r"
import configparser, io, json, sys
if sys.version_info < (3, 11):
    sys.exit(3)
answers = []
for text in json.load(sys.stdin):
    parser = configparser.ConfigParser()
    try:
        parser.read_file(io.StringIO(text, newline=None))
        answers.append({name: dict(parser.items(name)) for name in parser.sections()})
    except configparser.Error:
        answers.append(None)
json.dump(answers, sys.stdout)
";

/// What Python makes of these files; nothing where there is no Python that reads them as today's does.
fn python(texts: &[String]) -> Option<Vec<Option<Read>>> {
    let python = Command::new("python3")
        .args(["-c", PYTHON])
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut python = python.ok()?;
    let sent = serde_json::to_string(texts).unwrap();
    let mut stdin = python.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(sent.as_bytes()));
    let output = python.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn files_are_read_as_python_reads_them() {
    let mut random = Random::new(2017);
    let texts: Vec<String> = (0..20_000)
        .map(|_| {
            let pieces = random.below(24);
            let first = if random.chance(70) { "[a]\n" } else { "" };
            let rest = (0..pieces).map(|_| PIECES[random.below(PIECES.len())]);
            std::iter::once(first).chain(rest).collect()
        })
        .collect();
    let Some(expected) = python(&texts) else {
        println!("SKIPPED: there is no Python 3.11 or later to compare with");
        return;
    };
    let mut both = 0;
    for (text, expected) in texts.iter().zip(expected) {
        assert_eq!(read(text).ok(), expected, "{text:?}");
        both += usize::from(read(text).is_ok_and(|read| !read.is_empty()));
    }
    assert!(both > 1000, "only {both} files were read");
}
