//! The node's secret key, kept in its folder.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use crate::error::OpenError;

const FILE: &str = "key";

/// Reads the key, or makes one where there is none. Only the owner may read the file.
pub(crate) fn load_or_create(folder: &Path) -> Result<[u8; 32], OpenError> {
    let path = folder.join(FILE);
    read(&path)
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => create(folder, &path),
            _ => Err(error),
        })
        .map_err(|source| OpenError::Identity { path, source })
}

fn read(path: &Path) -> io::Result<[u8; 32]> {
    let text = fs::read_to_string(path)?;
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not 64 hexadecimal digits; restore it, or delete it to become a new node",
        )
    })
}

/// Writes the key under another name first, so that a crash leaves a whole key or none.
fn create(folder: &Path, path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let new = folder.join("key.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    writeln!(file, "{}", data_encoding::HEXLOWER.encode(&key))?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let key = load_or_create(folder.path()).unwrap();
        assert_eq!(load_or_create(folder.path()).unwrap(), key);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(folder.path().join(FILE), "nonsense").unwrap();
        assert!(matches!(load_or_create(folder.path()), Err(OpenError::Identity { .. })));
        assert_eq!(
            fs::read(folder.path().join(FILE)).unwrap(),
            b"nonsense",
            "nothing is overwritten"
        );
    }
}
