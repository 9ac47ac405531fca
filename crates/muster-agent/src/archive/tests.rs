#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use muster_cluster::Settings;

use super::*;

struct Archive {
    root: tempfile::TempDir,
    counts: Arc<ArchiveCounts>,
    is_over: Arc<AtomicBool>,
    keeper: Keeper,
}

const EVERYTHING: ArchiveConfig = ArchiveConfig {
    compression: Compression::Gzip,
    keep: None,
    keep_bytes: None,
    min_free: 0.0,
    keep_forever: Vec::new(),
    command: None,
};

const NAME: &str = "conn.logger-1.2018-03-24-17-00-00-18-00-00.log";
const ARCHIVED: &str = "2018-03-24/conn.17:00:00-18:00:00-logger-1.log.gz";
const AGAIN: &str = "2018-03-24/conn.17:00:00-18:00:00-logger-1_1.log.gz";

impl Archive {
    fn new(config: ArchiveConfig) -> Self {
        let root = tempfile::tempdir().unwrap();
        let places = Places::standard(root.path());
        std::fs::create_dir_all(&places.logs).unwrap();
        let (counts, is_over) = (Arc::<ArchiveCounts>::default(), Arc::default());
        let journal = Arc::new(Journal::open(&places.journal));
        let keeper = Keeper::new(
            places,
            config,
            Arc::clone(&counts),
            journal,
            Arc::clone(&is_over),
        );
        Self {
            root,
            counts,
            is_over,
            keeper,
        }
    }

    fn logs(&self) -> PathBuf {
        self.root.path().join("var/log/muster/current")
    }

    fn archive(&self) -> PathBuf {
        self.root.path().join("var/log/muster/archive")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.logs().join(name), text).unwrap();
    }

    /// A round long after everything was written.
    fn round(&mut self) {
        let later = SystemTime::now() + Duration::from_secs(60);
        self.keeper.round(later, Duration::from_secs(10));
    }

    fn current(&self) -> Vec<String> {
        list(&self.logs())
    }

    /// What is in the archive, with its text.
    fn archived(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for day in list(&self.archive()) {
            if day == "unshipped" {
                continue;
            }
            for name in list(&self.archive().join(&day)) {
                let path = format!("{day}/{name}");
                let text = read(&self.archive().join(&path));
                found.push((path, text));
            }
        }
        found
    }

    fn events(&self) -> Vec<String> {
        let (events, _) = self.keeper.journal.follow(0.0);
        events.into_iter().map(|event| event.text).collect()
    }
}

fn read(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap();
    let mut text = String::new();
    match path.extension().unwrap().to_str().unwrap() {
        "gz" => flate2::read::GzDecoder::new(file).read_to_string(&mut text),
        "zst" => zstd::Decoder::new(file).unwrap().read_to_string(&mut text),
        _ => file.read_to_string(&mut text),
    }
    .unwrap();
    text
}

fn list(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn pair(path: &str, text: &str) -> (String, String) {
    (path.to_owned(), text.to_owned())
}

#[test]
fn rotated_files_are_archived_and_others_stay() {
    let mut here = Archive::new(EVERYTHING);
    let text = "a row\n".repeat(10_000);
    here.write(NAME, &text);
    here.write("conn.logger-1.log", "current");
    here.write("notes.txt", "of somebody");
    // A name that a logger is about to use.
    here.write("dns.2018-03-24-17-00-00-18-00-00.log", "");
    let source = here.logs().join(NAME);
    std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o640)).unwrap();
    let written = std::fs::metadata(&source).unwrap().modified().unwrap();
    here.round();
    assert_eq!(here.archived(), [pair(ARCHIVED, &text)]);
    let stay = [
        "conn.logger-1.log",
        "dns.2018-03-24-17-00-00-18-00-00.log",
        "notes.txt",
    ];
    assert_eq!(here.current(), stay);
    let metadata = std::fs::metadata(here.archive().join(ARCHIVED)).unwrap();
    assert_eq!(metadata.modified().unwrap(), written);
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    assert!(metadata.len() < text.len() as u64 / 10);
    assert_eq!(
        here.events(),
        ["archived 1 log files of 58 KiB as 1 KiB".replace("1 KiB", &size(metadata.len()))]
    );
    assert_eq!(here.counts.archived.load(Ordering::Relaxed), 1);
    assert_eq!(here.counts.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(here.counts.files.load(Ordering::Relaxed), 1);
    assert_eq!(here.counts.bytes.load(Ordering::Relaxed), metadata.len());
}

