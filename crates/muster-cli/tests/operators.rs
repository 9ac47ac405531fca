//! People who ask agents from other machines, and boxes that are forgotten.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use support::boxes::Boxes;
use support::cluster::kill;
use support::{muster, stderr, stdout, until};

/// Whoever asks from another machine: there is no box there.
struct Person<'a> {
    boxes: &'a Boxes,
    /// What they show: options, or the variable's value.
    options: Vec<String>,
    token: Option<String>,
}

impl Person<'_> {
    fn run(&self, at: &str, arguments: &[&str]) -> Output {
        let mut command = muster(self.boxes.directory.path(), arguments);
        command.env_remove("MUSTER_ROOT").env_remove("MUSTER_TOKEN");
        let server = format!("https://{}:17700", self.boxes.address(at));
        command.args(["--server", &server]).args(&self.options);
        if let Some(token) = &self.token {
            command.env("MUSTER_TOKEN", token);
        }
        command.output().unwrap()
    }

    fn done(&self, at: &str, arguments: &[&str]) -> String {
        let output = self.run(at, arguments);
        let text = stderr(&output);
        assert!(output.status.success(), "{at} {arguments:?}: {text}");
        stdout(&output)
    }

    /// What is said of a command that is refused.
    fn refused(&self, at: &str, arguments: &[&str]) -> String {
        let output = self.run(at, arguments);
        let text = stderr(&output);
        let code = output.status.code();
        assert_eq!(code, Some(4), "{at} {arguments:?}: {text}");
        text
    }
}

fn by_file<'a>(boxes: &'a Boxes, name: &str) -> Person<'a> {
    Person {
        boxes,
        options: vec!["--identity".to_owned(), format!("{name}.pem")],
        token: None,
    }
}

fn by_token<'a>(boxes: &'a Boxes, token: &str) -> Person<'a> {
    Person {
        boxes,
        options: Vec::new(),
        token: Some(token.to_owned()),
    }
}

