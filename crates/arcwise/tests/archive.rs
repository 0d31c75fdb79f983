//! Spaces as archives, and what is made of archives that are not as they were written.

use std::{
    io,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
};

use arcwise::{
    ArcSet, Aspect, AspectHash, Config, Copies, EntryAddress, Event, ExportError, ImportError,
    Imported, Limits, Location, MAX_ASPECT_DATA, NewAspect, Node, Source, Space, SpaceId,
    SpaceOptions, Time,
};
use arcwise_proto::AuthorKey;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, duplex},
    runtime::Runtime,
    sync::broadcast::Receiver,
};

async fn open(folder: &TempDir) -> Node {
    let mut config = Config::new(folder.path()).loopback();
    config.store.min_free = 0;
    Node::open(config).await.unwrap()
}

fn aspect(n: u64, length: usize, signed: bool) -> NewAspect {
    let entry = EntryAddress(*blake3::hash(&n.to_le_bytes()).as_bytes());
    let mut data = vec![0; length];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut data);
    NewAspect { entry, kind: 1, data: data.into(), signed }
}

fn aspects(range: std::ops::Range<u64>) -> Vec<NewAspect> {
    range.map(|n| aspect(n, 100, n % 3 == 0)).collect()
}

/// In the order in which they were stored.
async fn all(space: &Space) -> Vec<AspectHash> {
    let stored = space.since(0, usize::MAX).await.unwrap();
    stored.into_iter().map(|(_, aspect)| aspect.hash()).collect()
}

async fn export(space: &Space) -> Vec<u8> {
    let mut archive = Vec::new();
    space.export(&mut archive).await.unwrap();
    archive
}

async fn import(node: &Node, archive: &[u8]) -> Result<Imported, ImportError> {
    node.import(archive).await
}

async fn assert_sound(node: &Node) {
    let report = node.check_store().await.unwrap();
    assert_eq!(report.damage_count, 0, "{:?}", report.damages);
}

/// Another implementation of the format: blocks of these kinds and bodies.
fn archive(blocks: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"arcwise archive 1\n".to_vec();
    for (kind, body) in blocks {
        out.push(*kind);
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(body);
        out.extend(blake3::derive_key("arcwise 1 archive", &out));
    }
    out
}

fn head(id: &SpaceId, name: &str) -> (u8, Vec<u8>) {
    (0, [id.as_bytes(), &[0xff; 8][..], name.as_bytes()].concat())
}

fn body(aspects: &[Aspect]) -> (u8, Vec<u8>) {
    let aspects = aspects.iter().flat_map(|aspect| {
        let encoding = aspect.encoding();
        [&(encoding.len() as u32).to_le_bytes()[..], encoding].concat()
    });
    (1, aspects.collect())
}

fn end(aspects: &[Aspect], spans: &[(u32, u32)]) -> (u8, Vec<u8>) {
    let bytes: u64 = aspects.iter().map(|aspect| aspect.encoding().len() as u64).sum();
    let mut body = [(aspects.len() as u64).to_le_bytes(), bytes.to_le_bytes()].concat();
    for (first, last) in spans {
        body.extend(first.to_le_bytes());
        body.extend(last.to_le_bytes());
    }
    (2, body)
}

fn unsigned(n: u32) -> Aspect {
    Aspect::new(EntryAddress([n as u8; 32]), n, Time::ZERO, b"data").unwrap()
}

/// Two nodes for all cases of a property.
struct Two {
    runtime: Runtime,
    alice: Node,
    bob: Node,
    _folders: [TempDir; 2],
}

fn two() -> &'static Two {
    static TWO: OnceLock<Two> = OnceLock::new();
    TWO.get_or_init(|| {
        let runtime = Runtime::new().unwrap();
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let (alice, bob) =
            runtime.block_on(async { (open(&folders[0]).await, open(&folders[1]).await) });
        Two { runtime, alice, bob, _folders: folders }
    })
}

