//! Logs of real traffic, compiled into the program: 112,218 rows of a cyber-defence competition.
//!
//! From `brimdata/zed-sample-data`, built on the packet captures of the Western Regional Collegiate
//! Cyber Defense Competition; Creative Commons Attribution-ShareAlike 4.0 International. The notice
//! in [`README`] goes with every copy.

/// The origin and licence of the files. Keep it with every copy of them.
pub const README: &str = include_str!("../sample/README.md");

macro_rules! files {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../sample/", $name)))),*]
    };
}

/// The name and content of every file, compressed with gzip.
pub const FILES: &[(&str, &[u8])] = files![
    "dns.log.gz",
    "ftp.log.gz",
    "ntlm.log.gz",
    "ntp.log.gz",
    "rdp.log.gz",
    "smtp.log.gz",
    "ssh.json.gz",
    "ssl.log.gz",
    "syslog.log.gz"
];
