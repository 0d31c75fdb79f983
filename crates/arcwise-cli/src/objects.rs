//! Where the files of a space go to and come from: a node in this process. The daemon does the same
//! for its commands.

use arcwise::{Aspect, AspectKey, EntryAddress, NodeId, PublishError, Space, StoreError};
use tokio::{runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::files::{NewAspect, ObjectName, Objects, ROOT};

/// Entries read from the store at a time: enough that the cost per call vanishes, few enough that
/// they fit into memory.
pub(crate) const PIECE: usize = 64;

/// Peers are asked for so many objects at a time.
const ASKING: usize = 16;

/// The node could not store or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A space of a node in this process. Its calls block, so they belong on a thread of their own and
/// not on those that drive the runtime.
pub(crate) struct Local {
    space: Space,
    runtime: Handle,
    /// Makes every further call fail.
    interrupted: CancellationToken,
}

impl Local {
    pub(crate) fn new(space: Space, runtime: Handle, interrupted: CancellationToken) -> Self {
        Self { space, runtime, interrupted }
    }

    fn call<T, E: Into<Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        // One that has begun goes on to its end: nothing of it is under way when it has returned.
        match self.interrupted.is_cancelled() {
            true => Err(Error::Interrupted),
            false => self.runtime.block_on(work).map_err(E::into),
        }
    }
}

impl Objects for Local {
    type Error = Error;

    fn put(&self, aspects: Vec<NewAspect>) -> Result<(), Error> {
        self.call(put(&self.space, aspects))
    }

    fn entry(&self, entry: &EntryAddress) -> Result<Vec<Aspect>, Error> {
        self.call(self::entry(&self.space, *entry))
    }

    fn missing(&self, objects: &[ObjectName]) -> Result<Vec<ObjectName>, Error> {
        self.call(missing(&self.space, objects))
    }

    fn read(&self, names: &[ObjectName]) -> Result<Vec<Option<Aspect>>, Error> {
        let mut found = Vec::with_capacity(names.len());
        for piece in names.chunks(PIECE) {
            found.extend(self.call(read(&self.space, piece))?);
        }
        Ok(found)
    }
}

/// Stores the aspects, published now.
pub(crate) async fn put(space: &Space, aspects: Vec<NewAspect>) -> Result<(), PublishError> {
    let aspects = aspects.into_iter().map(|NewAspect { entry, kind, data, signed }| {
        arcwise::NewAspect { entry, kind, data, signed }
    });
    space.publish(aspects.collect()).await?;
    Ok(())
}

/// Those of the objects that are not held here.
pub(crate) async fn missing(
    space: &Space,
    objects: &[ObjectName],
) -> Result<Vec<ObjectName>, StoreError> {
    let mut missing = Vec::new();
    for piece in objects.chunks(PIECE) {
        let held = held(space, piece).await?;
        missing.extend(piece.iter().zip(held).filter(|(_, held)| held.is_none()).map(|(n, _)| *n));
    }
    Ok(missing)
}

/// Which aspects held here carry these objects, or are this node's last record of something that was put.
/// At most [`PIECE`] names at a time.
pub(crate) async fn keys(
    space: &Space,
    us: NodeId,
    names: &[ObjectName],
) -> Result<Vec<AspectKey>, StoreError> {
    let entries = space.entries(names.iter().map(|name| name.address).collect()).await?;
    let key = |(aspects, name): (Vec<Aspect>, &ObjectName)| match name.kind {
        ROOT => {
            let records = aspects.into_iter().filter(|aspect| aspect.kind() == ROOT);
            let ours = records.filter(|aspect| aspect.author().map(NodeId) == Some(us));
            ours.max_by_key(Aspect::published).map(|aspect| aspect.key())
        }
        _ => aspects.iter().find(|aspect| name.is(aspect)).map(Aspect::key),
    };
    Ok(entries.into_iter().zip(names).filter_map(key).collect())
}

/// The objects, each in the place of its name: from here, or from a peer. At most [`PIECE`] at a
/// time.
pub(crate) async fn read(
    space: &Space,
    names: &[ObjectName],
) -> Result<Vec<Option<Aspect>>, StoreError> {
    let mut found = held(space, names).await?;
    let lacking: Vec<usize> = (0..names.len()).filter(|&place| found[place].is_none()).collect();
    for places in lacking.chunks(ASKING) {
        let mut asking = JoinSet::new();
        for &place in places {
            let (space, name) = (space.clone(), names[place]);
            asking.spawn(async move { (place, ask(&space, name).await) });
        }
        while let Some(asked) = asking.join_next().await {
            // A task that has panicked has found nothing.
            if let Ok((place, aspect)) = asked {
                found[place] = aspect;
            }
        }
    }
    Ok(found)
}

/// All aspects of an entry: those held here and, where this node does not claim to hold what belongs
/// there, those of peers that do.
pub(crate) async fn entry(space: &Space, entry: EntryAddress) -> Result<Vec<Aspect>, StoreError> {
    Ok(space.get(entry).await?.aspects)
}

async fn held(space: &Space, names: &[ObjectName]) -> Result<Vec<Option<Aspect>>, StoreError> {
    let entries = space.entries(names.iter().map(|name| name.address).collect()).await?;
    let find =
        |(aspects, name): (Vec<Aspect>, &ObjectName)| aspects.into_iter().find(|a| name.is(a));
    Ok(entries.into_iter().zip(names).map(find).collect())
}

async fn ask(space: &Space, name: ObjectName) -> Option<Aspect> {
    match space.get(name.address).await {
        Ok(found) => found.aspects.into_iter().find(|aspect| name.is(aspect)),
        Err(error) => {
            tracing::debug!(%error, "an object could not be looked for");
            None
        }
    }
}
