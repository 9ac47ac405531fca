//! Whole logs: every form, and every kind of damage.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use muster_data::Protocol;
use proptest::prelude::*;

use super::*;

const HEADER: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n\
    #unset_field\t-\n#path\tssl\n#open\t2024-04-12-19-29-12\n\
    #fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\testablished\n\
    #types\ttime\tstring\taddr\tport\taddr\tport\tbool\n";

const ROW: &str = "1521911720.615923\tCm1\t10.0.0.1\t39611\t::1\t443\tT\n";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// All connections, and the kind and line of every error.
fn read(name: &str, bytes: &[u8]) -> (Vec<Connection>, Vec<(LogErrorKind, u64)>, usize) {
    let mut reader = ConnectionReader::new(name, std::io::Cursor::new(bytes.to_vec())).unwrap();
    let (mut connections, mut errors, mut others) = (Vec::new(), Vec::new(), 0);
    loop {
        match reader.next_connection() {
            Ok(None) => break,
            Ok(Some(None)) => others += 1,
            Ok(Some(Some(connection))) => connections.push(connection.into_owned()),
            Err(error) => {
                assert!(error.to_string().starts_with(name), "{error}");
                errors.push((error.kind(), error.line()));
            }
        }
    }
    (connections, errors, others)
}

fn one(name: &str, text: &str) -> Connection {
    let (mut connections, errors, _) = read(name, text.as_bytes());
    assert_eq!((connections.len(), errors.len()), (1, 0), "{text}");
    connections.remove(0)
}

#[test]
fn every_form_gives_the_same_connection() {
    let expected = Connection {
        ts: muster_data::Timestamp::from_nanos(1_521_911_720_615_923_000),
        uid: "Cm1".into(),
        orig_h: "10.0.0.1".parse().unwrap(),
        orig_p: muster_data::Port::tcp(39611),
        resp_h: "::1".parse().unwrap(),
        resp_p: muster_data::Port::tcp(443),
        log: "ssl".into(),
        service: Some("ssl".into()),
        conn_state: None,
        established: Some(true),
        software: Vec::new(),
        is_service: None,
    };
    let tsv = format!("{HEADER}{ROW}#close\t2024-04-12-19-34-07\n");
    let other = tsv
        .replace("#separator \\x09", "#separator \\x7c\\x7c")
        .replace('\t', "||");
    let flat = r#"{"_path":"ssl","_write_ts":"2018-03-24T17:15:21Z","ts":"2018-03-24T17:15:20.615923Z","uid":"Cm1","id.orig_h":"10.0.0.1","id.orig_p":39611,"id.resp_h":"::1","id.resp_p":443,"established":true}"#;
    let nested = r#"{"ts":1521911720.615923,"uid":"Cm1","id":{"orig_h":"10.0.0.1","orig_p":39611,"resp_h":"::1","resp_p":443},"proto":"tcp","established":true}"#;
    for text in [
        tsv.as_str(),
        &tsv.replace('\n', "\r\n"),
        &tsv.replace('\n', "\n\n"),
        &format!("\u{feff}{tsv}"),
        &tsv.replace("#path\tssl\n", ""),
        &tsv.replace("#types\ttime\tstring\taddr\tport\taddr\tport\tbool\n", ""),
        &tsv.replace("Cm1", "C\\x6d1"),
        &tsv.replace("#separator \\x09", "#separator\t \\x09 "),
        &tsv.replace("#separator \\x09", "#separator \t"),
        &tsv.replace("#separator \\x09\n", ""),
        &format!("# made by hand\n#\n{tsv}"),
        tsv.replace("\t443\t", "\t443.0\t")
            .replace("#close\t2024-04-12-19-34-07\n", "")
            .trim_end(),
        &tsv.replace("id.", "id_"),
        &other,
        flat,
        nested,
        &format!("\n{flat}\r\n\n"),
        &format!("# a comment\n{nested}"),
        &flat.replace(":443", ":\"443\"").replace("39611", "39611.0"),
        &flat.replace("17:15:20.615923Z", "19:15:20.615923+02:00"),
        &flat.replace("id.", "id_"),
        &format!("{{\"ssl\":{nested}}}"),
        &format!("{{\"message\":{}}}", serde_json::to_string(flat).unwrap()),
        &flat.replace("Cm1", "C\\x6d1"),
    ] {
        assert_eq!(one("dir.d/ssl.2018-03-24.log", text), expected, "{text}");
        let (connections, errors, _) = read("ssl.log.gz", &gzip(text.as_bytes()));
        assert_eq!(
            (&connections[..], errors.len()),
            (&[expected.clone()][..], 0)
        );
    }
    let zstd = zstd::encode_all(tsv.as_bytes(), 1).unwrap();
    assert_eq!(
        read("ssl.log.zst", &zstd).0[..],
        std::slice::from_ref(&expected)[..]
    );
    for name in ["ssl-18-03-24_17.00.00.log", "ssl", "a-b/ssl.log"] {
        assert_eq!(one(name, nested).log, "ssl");
    }
    // Several members, as `cat a.gz b.gz` makes them; the header changes in the middle.
    let second = "#separator \\x09\n#path\tssh\n#fields\tid.resp_p\tid.resp_h\tid.orig_p\tid.orig_h\tts\n\
        22\t10.0.0.2\t5\t10.0.0.1\t7\n";
    let both = [gzip(tsv.as_bytes()), gzip(second.as_bytes())].concat();
    let (connections, errors, _) = read("both.gz", &both);
    assert_eq!(errors, []);
    assert_eq!(connections[0], expected);
    assert_eq!((&*connections[1].log, &*connections[1].uid), ("ssh", ""));
    assert_eq!(connections[1].resp_p, muster_data::Port::tcp(22));
}

