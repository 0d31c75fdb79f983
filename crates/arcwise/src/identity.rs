//! A node's folder, and the secret key in it.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    path::Path,
};

use crate::error::OpenError;

const FILE: &str = "key";

/// Whether a node was made here. Where that cannot be seen, whatever is tried next says why.
pub(crate) fn exists(folder: &Path) -> bool {
    folder.join(FILE).try_exists().unwrap_or(true)
}

/// Makes the folder where it is missing, for its owner alone: it will hold what lets others into
/// spaces. One that is there stays as it is.
pub(crate) fn make_folder(folder: &Path) -> Result<(), OpenError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|source| {
        arcwise_store::OpenError::Folder { path: folder.to_owned(), source }.into()
    })
}

/// Reads the key.
pub(crate) fn load(folder: &Path) -> Result<[u8; 32], OpenError> {
    let path = folder.join(FILE);
    read(&path).map_err(|source| OpenError::Identity { path, source })
}

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
        assert!(!exists(folder.path()) && load(folder.path()).is_err());
        let key = load_or_create(folder.path()).unwrap();
        assert!(exists(folder.path()));
        assert_eq!(load(folder.path()).unwrap(), key);
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