#[test]
fn a_file_that_is_still_written_to_waits() {
    let mut here = Archive::new(EVERYTHING);
    here.write(NAME, "a row\n");
    here.keeper
        .round(SystemTime::now(), Duration::from_secs(60));
    assert_eq!(here.archived(), []);
    assert_eq!(here.current(), [NAME]);
    here.round();
    assert_eq!(here.archived(), [pair(ARCHIVED, "a row\n")]);
}

#[test]
fn no_file_takes_the_place_of_another() {
    let mut here = Archive::new(EVERYTHING);
    for text in ["first", "second"] {
        here.write(NAME, text);
        here.round();
    }
    let both = [pair(ARCHIVED, "first"), pair(AGAIN, "second")];
    assert_eq!(here.archived(), both);
    // The same once more is another file, too.
    here.write(NAME, "first");
    here.round();
    assert_eq!(here.archived().len(), 3);
    assert_eq!(here.current(), [""; 0]);
}

/// Whatever a life before this one left behind, each row is in the archive once.
#[test]
fn a_crash_neither_loses_nor_doubles_a_file() {
    // While it was compressed.
    let mut here = Archive::new(EVERYTHING);
    here.write(NAME, "rows");
    std::fs::create_dir_all(here.archive()).unwrap();
    std::fs::write(here.archive().join("archiving.part"), "torn").unwrap();
    here.round();
    assert_eq!(list(&here.archive()), ["2018-03-24"]);
    assert_eq!(here.archived(), [pair(ARCHIVED, "rows")]);
    // Before the original was removed: it is there again, the very same file.
    let original = here.logs().join(NAME);
    let aside = here.logs().join("aside");
    here.write(NAME, "more rows");
    std::fs::hard_link(&original, &aside).unwrap();
    here.round();
    let both = [pair(ARCHIVED, "rows"), pair(AGAIN, "more rows")];
    assert_eq!(here.archived(), both);
    std::fs::rename(&aside, &original).unwrap();
    here.round();
    assert_eq!(here.archived(), both);
    assert_eq!(here.current(), [""; 0]);
}

/// The same for every compression, also if the life before had another one.
#[test]
fn a_file_is_archived_once_in_every_form() {
    use Compression::{Gzip, None, Zstd};
    for (first, second) in [
        (Zstd, Zstd),
        (Gzip, Zstd),
        (Zstd, Gzip),
        (Zstd, None),
        (None, Gzip),
        (None, None),
    ] {
        let mut here = Archive::new(ArchiveConfig {
            compression: first,
            ..EVERYTHING
        });
        let text = "a row\n".repeat(1000);
        here.write(NAME, &text);
        let original = here.logs().join(NAME);
        let aside = here.logs().join("aside");
        if first == None {
            // What is moved is gone from where it was: only a copy on another disk may be left beside it.
            std::fs::copy(&original, &aside).unwrap();
            let written = std::fs::metadata(&original).unwrap().modified().unwrap();
            let file = std::fs::File::options().write(true).open(&aside).unwrap();
            file.set_modified(written).unwrap();
        } else {
            std::fs::hard_link(&original, &aside).unwrap();
        }
        here.round();
        let ends = [(Gzip, ".gz"), (Zstd, ".zst"), (None, "")];
        let end = ends.iter().find(|(one, _)| *one == first).unwrap().1;
        let name = format!("{}{end}", ARCHIVED.trim_end_matches(".gz"));
        let once = [pair(&name, &text)];
        assert_eq!(here.archived(), once, "{first:?}");
        std::fs::rename(&aside, &original).unwrap();
        here.keeper.config.compression = second;
        here.keeper.store = Store::new(&here.archive(), second, Arc::clone(&here.is_over));
        here.round();
        assert_eq!(here.archived(), once, "{first:?} {second:?}");
        assert_eq!(here.current(), [""; 0]);
        // Another file of that name, of the same length, has a number.
        here.write(NAME, &text.replace('a', "b"));
        here.round();
        assert_eq!(here.archived().len(), 2, "{first:?} {second:?}");
    }
}