#[test]
fn a_bad_row_costs_that_row() {
    let long = format!("{}\n", "x".repeat(LONGEST_LINE + 1));
    let text = format!(
        "{HEADER}{ROW}too\tfew\n{}{}{}{long}{}{ROW}",
        ROW.replace("1521911720", "x"),
        ROW.replace("39611", "70000"),
        ROW.replace("::1", "::x"),
        ROW.replace("10.0.0.1", "-"),
    );
    let (connections, errors, others) = read("ssl.log", text.as_bytes());
    assert_eq!((connections.len(), others), (2, 1));
    let expected = [
        (LogErrorKind::ColumnCount, 10),
        (LogErrorKind::Value, 11),
        (LogErrorKind::Value, 12),
        (LogErrorKind::Value, 13),
        (LogErrorKind::LineTooLong, 14),
    ];
    assert_eq!(errors, expected);

    // A first row that is too long is one row, too.
    let ends = r#""ts":1,"id.orig_h":"::1","id.orig_p":1,"id.resp_h":"::2","id.resp_p":2"#;
    let json = format!("{{\"a\":\"{long}{{{ends}}}\n");
    let (connections, errors, _) = read("x.json", json.as_bytes());
    assert_eq!(
        (connections.len(), errors),
        (1, vec![(LogErrorKind::LineTooLong, 1)])
    );

    let json = "{\"ts\":1,\"id.orig_h\":\"::1\"}\n{\"ts\":\n[1]\n{}\n";
    let (_, errors, others) = read("x.json", json.as_bytes());
    assert_eq!(errors, [(LogErrorKind::Json, 2), (LogErrorKind::Json, 3)]);
    assert_eq!(others, 2);
}

