//! Whether two nodes hold the same: every aspect, and every file.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    path::Path,
};

use arcwise::{AspectKey, Space};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Differences listed by name, at most.
const MAX_LISTED: usize = 20;

/// Aspects read at a time.
const PIECE: usize = 256;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Comparison {
    /// Aspects that both hold.
    pub(crate) aspects: usize,
    /// Files compared with what was shared, on both sides.
    pub(crate) files: usize,
    /// The first differences found.
    pub(crate) differences: Vec<Difference>,
    /// It is to end half-way.
    #[serde(skip)]
    stop: CancellationToken,
}

#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    pub(crate) what: String,
    pub(crate) problem: String,
}

impl Comparison {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    fn go_on(&self) -> io::Result<()> {
        match self.stop.is_cancelled() {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    fn differs(&mut self, what: impl Into<String>, problem: impl Into<String>) {
        if self.differences.len() < MAX_LISTED {
            self.differences.push(Difference { what: what.into(), problem: problem.into() });
        }
    }

    /// Every aspect of each, looked up in the other and compared byte for byte.
    pub(crate) async fn aspects(&mut self, ours: &Space, theirs: &Space) -> anyhow::Result<()> {
        let mut both: BTreeSet<AspectKey> = BTreeSet::new();
        for (here, there, name) in [(ours, theirs, "Bob"), (theirs, ours, "Alice")] {
            let mut after = 0;
            loop {
                self.go_on()?;
                let piece = here.since(after, PIECE).await?;
                let Some((last, _)) = piece.last() else { break };
                after = *last;
                for (_, aspect) in piece {
                    match there.aspect(aspect.key()).await? {
                        Some(other) if other.encoding() == aspect.encoding() => {
                            both.insert(aspect.key());
                        }
                        Some(_) => self.differs(aspect.key().to_string(), "other bytes"),
                        None => {
                            self.differs(aspect.key().to_string(), format!("{name} lacks it"));
                        }
                    }
                }
            }
        }
        self.aspects = both.len();
        Ok(())
    }

    /// A restored folder against the one that was shared: names, kinds, content, executable bits.
    pub(crate) fn trees(&mut self, source: &Path, restored: &Path) -> io::Result<()> {
        self.go_on()?;
        let (ours, theirs) = (children(source)?, children(restored)?);
        for name in ours.keys().filter(|name| !theirs.contains_key(*name)) {
            self.differs(source.join(name).display().to_string(), "was not restored");
        }
        for (name, kind) in theirs {
            let (from, to) = (source.join(&name), restored.join(&name));
            let what = from.display().to_string();
            if ours.get(&name) != Some(&kind) {
                self.differs(what, "was restored as something else");
                continue;
            }
            match kind {
                Type::Folder => self.trees(&from, &to)?,
                Type::Link => {
                    if fs::read_link(&from)? != fs::read_link(&to)? {
                        self.differs(what, "leads elsewhere");
                    }
                }
                Type::File { .. } => self.file(&what, &fs::read(&to)?, &fs::read(&from)?),
            }
        }
        Ok(())
    }

    /// A restored file against the one that was shared.
    pub(crate) fn file(&mut self, what: &str, restored: &[u8], source: &[u8]) {
        self.files += 1;
        if restored != source {
            self.differs(what, "has other content");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    File { executable: bool },
    Folder,
    Link,
}

/// What a folder holds that can be shared.
fn children(folder: &Path) -> io::Result<BTreeMap<OsString, Type>> {
    let mut children = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let kind = match meta.file_type() {
            kind if kind.is_dir() => Type::Folder,
            kind if kind.is_symlink() => Type::Link,
            kind if kind.is_file() => Type::File { executable: is_executable(&meta) },
            _ => continue,
        };
        children.insert(entry.file_name(), kind);
    }
    Ok(children)
}

#[cfg(unix)]
fn is_executable(meta: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}