#[test]
fn what_is_not_compressed_and_changed_with_its_size_and_time_is_another_file() {
    let mut here = Archive::new(ArchiveConfig {
        compression: Compression::None,
        ..EVERYTHING
    });
    let written = SystemTime::now() - Duration::from_secs(600);
    for text in ["one", "two"] {
        here.write(NAME, text);
        let file = std::fs::File::options()
            .write(true)
            .open(here.logs().join(NAME));
        file.unwrap().set_modified(written).unwrap();
        here.round();
    }
    let archived = here.archived();
    let texts: Vec<&str> = archived.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["one", "two"]);
}

const ARCHIVED_FOR_EVER: &str = "2018-03-24/notice.17:00:00-18:00:00-logger-1.log.gz";

#[test]
fn what_is_kept_for_ever_stays_and_a_limit_that_is_not_reached_is_told_once() {
    let mut here = Archive::new(ArchiveConfig {
        keep: Some(Duration::from_secs(1)),
        keep_bytes: Some(1),
        keep_forever: vec!["not*".to_owned(), "intel".to_owned()],
        ..EVERYTHING
    });
    here.write(NAME, "rows");
    here.write(&NAME.replace("conn", "notice"), "rows");
    for _ in 0..2 {
        here.round();
    }
    assert_eq!(here.archived(), [pair(ARCHIVED_FOR_EVER, "rows")]);
    let events = here.events();
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(
        events[2],
        "more than archive.keep_bytes, and all that is left in the archive is kept for ever (archive.keep_forever)"
    );
    assert_eq!(here.counts.status().problem.as_ref(), Some(&events[2]));
    assert_eq!(here.counts.failures.load(Ordering::Relaxed), 0);
    here.keeper.config.keep_bytes = None;
    here.round();
    assert_eq!(here.counts.status().problem, None);
}

fn ships(words: &[&str]) -> ArchiveConfig {
    ArchiveConfig {
        command: Some(ShipCommand {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            limit: Duration::from_secs(600),
        }),
        ..EVERYTHING
    }
}

impl Archive {
    /// An agent after this one.
    fn next_life(&mut self) {
        let places = Places::standard(self.root.path());
        self.keeper = Keeper::new(
            places,
            self.keeper.config.clone(),
            Arc::clone(&self.counts),
            Arc::clone(&self.keeper.journal),
            Arc::clone(&self.is_over),
        );
    }

    /// Ships until nothing waits any more, or a run has failed.
    async fn ship(&self) {
        let shipping = Arc::clone(self.keeper.shipping.as_ref().unwrap());
        let failures = || self.counts.ship_failures.load(Ordering::Relaxed);
        let before = failures();
        let shipper = Shipper {
            shipping: Arc::clone(&shipping),
            command: self.keeper.config.command.clone().unwrap(),
            counts: Arc::clone(&self.counts),
            journal: Arc::clone(&self.keeper.journal),
        };
        let (_stop, stopped) = watch::channel(());
        let done = async {
            while shipping.len() > 0 && failures() == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = shipper.run(stopped) => {}
            () = done => {}
        }
    }

    fn unshipped(&self) -> Vec<String> {
        list(&self.archive().join("unshipped"))
    }
}

const MARKER: &str = "2018-03-24_conn.17:00:00-18:00:00-logger-1.log.gz";

#[tokio::test]
async fn every_file_is_shipped_and_what_an_earlier_life_has_not_shipped_as_well() {
    let to = tempfile::tempdir().unwrap();
    let target = format!("{}/copy of it", to.path().display());
    let mut here = Archive::new(ships(&["false"]));
    here.write(NAME, "rows");
    here.round();
    assert_eq!(here.unshipped(), [MARKER]);
    here.ship().await;
    assert_eq!(here.unshipped(), [MARKER]);
    assert_eq!(
        here.counts.status().ship_failure.as_deref(),
        Some("exit status: 1")
    );
    let events = here.events();
    assert_eq!(
        events[1],
        format!("archive.command has not shipped {ARCHIVED}: exit status: 1")
    );

    here.keeper.config = ships(&["cp", "{file}", &target]);
    here.next_life();
    here.round();
    assert_eq!(here.keeper.shipping.as_ref().unwrap().len(), 1);
    here.ship().await;
    assert_eq!(read(&here.archive().join(ARCHIVED)), "rows");
    std::fs::rename(to.path().join("copy of it"), to.path().join("it.gz")).unwrap();
    assert_eq!(read(&to.path().join("it.gz")), "rows");
    assert_eq!(here.unshipped(), [""; 0]);
    assert_eq!(here.counts.status().ship_failure, None);
    assert_eq!(here.events()[2], "archive.command ships files again");

    // Once is enough.
    here.next_life();
    here.round();
    assert_eq!(here.keeper.shipping.as_ref().unwrap().len(), 0);
    assert_eq!(here.counts.shipped.load(Ordering::Relaxed), 1);
}