#[test]
fn a_damaged_file_ends_behind_its_last_good_row() {
    let good = format!("{HEADER}{ROW}{ROW}");
    let check = |bytes: &[u8], kind, line| {
        let (connections, errors, _) = read("ssl.log", bytes);
        assert_eq!(connections.len(), 2);
        assert_eq!(errors, [(kind, line)]);
    };
    let torn = format!("{good}1521911720.61\tCm1");
    check(torn.as_bytes(), LogErrorKind::Truncated, 11);
    let types = format!("{good}#separator \\x09\n#fields\ta\tb\n#types\tstring\n{ROW}");
    check(types.as_bytes(), LogErrorKind::Header, 13);
    let headless = format!("{good}#separator \\x09\n{ROW}");
    check(headless.as_bytes(), LogErrorKind::Header, 12);
    let twice = format!("{good}#separator \\x09\n#fields\tts\tts\n");
    check(twice.as_bytes(), LogErrorKind::Header, 12);

    // Two rows in a whole member, then the beginning of another.
    let tail: String = (0..1000)
        .map(|n| ROW.replace("Cm1", &format!("C{n}")))
        .collect();
    let tail = gzip(tail.as_bytes());
    let cut = [&gzip(good.as_bytes())[..], &tail[..12]].concat();
    check(&cut, LogErrorKind::Truncated, 11);
    let garbage = [&gzip(good.as_bytes())[..], b"no gzip at all"].concat();
    check(&garbage, LogErrorKind::Corrupt, 11);

    // A member that is cut in its middle delivers the rows that are whole.
    let whole = gzip(format!("{good}{}", String::from_utf8_lossy(&[])).as_bytes());
    let (connections, errors, _) = read("ssl.log", &whole[..whole.len() - 9]);
    assert!(connections.len() <= 2);
    assert!(matches!(errors[..], [(LogErrorKind::Truncated, _)]));
}

#[test]
fn what_is_no_log_is_refused() {
    for text in [&b"ts,uid\n1,2\n"[..], b"\x00\x01\x02", b"[]", b"x"] {
        let (_, errors, _) = read("x", text);
        assert_eq!(errors, [(LogErrorKind::NotALog, 1)]);
    }
    let (_, errors, _) = read("x", &vec![b'x'; 3 << 20]);
    assert_eq!(errors, [(LogErrorKind::NotALog, 1)]);
    for text in [&b"#separator \n"[..], b"#separator\\x09\n", b"#separator"] {
        let (_, errors, _) = read("x", text);
        assert_eq!(errors, [(LogErrorKind::Header, 1)]);
    }
    // An empty file is a log without rows.
    assert_eq!(read("x", b""), (vec![], vec![], 0));
    assert_eq!(read("x", b"\n\n"), (vec![], vec![], 0));
    assert_eq!(read("x", b"# nothing\n#fields\tts\n"), (vec![], vec![], 0));

    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_owned(), directory.path().join("absent")] {
        let error = ConnectionReader::open(&path).unwrap_err();
        assert_eq!((error.kind(), error.line()), (LogErrorKind::Io, 0));
    }
}

#[test]
fn a_column_without_a_name_is_nobodys() {
    // What `zeek-cut -C` makes of columns that the log does not have.
    let text = "#separator \\x09\n#path\tssl\n#fields\t\tts\tid.orig_h\tid.orig_p\t\tid.resp_h\tid.resp_p\n\
        #types\t\ttime\taddr\tport\t\taddr\tport\n\t1.5\t10.0.0.1\t5\t\t10.0.0.2\t443\n";
    assert_eq!(one("x", text).resp_p, muster_data::Port::tcp(443));
}