fn any_aspects() -> impl Strategy<Value = Vec<NewAspect>> {
    let length = prop_oneof![8 => 0..2000_usize, 1 => Just(MAX_ASPECT_DATA), 1 => Just(200_000)];
    let aspect = (any::<u64>(), length, any::<bool>())
        .prop_map(|(n, length, signed)| aspect(n, length, signed));
    proptest::collection::vec(aspect, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_exported_is_imported(aspects in any_aspects(), name in "(?s).{0,300}") {
        let Two { runtime, alice, bob, .. } = two();
        runtime.block_on(async {
            let here = alice.create_space(&name, Limits::default()).await.unwrap();
            here.publish(aspects).await.unwrap();
            let mut archive = Vec::new();
            let exported = here.export(&mut archive).await.unwrap();
            let imported = import(bob, &archive).await.unwrap();
            let there = imported.space;
            let (ours, theirs) = (here.status(), there.status());
            assert_eq!((exported.aspects, exported.bytes), (ours.stats.count, ours.stats.bytes));
            assert_eq!((imported.aspects, imported.bytes), (ours.stats.count, ours.stats.bytes));
            assert_eq!((theirs.stats.count, theirs.stats.bytes), (imported.new, imported.bytes));
            assert_eq!((theirs.id, &theirs.held), (ours.id, &ours.held));
            assert!(imported.created && theirs.target.is_full());
            let cut = name[..name.floor_char_boundary(255)].chars();
            assert_eq!(theirs.name, cut.filter(|c| !c.is_control()).collect::<String>());
            assert_eq!(all(&here).await, all(&there).await);
            assert_sound(bob).await;

            // What comes out again is the same.
            if name == theirs.name {
                assert_eq!(export(&there).await, archive);
            }
            let again = import(bob, &archive).await.unwrap();
            assert_eq!((again.created, again.new), (false, 0));
            assert_eq!(again.aspects, exported.aspects);
            assert_eq!(all(&here).await, all(&there).await);
        });
    }

    #[test]
    fn any_bytes_do_no_harm(rest in proptest::collection::vec(any::<u8>(), 0..200), line: bool) {
        let bytes = if line { [b"arcwise archive 1\n", &rest[..]].concat() } else { rest };
        let Two { runtime, bob, .. } = two();
        assert!(runtime.block_on(import(bob, &bytes)).is_err());
    }
}

#[tokio::test]
async fn the_format_is_as_described() {
    let folder = TempDir::new().unwrap();
    let alice = open(&folder).await;
    let copies = Copies::new(3, 7).unwrap();
    let options = SpaceOptions { copies, ..Limits::default().into() };
    let space = alice.create_space("Grüße", options).await.unwrap();
    space.publish(aspects(0..5)).await.unwrap();
    let aspects: Vec<Aspect> =
        space.since(0, 9).await.unwrap().into_iter().map(|(_, aspect)| aspect).collect();
    let end = end(&aspects, &[(0, u32::MAX)]);
    let blocks = [(3, vec![3, 7]), head(&space.id(), "Grüße"), body(&aspects), end];
    let archive = archive(&blocks);
    assert_eq!(export(&space).await, archive);
    let folder = TempDir::new().unwrap();
    let there = import(&open(&folder).await, &archive).await.unwrap().space;
    assert_eq!(there.overview().wanted, copies);
}

/// A small archive, cut at every place and with every byte changed: an error each time, and what is
/// stored then is a part of what was exported.
#[tokio::test]
async fn no_damage_goes_unnoticed() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (alice, bob) = (open(&folders[0]).await, open(&folders[1]).await);
    let space = alice.create_space("x", Limits::default()).await.unwrap();
    space.publish(vec![aspect(0, 3, false), aspect(1, 9, true)]).await.unwrap();
    let aspects: Vec<Aspect> =
        space.since(0, 9).await.unwrap().into_iter().map(|(_, aspect)| aspect).collect();
    let blocks = [
        head(&space.id(), "x"),
        body(&aspects[..1]),
        body(&aspects[1..]),
        end(&aspects, &[(0, u32::MAX)]),
    ];
    let whole = archive(&blocks);

    let head_ends = 18 + 5 + 41 + 32;
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            let error = import(&bob, &changed).await.unwrap_err();
            match error {
                ImportError::NotAnArchive | ImportError::NewerVersion => assert!(at < 18),
                ImportError::Damaged { at: found } => {
                    assert!(found <= at as u64 && at >= 18, "{at} {found}");
                }
                // A length that grew.
                ImportError::CutShort { .. } => assert!(at >= 18, "{at}"),
                error => panic!("{at}: {error}"),
            }
            // Damage before an aspect keeps it out.
            assert!(at >= head_ends || bob.spaces().is_empty());
        }
    }
    let known = all(&space).await;
    let there = bob.space(&space.id()).unwrap();
    assert!(all(&there).await.iter().all(|hash| known.contains(hash)));

    for length in 0..whole.len() {
        match import(&bob, &whole[..length]).await {
            Err(ImportError::CutShort { at }) => assert_eq!(at, length as u64),
            result => panic!("{length}: {result:?}"),
        }
    }
    assert!(there.status().held.is_empty(), "nothing is claimed before the end");

    // Blocks that are whole by themselves, in another order.
    let cut = |block: usize| {
        let start = archive(&blocks[..block]).len();
        start..archive(&blocks[..block + 1]).len()
    };
    for order in
        [&[0, 2, 1, 3][..], &[0, 1, 3], &[0, 1, 1, 2, 3], &[1, 2, 3], &[0, 3], &[0, 1, 2, 3, 3]]
    {
        let mut mixed = whole[..18].to_vec();
        order.iter().for_each(|block| mixed.extend(&whole[cut(*block)]));
        let error = import(&bob, &mixed).await.unwrap_err();
        assert!(matches!(error, ImportError::Damaged { .. }), "{order:?}: {error}");
    }

    // The whole of it after all that is as at first.
    let imported = import(&bob, &whole).await.unwrap();
    assert_eq!((imported.created, imported.aspects, imported.new), (false, 2, 0));
    assert!(there.status().held.is_full());
    assert_eq!(all(&there).await, known);
    assert_sound(&bob).await;
}