/// Wherever an agent dies, a file is to be shipped from before it has its name to after the program has taken it.
#[tokio::test]
async fn a_crash_forgets_no_file_that_is_to_be_shipped() {
    let mut here = Archive::new(ships(&["true"]));
    // Before the file had its name.
    here.write(NAME, "rows");
    let markers = here.archive().join("unshipped");
    std::fs::create_dir_all(&markers).unwrap();
    std::fs::write(markers.join(MARKER), "").unwrap();
    std::fs::write(markers.join("of somebody"), "").unwrap();
    here.keeper.load().unwrap();
    assert_eq!(here.unshipped(), ["of somebody"]);
    // Before the original was removed.
    let original = here.logs().join(NAME);
    let aside = here.logs().join("aside");
    std::fs::hard_link(&original, &aside).unwrap();
    here.round();
    std::fs::rename(&aside, &original).unwrap();
    here.next_life();
    here.round();
    assert_eq!(here.archived(), [pair(ARCHIVED, "rows")]);
    assert_eq!(here.keeper.shipping.as_ref().unwrap().len(), 1);
    here.ship().await;
    assert_eq!(here.unshipped(), ["of somebody"]);
    // After it was shipped, and the original is there still: it is not shipped again.
    let mut here = Archive::new(ships(&["true"]));
    here.write(NAME, "rows");
    let (original, aside) = (here.logs().join(NAME), here.logs().join("aside"));
    std::fs::hard_link(&original, &aside).unwrap();
    here.round();
    here.ship().await;
    std::fs::rename(&aside, &original).unwrap();
    here.round();
    assert_eq!(here.keeper.shipping.as_ref().unwrap().len(), 0);
    assert_eq!(here.current(), [""; 0]);
}

#[tokio::test]
async fn what_is_not_shipped_is_removed_for_a_full_disk_alone_and_that_is_told() {
    let mut config = ships(&["false"]);
    config.keep = Some(Duration::from_secs(1));
    config.keep_bytes = Some(1);
    let mut here = Archive::new(config);
    here.write(NAME, "rows");
    here.round();
    here.round();
    assert_eq!(here.archived(), [pair(ARCHIVED, "rows")]);
    // No disk is as large as that.
    let path = here.archive().join(ARCHIVED);
    let of = Kept {
        path,
        written: SystemTime::now(),
        bytes: 10,
        held: Held::Unshipped,
    };
    let gone = Expired {
        file: 0,
        why: Why::DiskFull,
    };
    here.keeper.remove(&[of], &[gone]).unwrap();
    assert_eq!((here.archived(), here.unshipped()), (vec![], vec![]));
    let events = here.events();
    let text = format!(
        "{ARCHIVED} was removed before it was shipped: the disk has less than archive.min_free"
    );
    assert!(events.contains(&text), "{events:?}");
    assert_eq!(here.counts.unshipped_expired.load(Ordering::Relaxed), 1);
    assert_eq!(here.counts.status().unshipped_files, 0);
}

#[test]
fn what_is_being_compressed_is_given_up_at_the_end() {
    let mut here = Archive::new(EVERYTHING);
    here.write(NAME, "rows");
    here.is_over.store(true, Ordering::Relaxed);
    here.round();
    assert_eq!(here.current(), [NAME]);
    assert_eq!(list(&here.archive()), ["2018-03-24"]);
    assert_eq!(here.archived(), []);
    assert_eq!(here.counts.failures.load(Ordering::Relaxed), 0);
}