#[test]
fn bytes_of_any_kind_are_part_of_their_row() {
    let ends =
        r#""ts":1,"id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":80"#;
    let agent = |text: &[u8], form: &str| {
        let bytes = if form == "json" {
            [
                format!("{{{ends},\"user_agent\":\"").as_bytes(),
                text,
                b"\"}\n",
            ]
            .concat()
        } else {
            let header = "#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tuser_agent\n";
            let row = format!("{header}1.0\t10.0.0.1\t1\t10.0.0.2\t80\t");
            [row.as_bytes(), text, b"\n"].concat()
        };
        let (mut connections, errors, _) = read("http.log", &bytes);
        assert_eq!(
            (connections.len(), errors.len()),
            (1, 0),
            "{}",
            text.escape_ascii()
        );
        connections.remove(0).software.remove(0).text
    };
    for (text, form, bytes) in [
        (&b"a\tb\0c"[..], "json", &b"a\tb\0c"[..]),
        (b"caf\xe9/1", "json", b"caf\xe9/1"),
        (b"\\x41\\xe9", "json", b"A\xe9"),
        (b"\\u00e9", "json", "\u{e9}".as_bytes()),
        (b"caf\xe9/1", "tsv", b"caf\xe9/1"),
        (b"caf\\xe9/1", "tsv", b"caf\xe9/1"),
    ] {
        assert_eq!(agent(text, form), bytes, "{form} {}", text.escape_ascii());
    }
}