/// With checks that are right, and contents that are not.
#[tokio::test]
async fn what_was_never_an_export_is_refused() {
    let folder = TempDir::new().unwrap();
    let bob = open(&folder).await;
    let (id, key) = (SpaceId([7; 32]), AuthorKey::from_bytes(&[3; 32]));
    let foreign =
        Aspect::signed(&key, &SpaceId([8; 32]), EntryAddress([1; 32]), 0, Time::ZERO, b"words");
    let (good, foreign) = (unsigned(1), foreign.unwrap());
    let head = || head(&id, "made up");
    let at = archive(&[head()]).len() as u64;

    let both = [good.clone(), foreign];
    let error = import(&bob, &archive(&[head(), body(&both), end(&both, &[])])).await.unwrap_err();
    assert!(matches!(error, ImportError::Aspect { at: found, .. } if found == at), "{error}");
    assert!(error.to_string().contains("not its author's in this space"), "{error}");
    let broken = (1, [&4_u32.to_le_bytes()[..], b"what"].concat());
    let error = import(&bob, &archive(&[head(), broken])).await.unwrap_err();
    assert!(matches!(error, ImportError::Aspect { at: found, .. } if found == at), "{error}");

    let one = std::slice::from_ref(&good);
    let far = (1, [&u32::MAX.to_le_bytes()[..], good.encoding()].concat());
    let odd = (2, [end(&[], &[]).1, vec![0; 7]].concat());
    for blocks in [
        vec![end(&[], &[])],
        vec![body(one)],
        vec![(0, vec![7; 31])],
        vec![(0, [vec![7; 40], vec![0xff]].concat())],
        vec![(0, [vec![7; 32], vec![b'x'; 264]].concat())],
        vec![head(), head()],
        vec![head(), (4, Vec::new())],
        vec![head(), (3, vec![3, 7])],
        vec![(3, vec![3]), head()],
        vec![(3, vec![7, 3]), head()],
        vec![(3, vec![3, 7]), (3, vec![3, 7]), head()],
        vec![head(), far],
        vec![head(), (1, vec![0; 3])],
        vec![head(), end(one, &[])],
        vec![head(), (2, vec![0; 15])],
        vec![head(), odd],
        vec![head(), end(&[], &[(2, 1)])],
        vec![head(), end(&[], &[(5, 6), (1, 2)])],
        vec![head(), end(&[], &[(1, 5), (5, 6)])],
        vec![head(), end(&[], &[]), end(&[], &[])],
    ] {
        let error = import(&bob, &archive(&blocks)).await.unwrap_err();
        assert!(matches!(error, ImportError::Damaged { .. }), "{blocks:?}: {error}");
    }
    // A length that is too much is not waited for.
    let mut long = archive(&[head()]);
    long.extend([1, 0xff, 0xff, 0xff, 0xff]);
    let error = import(&bob, &long).await.unwrap_err();
    assert!(matches!(error, ImportError::Damaged { at: found } if found == at), "{error}");
    assert_eq!(bob.space(&id).unwrap().status().stats.count, 0);

    for (bytes, newer) in [("arcwise archive 2\n", true), ("arcwise archive 10\n", true)] {
        let error = import(&bob, bytes.as_bytes()).await.unwrap_err();
        assert_eq!(matches!(error, ImportError::NewerVersion), newer, "{bytes}: {error}");
    }
    for bytes in
        ["hello", "arcwise1aeb2gi3", "arcwise archive x\n", "arcwise archive 0\n", "PK\x03"]
    {
        let error = import(&bob, bytes.as_bytes()).await.unwrap_err();
        assert!(matches!(error, ImportError::NotAnArchive), "{bytes}: {error}");
    }
    assert_sound(&bob).await;
}