#[test]
fn old_files_are_removed_and_what_is_not_the_archives_stays() {
    let config = ArchiveConfig {
        keep: Some(Duration::from_secs(3600)),
        ..EVERYTHING
    };
    let mut here = Archive::new(config);
    for (name, hours) in [
        (NAME, 5),
        ("conn.logger-1.2018-03-25-17-00-00-18-00-00.log", 0),
    ] {
        here.write(name, "rows");
        let file = std::fs::File::open(here.logs().join(name)).unwrap();
        let written = SystemTime::now() - Duration::from_secs(hours * 3600);
        file.set_modified(written).unwrap();
    }
    let foreign = here.archive().join("2018-03-01");
    std::fs::create_dir_all(&foreign).unwrap();
    let foreign = foreign.join("of-somebody.log.gz");
    std::fs::write(&foreign, "").unwrap();
    let file = std::fs::File::open(&foreign).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    here.round();
    assert!(foreign.exists());
    std::fs::remove_file(foreign).unwrap();
    let left = "2018-03-25/conn.17:00:00-18:00:00-logger-1.log.gz";
    assert_eq!(here.archived(), [pair(left, "rows")]);
    // Days without files go.
    assert_eq!(here.counts.expired.load(Ordering::Relaxed), 1);
    let events = here.events();
    assert!(events[1].contains("older than archive.keep"), "{events:?}");
}

#[test]
fn a_problem_is_told_once_and_costs_nothing() {
    let mut here = Archive::new(EVERYTHING);
    here.write(NAME, "rows");
    // A file is where the archive should be.
    std::fs::write(here.archive(), "").unwrap();
    for _ in 0..3 {
        here.round();
    }
    assert_eq!(here.current(), [NAME]);
    assert_eq!(here.counts.failures.load(Ordering::Relaxed), 3);
    assert_eq!(here.events().len(), 1, "{:?}", here.events());
    std::fs::remove_file(here.archive()).unwrap();
    here.round();
    assert_eq!(here.archived(), [pair(ARCHIVED, "rows")]);
}

#[test]
fn settings_are_read_or_named() {
    let layout = |text: &str| {
        let text = format!("node = [{{ name = \"m\", role = \"manager\" }}]\n[archive]\n{text}");
        muster_cluster::Layout::parse(&text, "x.toml", SETTINGS).unwrap()
    };
    let read = |text: &str, by_default| {
        let layout = layout(text);
        let settings: &Settings = layout.settings();
        ArchiveConfig::from_settings(settings, by_default)
    };
    let usual = ArchiveConfig {
        keep: Some(Duration::from_secs(30 * 86_400)),
        min_free: 0.1,
        ..EVERYTHING
    };
    let (yes, no) = (ArchivesByDefault::Yes, ArchivesByDefault::No);
    assert_eq!(read("", yes).unwrap(), Some(usual.clone()));
    assert_eq!(read("", no).unwrap(), None);
    assert_eq!(read("enabled = true", no).unwrap(), Some(usual));
    assert_eq!(read("enabled = false", yes).unwrap(), None);
    let all = "keep = \"0s\"\nkeep_bytes = 7\nmin_free = \"0%\"";
    let expected = ArchiveConfig {
        keep_bytes: Some(7),
        ..EVERYTHING
    };
    assert_eq!(read(all, yes).unwrap(), Some(expected));
    let all = "compression = \"zstd\"\nkeep = \"0s\"\nmin_free = \"0%\"\nkeep_forever = [\"notice*\"]\n\
               command = [\"cp\", \"{file}\", \"/mnt\"]\ncommand_timeout = \"10m\"";
    let expected = ArchiveConfig {
        compression: Compression::Zstd,
        keep_forever: vec!["notice*".to_owned()],
        ..ships(&["cp", "{file}", "/mnt"])
    };
    assert_eq!(read(all, yes).unwrap(), Some(expected));
    let error = read("command = [\"\", \"{file}\"]", yes).unwrap_err();
    assert!(error.to_string().contains("archive.command"), "{error}");
    for wrong in ["10", "-1%", "91%", "ten%", "", "10 GB"] {
        let error = read(&format!("min_free = \"{wrong}\""), no).unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
}