#[test]
fn a_row_tells_its_log_before_names_do() {
    let ends =
        r#""ts":1,"id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":2"#;
    let log = |name: &str, more: &str| {
        let connection = one(name, &format!("{{{ends}{more}}}"));
        (connection.log, connection.established)
    };
    let is = |log: &str, established| (log.to_owned(), established);
    let failed = r#","conn_state":"S0""#;
    for name in [
        "sensor1_conn.log",
        "x.json",
        "ssl.log",
        "notice.log",
        "20180324.log",
    ] {
        assert_eq!(log(name, failed), is("conn", Some(false)), "{name}");
    }
    for path in ["conn", "conn-ssl", "conn_red", "my_filter"] {
        let more = format!(r#","_path":"{path}"{failed}"#);
        assert_eq!(log("x.log", &more), is("conn", Some(false)), "{path}");
    }
    assert_eq!(log("conn.log", r#","_path":"weird""#), is("weird", None));
    assert_eq!(
        log("conn.log", r#","note":"Scan::Port_Scan""#),
        is("notice", None)
    );
    assert_eq!(
        log("all.log", r#","qtype_name":"A""#),
        is("dns", Some(false))
    );
    assert_eq!(log("sensor-ssl.log", ""), is("ssl", None));
    assert_eq!(log("x.log", r#","_path":"bacnet""#), is("bacnet", None));
    let tsv = "#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tconn_state\n\
        1.0\t10.0.0.1\t1\t10.0.0.2\t2\tREJ\n";
    assert_eq!(one("http.log", tsv).established, Some(false));
}

#[test]
fn services_are_read_in_every_form() {
    let ends =
        r#""ts":1,"id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":2"#;
    for (written, service) in [
        (r#""http""#, Some("http")),
        (r#""http,ssl""#, Some("http,ssl")),
        (r#"["http","ssl"]"#, Some("http,ssl")),
        (r#""{http,\n ssl}""#, Some("http,ssl")),
        (r#""http,-http""#, Some("http,-http")),
        (r#""-""#, None),
        (r#""""#, None),
        ("[]", None),
    ] {
        let text = format!(r#"{{{ends},"conn_state":"SF","service":{written}}}"#);
        assert_eq!(
            one("conn.log", &text).service.as_deref(),
            service,
            "{written}"
        );
    }
    // A server of DNS that has sent nothing is none.
    let dns = |bytes: u8| {
        let text = format!(
            r#"{{{ends},"proto":"tcp","conn_state":"SF","service":"dns","resp_bytes":{bytes}}}"#
        );
        one("conn.log", &text).is_service
    };
    assert_eq!((dns(0), dns(1)), (Some(false), Some(true)));
}

#[test]
fn reading_goes_on_at_a_place() {
    let second = "#separator \\x09\n#path\tssh\n#fields\tid.resp_p\tid.resp_h\tid.orig_p\tid.orig_h\tts\n\
        22\t10.0.0.2\t5\t10.0.0.1\t7\n23\t10.0.0.2\t5\t10.0.0.1\t8\n#close\tx\n24\t10.0.0.2\t5\t10.0.0.1\t9\n";
    let row =
        "{\"ts\":1,\"id.orig_h\":\"::1\",\"id.orig_p\":1,\"id.resp_h\":\"::2\",\"id.resp_p\":2}\n";
    let json = (1..6).fold(String::new(), |rows, n| {
        rows + &row.replace(":2}", &format!(":{n}}}"))
    });
    for text in [format!("{HEADER}{ROW}{ROW}{second}"), json] {
        for bytes in [text.clone().into_bytes(), gzip(text.as_bytes())] {
            let mut reader =
                ConnectionReader::new("x", std::io::Cursor::new(bytes.clone())).unwrap();
            let mut rows = Vec::new();
            let mut places = vec![reader.place()];
            while let Some(row) = reader.next_connection().unwrap() {
                rows.push(row.unwrap().into_owned());
                places.push(reader.place());
            }
            assert_eq!(rows.len(), 5);
            for (at, place) in places.iter().enumerate() {
                let mut reader = ConnectionReader::resumed(
                    "x",
                    Positioned::new(bytes.clone()),
                    place,
                    &Windows::default(),
                );
                let mut rest = Vec::new();
                while let Some(row) = reader.next_connection().unwrap() {
                    rest.push(row.unwrap().into_owned());
                }
                assert_eq!(rest, rows[at..], "from {place:?}");
            }
            let behind = Place {
                offset: 1 << 20,
                ..Place::default()
            };
            let mut reader = ConnectionReader::resumed(
                "x",
                Positioned::new(bytes),
                &behind,
                &Windows::default(),
            );
            assert!(reader.next_connection().unwrap().is_none());
        }
    }
}

/// A source that can pass over bytes, and counts those that are read.
struct Positioned(std::io::Cursor<Vec<u8>>, Arc<AtomicU64>);

impl Positioned {
    fn new(bytes: Vec<u8>) -> Self {
        Self(std::io::Cursor::new(bytes), Arc::default())
    }
}

impl std::io::Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl PassOver for Positioned {
    fn pass_over(&mut self, bytes: u64) -> std::io::Result<u64> {
        let to = self.0.position() + bytes;
        if to > self.0.get_ref().len() as u64 {
            return Ok(0);
        }
        self.0.set_position(to);
        Ok(bytes)
    }
}

#[test]
fn what_was_read_before_is_not_read_again() {
    let rows = ROW.repeat(20_000);
    let text = format!("{HEADER}{rows}{ROW}").into_bytes();
    let place = Place {
        header: 0..HEADER.len() as u64,
        offset: (HEADER.len() + rows.len()) as u64,
        line: 20_008,
    };
    for text in [text.clone(), zstd::encode_all(&text[..], 1).unwrap()] {
        let is_plain = text.starts_with(b"#");
        let source = Positioned::new(text);
        let read = Arc::clone(&source.1);
        let mut reader = ConnectionReader::resumed("x", source, &place, &Windows::default());
        assert!(reader.next_connection().unwrap().is_some());
        assert_eq!(reader.place().line, place.line + 1);
        assert!(reader.next_connection().unwrap().is_none());
        let read = read.load(Ordering::Relaxed);
        assert!(!is_plain || read < 200_000, "{read} bytes were read");
    }
}

#[test]
fn each_log_tells_of_establishment_in_its_own_way() {
    let row = |path: &str, extra: &str| {
        let text = format!(
            r#"{{"_path":"{path}","ts":1,"id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":2{extra}}}"#
        );
        one("x.log", &text)
    };
    let cases = [
        ("conn", r#","proto":"icmp","conn_state":"SF""#, Some(true)),
        ("conn", r#","proto":"tcp","conn_state":"REJ""#, Some(false)),
        ("conn", r#","proto":"tcp""#, None),
        ("ssl", r#","established":false"#, Some(false)),
        ("ssl", "", None),
        ("dns", r#","rcode":5,"rejected":true"#, Some(true)),
        ("dns", "", Some(false)),
        ("ssh", r#","auth_success":false"#, None),
        ("ssh", r#","server":"SSH-2.0""#, Some(true)),
        ("http", r#","status_code":404"#, Some(true)),
        ("syslog", "", None),
        ("snmp", r#","get_responses":2"#, Some(true)),
        ("snmp", r#","get_requests":2,"get_responses":0"#, None),
        ("radius", r#","result":"success""#, Some(true)),
        ("radius", r#","result":"unknown""#, None),
        ("ntp", r#","mode":4"#, Some(true)),
        ("ntp", r#","mode":3"#, None),
        ("sip", r#","status_code":200"#, Some(true)),
        ("quic", r#","history":"I""#, None),
        ("quic", r#","history":"Ii""#, Some(true)),
        ("kerberos", r#","success":true"#, Some(true)),
        ("kerberos", "", Some(false)),
        ("weird", "", None),
    ];
    for (path, extra, established) in cases {
        assert_eq!(row(path, extra).established, established, "{path} {extra}");
    }
    let protocol = |path, extra| row(path, extra).resp_p.protocol;
    assert_eq!(protocol("conn", r#","proto":"icmp""#), Protocol::Icmp);
    assert_eq!(protocol("dns", ""), Protocol::Udp);
    assert_eq!(protocol("dns", r#","proto":"tcp""#), Protocol::Tcp);
    assert_eq!(protocol("rdp", ""), Protocol::Tcp);
    assert_eq!(protocol("weird", ""), Protocol::Unknown);
    let service = |path, extra| row(path, extra).service;
    assert_eq!(
        service("conn", r#","service":"ssl,http""#).as_deref(),
        Some("ssl,http")
    );
    assert_eq!(service("conn", ""), None);
    assert_eq!(service("kerberos", "").as_deref(), Some("krb"));
    assert_eq!(service("weird", ""), None);
}

#[test]
fn borrowed_and_owned_connections_encode_alike() {
    let text = format!("{HEADER}{ROW}");
    let mut reader = ConnectionReader::new("x", std::io::Cursor::new(text)).unwrap();
    let connection = reader.next_connection().unwrap().flatten().unwrap();
    let bytes = muster_data::encode_to_vec(&connection);
    let owned = connection.into_owned();
    assert_eq!(bytes, muster_data::encode_to_vec(&owned));
    let limits = muster_data::Limits::default();
    let value = muster_data::DataRef::parse(&bytes, &limits).unwrap();
    assert_eq!(value.to::<Connection>(), Ok(owned));
}

fn drain(bytes: &[u8]) {
    let mut reader = LogReader::new("x", std::io::Cursor::new(bytes.to_vec()), &["a"]).unwrap();
    loop {
        match reader.next_row() {
            Ok(None) => break,
            Ok(Some(row)) => {
                row.get(0);
                row.fields().for_each(|(_, field)| drop(field.text()));
            }
            Err(_) => {}
        }
    }
    read("x", bytes);
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, at in 0_usize..400, noise: Vec<u8>) {
        drain(&bytes);
        let mut tsv = format!("{HEADER}{ROW}{ROW}").into_bytes();
        let at = at.min(tsv.len());
        tsv.splice(at..at, noise.iter().copied());
        drain(&tsv);
        let mut zipped = gzip(&tsv);
        let at = at.min(zipped.len());
        zipped.splice(at..at, noise);
        drain(&zipped);
    }

    #[test]
    fn garbage_lines_never_panic(lines in prop::collection::vec("[#{}a-z\"\\\\\t,:]{0,12}", 0..20)) {
        drain(format!("#separator \\x09\n{}", lines.join("\n")).as_bytes());
        drain(format!("{{\n{}", lines.join("\n")).as_bytes());
    }
}

/// Host, port, kind and text of what the row of a log names.
fn named(name: &str, row: &str) -> Vec<String> {
    let ends =
        r#""ts":1,"id.orig_h":"10.0.0.1","id.orig_p":1,"id.resp_h":"10.0.0.2","id.resp_p":22"#;
    let connection = one(name, &format!("{{{ends},{row}}}\n"));
    let named = connection.software.into_iter().map(|software| {
        let port = software
            .port
            .map_or("-".to_owned(), |port| port.to_string());
        format!(
            "{} {port} {} {}",
            software.host,
            software.kind,
            String::from_utf8_lossy(&software.text)
        )
    });
    named.collect()
}

#[test]
fn rows_name_software() {
    let ssh = r#""client":"SSH-2.0-OpenSSH_7.6","server":"SSH-1.99-Cisco-1.25""#;
    assert_eq!(
        named("ssh.log", ssh),
        [
            "10.0.0.1 - SSH::CLIENT OpenSSH_7.6",
            "10.0.0.2 22/tcp SSH::SERVER Cisco-1.25"
        ]
    );
    // Nothing is a name, or not a protocol's version.
    let ssh = r#""client":"","server":"SSHD""#;
    assert_eq!(named("ssh.log", ssh), ["10.0.0.2 22/tcp SSH::SERVER SSHD"]);
    assert_eq!(named("ssh.log", r#""server":"SSH-2.0-""#), [""; 0]);
    assert_eq!(
        named("http.log", r#""user_agent":"curl/8.4.0","server":"nginx""#),
        ["10.0.0.1 - HTTP::BROWSER curl/8.4.0"]
    );
    let smtp = |more: &str| named("smtp.log", &format!(r#""user_agent":"Mailer 1.2"{more}"#));
    let path = r#","path":["10.0.0.2","10.0.0.1","10.0.0.8","10.0.0.9"]"#;
    let webmail = r#","is_webmail":true"#;
    let by_http = r#","first_received":"from x ([10.0.0.9]) by y via HTTP""#;
    for (more, expected) in [
        (String::new(), "10.0.0.1 - SMTP::MAIL_CLIENT"),
        (path.to_owned(), "10.0.0.9 - SMTP::MAIL_CLIENT"),
        (format!("{path}{by_http}"), "10.0.0.9 - SMTP::MAIL_CLIENT"),
        (
            format!("{path}{webmail}"),
            "10.0.0.9 - SMTP::WEBMAIL_SERVER",
        ),
        (
            format!("{path}{webmail}{by_http}"),
            "10.0.0.8 - SMTP::WEBMAIL_SERVER",
        ),
    ] {
        assert_eq!(smtp(&more), [format!("{expected} Mailer 1.2")], "{more}");
    }
    // Other logs have columns of these names, too.
    assert_eq!(
        named("sip.log", r#""user_agent":"x/1","server":"y","client":"z""#),
        [""; 0]
    );
    let tsv = "#separator \\x09\n#set_separator\t,\n#path\tsmtp\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tpath\tuser_agent\tis_webmail\n\
        1.0\t10.0.0.1\t1\t10.0.0.2\t25\t10.0.0.2,10.0.0.7\tM\\x20 2\tF\n";
    let software = one("smtp.log", tsv).software;
    assert_eq!((software.len(), &*software[0].text), (1, &b"M  2"[..]));
    assert_eq!(software[0].host.to_string(), "10.0.0.7");
}

#[test]
fn borrowed_rows_encode_as_owned_ones() {
    let text = "{\"ts\":1,\"uid\":\"C\",\"id.orig_h\":\"10.0.0.1\",\"id.orig_p\":1,\"id.resp_h\":\"10.0.0.2\",\"id.resp_p\":22,\"client\":\"SSH-2.0-a\",\"server\":\"SSH-2.0-b\"}\n";
    let mut reader = ConnectionReader::new("ssh.log", text.as_bytes()).unwrap();
    let row = reader.next_connection().unwrap().unwrap().unwrap();
    let bytes = muster_data::encode_to_vec(&row);
    let owned = row.into_owned();
    assert_eq!(owned.software.len(), 2);
    assert_eq!(muster_data::encode_to_vec(&owned), bytes);
}