fn audit(boxes: &Boxes, of: &str) -> String {
    let path = boxes.root(of).join("var/log/muster/audit.log");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn people_may_from_afar_what_their_role_says_until_they_are_removed() {
    let mut boxes = Boxes::new();
    let mut agents = boxes.three();
    let add = |arguments: &[&str]| {
        let all = [&["operator", "add"], arguments].concat();
        stdout(&boxes.done("a", &all)).trim().to_owned()
    };
    add(&["alice", "--role", "operator"]);
    let bob = add(&["bob", "--role", "viewer", "--token"]);
    let carol = add(&["carol", "--role", "admin", "--token"]);
    let twice = boxes.refused(
        "a",
        &["operator", "add", "bob", "--role", "admin", "--token"],
    );
    assert!(twice.contains("--replace"), "{twice}");
    let file = boxes.directory.path().join("alice.pem");
    let mode = |file| std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);

    // An operator, by a certificate: asked anywhere, done where the node is, and written down there.
    let alice = by_file(&boxes, "alice");
    alice.done("b", &["status", "--wait", "ready"]);
    alice.done("c", &["restart", "data-2"]);
    let here = audit(&boxes, "c");
    assert!(
        here.contains("\"who\":\"operator alice at ")
            && here.contains("\"known_by\":\"certificate\""),
        "{here}"
    );
    let there = audit(&boxes, "b");
    assert!(
        there.contains("operator alice at ") && there.contains(", by muster://east/box/c at "),
        "{there}"
    );
    // What a box passes on to the one that leads, it has let an operator do.
    for at in ["b", "c"] {
        let moved = alice.run(at, &["stores", "move", "x", "data-1"]);
        let text = stderr(&moved);
        assert_eq!(moved.status.code(), Some(1), "{text}");
        assert!(text.contains("there is no store x"), "{text}");
    }
    assert!(alice.done("a", &["logs"]).contains("listens on"));
    for change in [
        &["token", "create"][..],
        &["operator", "list"],
        &["operator", "add", "mallory", "--role", "admin"],
        &["operator", "remove", "carol"],
        &["stores", "adopt", "x", "data-1", "--lose-what-others-have"],
        &["box", "forget", "b"],
    ] {
        let text = alice.refused("a", change);
        assert!(text.contains("an operator may not do that"), "{text}");
    }
    assert!(!boxes.directory.path().join("mallory.pem").exists());
    let refused = audit(&boxes, "a");
    let last = refused.lines().last().unwrap();
    assert!(
        last.contains("operator alice") && last.contains("box forget") && last.contains("refused"),
        "{last}"
    );

    // A viewer and an admin, by tokens, at a box that has no authority.
    let bob = by_token(&boxes, &bob);
    bob.done("b", &["status"]);
    bob.done("b", &["events"]);
    assert!(stdout(&bob.run("b", &["stores"])).starts_with("stores: "));
    for change in [
        &["logs"][..],
        &["records", "notice"],
        &["stop", "data-1"],
        &["stores", "move", "x", "data-1"],
    ] {
        let text = bob.refused("b", change);
        assert!(text.contains("a viewer may not do that"), "{text}");
    }
    let forged = by_token(&boxes, &format!("{}0", &carol[..carol.len() - 1]));
    let known = carol.ends_with('0');
    assert_eq!(
        forged.run("b", &["status"]).status.code(),
        Some(if known { 0 } else { 4 })
    );
    let carol = by_token(&boxes, &carol);
    let list = carol.done("b", &["operator", "list"]);
    for (name, role) in [("alice", "operator"), ("bob", "viewer"), ("carol", "admin")] {
        let line = list.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains(role), "{list}");
    }
    let elsewhere = carol.refused("b", &["token", "create"]);
    assert!(elsewhere.contains(&boxes.address("a")), "{elsewhere}");
    assert!(
        carol
            .done("a", &["token", "create"])
            .starts_with("muster1.")
    );

    // What is shown has to be whole, in time, and nobody else's.
    let nobody = Person {
        boxes: &boxes,
        options: Vec::new(),
        token: None,
    };
    let nothing = nobody.run("a", &["status"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", stderr(&nothing));
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let open = alice.refused("a", &["status"]);
    assert!(open.contains("chmod 600"), "{open}");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let mut gone = muster(
        boxes.directory.path(),
        &["status", "--identity", "alice.pem"],
    );
    let gone = gone.args(["--server", "https://127.0.0.1:1"]).output();
    assert_eq!(gone.unwrap().status.code(), Some(3));

    // A node takes nobody for a member who has a certificate as operator.
    let logs = boxes.root("b").join("var/log/muster/nodes/data-2.log");
    let logs = || std::fs::read_to_string(&logs).unwrap();
    let line = logs();
    let (_, address) = line.rsplit_once(" listens on ").unwrap();
    let address = address.lines().next().unwrap();
    let mesh = ["peers", "--tls", "mutual", "--ssl-cafile", "alice.pem"];
    let mut peers = muster(boxes.directory.path(), &mesh);
    peers.args([
        "--ssl-certificate",
        "alice.pem",
        "--ssl-keyfile",
        "alice.pem",
        address,
    ]);
    assert!(!peers.output().unwrap().status.success());
    assert!(logs().contains("it is that of CN=alice"), "{}", logs());

    // A new certificate ends the old one.
    let old = boxes.directory.path().join("old.pem");
    std::fs::rename(&file, &old).unwrap();
    add(&["alice", "--role", "viewer", "--replace"]);
    let text = by_file(&boxes, "old").refused("c", &["status"]);
    assert!(text.contains("operator alice was removed"), "{text}");
    alice.done("c", &["status"]);
    alice.refused("c", &["restart", "data-2"]);

    // Who follows is told no more.
    let mut follow = {
        let mut follow = muster(boxes.directory.path(), &["events", "--follow"]);
        let server = format!("https://{}:17700", boxes.address("c"));
        follow.args(["--server", &server, "--identity", "alice.pem"]);
        follow.stdout(std::process::Stdio::piped());
        follow.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };

    let mut told = BufReader::new(follow.stdout.take().unwrap());
    told.read_line(&mut String::new()).unwrap();

    // A box that is away hears of a removal when it is back.
    kill(boxes.status("b")["agent"]["pid"].as_u64().unwrap(), "-9");
    agents[1].child.wait().unwrap();
    let removed = boxes.done("a", &["operator", "remove", "alice"]);
    let text = stderr(&removed);
    assert!(text.contains("not heard by box b"), "{text}");
    told.read_to_string(&mut String::new()).unwrap();
    let ended = follow.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(4));
    let text = stderr(&ended);
    assert!(text.contains("you may not be told that any more"), "{text}");
    for at in ["a", "c"] {
        alice.refused(at, &["status"]);
    }
    boxes.done("a", &["operator", "remove", "carol"]);
    carol.refused("c", &["operator", "list"]);
    let _back = boxes.agent("b");
    until("box b knows who was removed", || {
        let alice = by_file(&boxes, "alice").run("b", &["status"]);
        (alice.status.code() == Some(4)).then_some(())
    });
}