#[tokio::test]
async fn what_the_exporter_held_is_claimed_once() {
    let folder = TempDir::new().unwrap();
    let bob = open(&folder).await;
    let arcs: ArcSet = [(3, 1 << 30), (u32::MAX - 5, u32::MAX)].into_iter().collect();
    let spans: Vec<_> = arcs.spans().map(|(first, last)| (first.0, last.0)).collect();
    let good = unsigned(1);
    let one = std::slice::from_ref(&good);
    let made =
        |id, spans: &[(u32, u32)]| archive(&[head(&SpaceId(id), "x"), body(one), end(one, spans)]);

    let mut events = bob.events();
    let first = import(&bob, &made([1; 32], &spans)).await.unwrap();
    assert_eq!(first.space.status().held, arcs);
    let stored = events.recv().await.unwrap();
    assert!(
        matches!(&stored, Event::Stored { keys, source: Source::Import, .. } if *keys == [good.key()]),
        "{stored:?}"
    );
    assert!(matches!(events.recv().await, Ok(Event::ArcChanged { .. })));
    import(&bob, &made([1; 32], &[(0, u32::MAX)])).await.unwrap();
    assert_eq!(first.space.status().held, arcs, "the space was here before");

    let second = import(&bob, &made([2; 32], &[])).await.unwrap();
    assert!(second.space.status().held.is_empty());
    import(&bob, &made([2; 32], &[(0, u32::MAX)])).await.unwrap();
    assert!(second.space.status().held.is_empty(), "the space was here before");

    // An attempt that does not get to the end, a restart, and another one.
    let whole = made([3; 32], &spans);
    import(&bob, &whole[..whole.len() - 1]).await.unwrap_err();
    bob.shutdown().await;
    drop((bob, first, second));
    let bob = open(&folder).await;
    let space = bob.space(&SpaceId([3; 32])).unwrap();
    assert!(space.status().held.is_empty());
    import(&bob, &whole).await.unwrap();
    assert_eq!(space.status().held, arcs);
    assert!(space.status().held.contains(Location(3)));
}

