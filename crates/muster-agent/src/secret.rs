//! Files with what nobody else may know.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The permissions that such a file may not have: others may not read it, nor the group write it.
const TOO_OPEN: u32 = 0o027;

/// The most bytes that are read of one.
const LONGEST: u64 = 1 << 20;

/// Why a secret is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The system refuses.
    #[error(transparent)]
    System(#[from] io::Error),
    /// Others may read the file, or the group write it.
    #[error("its mode is {0:04o}: make it 0640 or 0600")]
    Open(u32),
    /// It has more than a secret has.
    #[error("it has more than {LONGEST} bytes")]
    TooLong,
}

/// Reads a secret: a key, or a token. Of a pipe or a device nobody asks whose it is: that is for whoever names it.
///
/// # Errors
///
/// Fails if the file cannot be read, if others may read it or its group write it, and if it has more than a MiB.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, SecretError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & TOO_OPEN != 0 {
        return Err(SecretError::Open(mode));
    }
    let mut secret = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut secret)?;
    if read as u64 > LONGEST {
        return Err(SecretError::TooLong);
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_others_may_read_or_has_no_end_is_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(matches!(read_secret(&path), Err(SecretError::System(_))));
        std::fs::write(&path, "secret").unwrap();
        for (mode, is_good) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let read = read_secret(&path);
            assert_eq!(
                read.is_ok_and(|read| read == b"secret"),
                is_good,
                "{mode:o}"
            );
        }
        let endless = read_secret(Path::new("/dev/zero"));
        assert!(matches!(endless, Err(SecretError::TooLong)));
    }
}