/// A certificate is looked at in each handshake.
#[test]
fn a_certificate_that_has_ended_and_one_of_another_cluster_are_refused() {
    let mut boxes = Boxes::new();
    boxes.done("a", &["init", "--box", "a", "three.toml"]);
    let _agent = boxes.agent("a");
    boxes.join("b");
    boxes.done(
        "a",
        &[
            "operator",
            "add",
            "dora",
            "--role",
            "admin",
            "--seconds",
            "3",
        ],
    );
    let dora = by_file(&boxes, "dora");
    dora.done("a", &["operator", "list"]);
    let ended = until("the certificate ends", || {
        let output = dora.run("a", &["operator", "list"]);
        (output.status.code() == Some(4)).then(|| stderr(&output))
    });
    assert!(ended.contains("operator dora ended on"), "{ended}");
    boxes.done("a", &["operator", "add", "eve", "--role", "admin"]);

    // The other cluster has the same names.
    let west = "west";
    let layout = boxes.layout().replace("east", west);
    std::fs::write(boxes.directory.path().join("west.toml"), layout).unwrap();
    boxes.done(west, &["init", "--box", "a", "west.toml"]);
    let directory = boxes.directory.path();
    for name in ["dora", "eve"] {
        let file = directory.join(name);
        std::fs::copy(file.with_extension("pem"), file.with_extension("key")).unwrap();
    }
    let ask = |files: &str| boxes.ask(Some(files), "GET /v1/operators", "");
    let Some(eve) = ask(directory.join("eve").to_str().unwrap()) else {
        eprintln!("SKIPPED: the program openssl is not there");
        return;
    };
    assert!(eve.starts_with("HTTP/1.1 200"), "{eve}");
    let of_west = boxes.root(west).join("var/lib/muster/identity/box");
    for files in [directory.join("dora"), of_west] {
        let answer = ask(files.to_str().unwrap()).unwrap();
        assert_eq!(answer, "", "{}", files.display());
    }
}

#[test]
fn a_box_that_was_forgotten_is_asked_and_heard_no_more() {
    let mut boxes = Boxes::new();
    let _agents = boxes.three();
    boxes.done("c", &["restart", "data-2"]);
    let forgotten = stderr(&boxes.done("a", &["box", "forget", "c"]));
    assert!(!forgotten.contains("not heard"), "{forgotten}");
    let shown = boxes.run("b", &["status"]);
    assert_eq!(shown.status.code(), Some(5), "{}", stdout(&shown));
    assert!(
        stdout(&shown).contains("muster://east/box/c, which was forgotten"),
        "{}",
        stdout(&shown)
    );
    let restart = boxes.refused("c", &["restart", "data-2"]);
    assert!(restart.contains("was forgotten"), "{restart}");
    let alone = boxes.status("c");
    let known = alone["boxes"].as_array().unwrap();
    let gone = known.iter().filter(|known| known["agent"] == "gone");
    assert_eq!(gone.count(), 2, "{known:?}");
    // Nor is it told anything: it does not know by itself that it was forgotten.
    let identity = boxes.root("c").join("var/lib/muster/identity/box");
    if let Some(answer) = boxes.ask(identity.to_str(), "GET /v1/roster/0", "") {
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
}