/// Waits until this many aspects are held.
async fn until_held(space: &Space, events: &mut Receiver<Event>, count: u64) {
    let search = async {
        while space.status().stats.count < count {
            events.recv().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), search).await.expect("in time");
}

/// Bob has a part, and a peer, who learns what comes by the archive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_adds_what_is_lacking_and_peers_get_it() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap()];
    let alice = open(&folders[0]).await;
    let here = alice.create_space("notes", Limits::default()).await.unwrap();
    here.publish(aspects(0..300)).await.unwrap();
    let early = export(&here).await;
    here.publish(aspects(300..1000)).await.unwrap();
    let late = export(&here).await;

    let (bob, carol) = (open(&folders[1]).await, open(&folders[2]).await);
    let there = import(&bob, &early).await.unwrap().space;
    there.publish(aspects(2000..2010)).await.unwrap();
    let mut carols = carol.events();
    let elsewhere = carol.join(&bob.ticket(&there.id()).unwrap()).await.unwrap();
    until_held(&elsewhere, &mut carols, 310).await;

    let imported = import(&bob, &late).await.unwrap();
    assert_eq!((imported.created, imported.aspects, imported.new), (false, 1000, 700));
    assert_eq!(there.status().stats.count, 1010);
    until_held(&elsewhere, &mut carols, 1010).await;
    let mut both = [all(&there).await, all(&elsewhere).await];
    both.iter_mut().for_each(|hashes| hashes.sort_unstable());
    assert_eq!(both[0], both[1]);
    assert!(all(&here).await.iter().all(|hash| both[0].contains(hash)));
    assert_sound(&bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_of_when_it_began() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (alice, bob) = (open(&folders[0]).await, open(&folders[1]).await);
    let space = alice.create_space("x", Limits::default()).await.unwrap();
    space.publish((0..40).map(|n| aspect(n, 50_000, false)).collect()).await.unwrap();
    let before = all(&space).await;
    let (writer, mut reader) = duplex(16);
    let exporting = tokio::spawn({
        let space = space.clone();
        async move { space.export(writer).await }
    });
    let mut archive = vec![0; 18];
    reader.read_exact(&mut archive).await.unwrap();
    space.publish(aspects(100..200)).await.unwrap();
    reader.read_to_end(&mut archive).await.unwrap();
    assert_eq!(exporting.await.unwrap().unwrap().aspects, 40);
    let imported = import(&bob, &archive).await.unwrap();
    assert_eq!(all(&imported.space).await, before);
}

struct Failing;

impl AsyncRead for Failing {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::other("the disk is gone")))
    }
}

#[tokio::test]
async fn pipes_that_break_and_nodes_that_stop() {
    let folder = TempDir::new().unwrap();
    let alice = open(&folder).await;
    let space = alice.create_space("x", Limits::default()).await.unwrap();
    space.publish(aspects(0..3)).await.unwrap();
    let (writer, reader) = duplex(64);
    drop(reader);
    let error = space.export(writer).await.unwrap_err();
    assert!(
        matches!(&error, ExportError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    );

    let error = alice.import(Failing).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read the archive: the disk is gone");

    // It waits for more, and so does not keep the node from stopping.
    let archive = export(&space).await;
    let (mut writer, reader) = duplex(64);
    let importing = tokio::spawn({
        let alice = alice.clone();
        async move { alice.import(reader).await }
    });
    writer.write_all(&archive[..archive.len() - 1]).await.unwrap();
    alice.shutdown().await;
    let error = importing.await.unwrap().unwrap_err();
    assert!(matches!(error, ImportError::Shutdown), "{error}");
}
