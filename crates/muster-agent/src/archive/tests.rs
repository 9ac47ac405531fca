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
    keep: None,
    keep_bytes: None,
    min_free: 0.0,
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
        let keeper = Keeper {
            store: Store::new(&places.archive, Arc::clone(&is_over)),
            logs: places.logs,
            config,
            counts: Arc::clone(&counts),
            journal: Arc::new(Journal::open(&places.journal)),
            told: None,
        };
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
            for name in list(&self.archive().join(&day)) {
                let path = format!("{day}/{name}");
                let file = std::fs::File::open(self.archive().join(&path)).unwrap();
                let mut text = String::new();
                flate2::read::GzDecoder::new(file)
                    .read_to_string(&mut text)
                    .unwrap();
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
    assert!(events[1].contains("older than logging.keep"), "{events:?}");
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
        let text = format!("node = [{{ name = \"m\", role = \"manager\" }}]\n[logging]\n{text}");
        muster_cluster::Layout::parse(&text, "x.toml", SETTINGS).unwrap()
    };
    let read = |text: &str, by_default| {
        let layout = layout(text);
        let settings: &Settings = layout.settings();
        ArchiveConfig::from_settings(settings, by_default)
    };
    let usual = ArchiveConfig {
        keep: Some(Duration::from_secs(30 * 86_400)),
        keep_bytes: None,
        min_free: 0.1,
    };
    let (yes, no) = (ArchivesByDefault::Yes, ArchivesByDefault::No);
    assert_eq!(read("", yes).unwrap(), Some(usual.clone()));
    assert_eq!(read("", no).unwrap(), None);
    assert_eq!(read("archive = true", no).unwrap(), Some(usual));
    assert_eq!(read("archive = false", yes).unwrap(), None);
    let all = "keep = \"0s\"\nkeep_bytes = 7\nmin_free = \"0%\"";
    let expected = ArchiveConfig {
        keep_bytes: Some(7),
        ..EVERYTHING
    };
    assert_eq!(read(all, yes).unwrap(), Some(expected));
    for wrong in ["10", "-1%", "91%", "ten%", "", "10 GB"] {
        let error = read(&format!("min_free = \"{wrong}\""), no).unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
}
