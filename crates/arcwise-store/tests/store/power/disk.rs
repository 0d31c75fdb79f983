//! A trace of what a program did to its files, and what a disk can be left with when the power goes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

/// The least that a disk writes at once.
const SECTOR: usize = 512;

/// Numbers that look random, the same for the same seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// SplitMix64.
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `first` up to, but not, `end`, which must be more.
    pub(super) fn range(&mut self, first: usize, end: usize) -> usize {
        first + (self.roll() % (end - first) as u64) as usize
    }

    pub(super) fn chance(&mut self, of: usize, out_of: usize) -> bool {
        self.range(0, out_of) < of
    }

    /// Often the first or the last, otherwise one from between.
    fn cut(&mut self, first: usize, last: usize) -> usize {
        match self.range(0, 4) {
            0 => first,
            1 => last,
            _ => self.range(first, last + 1),
        }
    }
}

/// When the names in folders are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// All changes in the order in which they were made. See the module above.
    Ordered,
    /// Those of each folder in order, and for sure only once that folder was synced.
    ByFolder,
}

/// What of a file is on disk that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Torn {
    /// Everything up to some write, and the beginning of that one.
    Front,
    /// That, or any sectors.
    Sectors,
}

type Place = usize;

/// What happened to the contents of a file.
#[derive(Debug)]
enum Change {
    /// At this offset, this part of the trace.
    Write(u64, std::ops::Range<usize>),
    SetLen(u64),
}

/// What happened to a name in a folder.
#[derive(Debug)]
enum Naming {
    Link { folder: Place, name: String, what: Place },
    Unlink { folder: Place, name: String },
    Rename { folder: Place, from: String, to: String, what: Place },
}

impl Naming {
    fn folder(&self) -> Place {
        match self {
            Self::Link { folder, .. } | Self::Unlink { folder, .. } => *folder,
            Self::Rename { folder, .. } => *folder,
        }
    }

    fn concerns(&self, place: Place) -> bool {
        let what = match self {
            Self::Link { what, .. } | Self::Rename { what, .. } => Some(*what),
            Self::Unlink { .. } => None,
        };
        self.folder() == place || what == Some(place)
    }
}

#[derive(Debug)]
enum Event {
    Change(Place, Change),
    Naming(Naming),
    /// Begun by a thread, and whether it is of everything or only of what is in the file.
    Sync(u32, Place, bool),
    Synced(u32),
}

/// What a program did, in order. Everything is below one folder, which is place 0.
#[derive(Debug)]
pub(super) struct Trace {
    bytes: Vec<u8>,
    events: Vec<Event>,
    /// Of each file and folder that ever was.
    is_folder: Vec<bool>,
    /// Where what was there before ends.
    start: usize,
    /// The events that make a difference to names, or to what is on disk for sure.
    turns: Vec<usize>,
}

/// The names while a trace is read.
#[derive(Default)]
struct Reader {
    events: Vec<Event>,
    names: BTreeMap<PathBuf, Place>,
    /// By the system's number of a file, which is used again once the file is gone.
    files: HashMap<u64, Place>,
    is_folder: Vec<bool>,
}

impl Trace {
    /// Puts what a disk has into an empty folder, lets something be done there that is written down in
    /// `trace`, and reads that.
    pub(super) fn of(disk: &Disk, folder: &Path, trace: &Path, done: impl FnOnce()) -> Self {
        let (mut reader, mut bytes) = (Reader::default(), Vec::new());
        reader.add(folder.to_owned(), fs::metadata(folder).unwrap().ino(), true);
        disk.write(folder);
        let number = |path: &Path| fs::metadata(folder.join(path)).unwrap().ino();
        // A folder comes before what is in it.
        disk.folders.iter().for_each(|path| reader.link(folder.join(path), number(path), true));
        for (path, content) in &disk.files {
            let (file, first) = (number(path), bytes.len());
            bytes.extend(&content.bytes);
            reader.link(folder.join(path), file, false);
            reader.change(file, Change::Write(0, first..bytes.len()));
            reader.change(file, Change::SetLen(content.len));
        }
        for place in 0..reader.is_folder.len() {
            reader.events.extend([Event::Sync(0, place, true), Event::Synced(0)]);
        }
        let start = reader.events.len();
        let mut at = bytes.len();
        done();
        bytes.extend(fs::read(trace).unwrap());
        while at < bytes.len() {
            let word = |n: usize| u32::from_ne_bytes(bytes[at + n..][..4].try_into().unwrap());
            let long = |n: usize| u64::from_ne_bytes(bytes[at + n..][..8].try_into().unwrap());
            let (what, thread, file, number) = (word(0) as u8, word(4), long(8), long(16));
            let first = at + 32;
            let second = first + word(24) as usize;
            let end = second + word(28) as usize;
            let path = |from: usize, to: usize| {
                PathBuf::from(str::from_utf8(&bytes[from..to]).unwrap().to_owned())
            };
            match what {
                b'o' if number == 2 => reader.link(path(first, second), file, false),
                b'o' => reader.open(path(first, second), file, number == 1),
                b'w' => reader.change(file, Change::Write(number, second..end)),
                b't' => reader.change(file, Change::SetLen(number)),
                b'm' => reader.link(path(first, second), file, true),
                b'u' => reader.unlink(&path(first, second)),
                b'r' => reader.rename(&path(first, second), path(second, end)),
                b's' => {
                    let place = reader.files[&file];
                    reader.events.push(Event::Sync(thread, place, number != 0));
                }
                b'e' => reader.events.push(Event::Synced(thread)),
                what => panic!("a record {what}"),
            }
            at = end;
        }
        let Reader { events, is_folder, .. } = reader;
        let turn = |event: &Event| matches!(event, Event::Naming(_) | Event::Sync(..));
        let turns = (start..events.len()).filter(|n| turn(&events[*n])).collect();
        Self { bytes, events, is_folder, start, turns }
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Somewhere in it, most of the time near to where names change or files are synced.
    pub(super) fn moment(&self, dice: &mut Dice) -> usize {
        if dice.chance(1, 4) {
            return dice.range(self.start, self.len() + 1);
        }
        let turn = self.turns[dice.range(0, self.turns.len())];
        (turn + dice.range(0, 6)).saturating_sub(2).clamp(self.start, self.len())
    }

    /// What was written, up to a moment, to the file of this name in the folder.
    pub(super) fn written(&self, name: &str, moment: usize) -> Vec<u8> {
        let mut written = Vec::new();
        let mut place = None;
        for event in &self.events[..moment] {
            match event {
                Event::Naming(Naming::Link { folder: 0, name: it, what }) if it == name => {
                    place = Some(*what);
                }
                Event::Change(it, Change::Write(_, part)) if Some(*it) == place => {
                    written.extend(&self.bytes[part.clone()]);
                }
                _ => {}
            }
        }
        written
    }

    /// What the disk has at this moment when nothing is lost.
    pub(super) fn all(&self, moment: usize) -> Disk {
        let mut disk = Disk::default();
        let known = self.known(moment);
        let folders = self.folders(&known, |_| true);
        let mut whole = |_: &Path, place: Place| {
            let mut content = Content::default();
            known.changes[place].iter().for_each(|change| content.apply(change, &self.bytes));
            content
        };
        self.fill(&mut disk, Path::new(""), 0, &folders, &mut whole);
        disk
    }

    /// What the disk may have when the power goes at this moment.
    pub(super) fn crash(&self, moment: usize, names: Names, files: Torn, dice: &mut Dice) -> Disk {
        let known = self.known(moment);
        let (mut disk, mut lost) = (Disk::default(), Vec::new());

        let all = known.namings.len();
        let mut kept = vec![true; all];
        match names {
            Names::Ordered => kept[dice.cut(known.ordered, all)..].fill(false),
            Names::ByFolder => {
                let folders: BTreeSet<_> = known.namings.iter().map(|it| it.folder()).collect();
                for folder in folders {
                    let of: Vec<_> =
                        (0..all).filter(|n| known.namings[*n].folder() == folder).collect();
                    let sure = of.iter().filter(|n| **n < known.folders[folder]).count();
                    of[dice.cut(sure, of.len())..].iter().for_each(|n| kept[*n] = false);
                }
            }
        }
        let dropped = (0..all).filter(|n| !kept[*n]);
        lost.extend(dropped.map(|n| format!("lost: {:?}", known.namings[n])));
        let folders = self.folders(&known, |n| kept[n]);

        let mut torn = |path: &Path, place: Place| {
            let (sure, pending) = known.changes[place].split_at(known.synced[place]);
            let mut content = Content::default();
            sure.iter().for_each(|change| content.apply(change, &self.bytes));
            if pending.is_empty() {
                return content;
            }
            let (content, how) = content.torn(pending, &self.bytes, files, dice);
            let count = pending.len();
            lost.push(format!("{} (place {place}), of {count} changes: {how}", path.display()));
            content
        };
        self.fill(&mut disk, Path::new(""), 0, &folders, &mut torn);
        disk.lost = lost;
        disk
    }

    fn known(&self, moment: usize) -> Known<'_> {
        let mut known = Known {
            changes: vec![Vec::new(); self.is_folder.len()],
            synced: vec![0; self.is_folder.len()],
            namings: Vec::new(),
            folders: vec![0; self.is_folder.len()],
            ordered: 0,
        };
        // By thread: the place, and how much there was of it when its syncing began.
        let mut syncing = HashMap::new();
        for event in &self.events[..moment] {
            match event {
                Event::Change(place, change) => known.changes[*place].push(change),
                Event::Naming(naming) => known.namings.push(naming),
                Event::Sync(thread, place, all) => {
                    let (changes, namings) = (known.changes[*place].len(), known.namings.len());
                    syncing.insert(*thread, (*place, *all, changes, namings));
                }
                Event::Synced(thread) => {
                    let (place, all, changes, namings) = syncing.remove(thread).unwrap();
                    known.synced[place] = known.synced[place].max(changes);
                    known.folders[place] = known.folders[place].max(namings);
                    if all {
                        let last =
                            known.namings[..namings].iter().rposition(|it| it.concerns(place));
                        known.ordered = known.ordered.max(last.map_or(0, |n| n + 1));
                    }
                }
            }
        }
        known
    }

    /// The names in each folder.
    fn folders(&self, known: &Known<'_>, kept: impl Fn(usize) -> bool) -> Vec<Folder> {
        let mut folders = vec![Folder::default(); self.is_folder.len()];
        for (_, naming) in known.namings.iter().enumerate().filter(|(n, _)| kept(*n)) {
            match naming {
                Naming::Link { folder, name, what } => {
                    folders[*folder].insert(name.clone(), *what);
                }
                Naming::Unlink { folder, name } => {
                    folders[*folder].remove(name);
                }
                Naming::Rename { folder, from, to, what } => {
                    folders[*folder].remove(from);
                    folders[*folder].insert(to.clone(), *what);
                }
            }
        }
        folders
    }

    fn fill(
        &self,
        disk: &mut Disk,
        path: &Path,
        folder: Place,
        folders: &[Folder],
        content: &mut dyn FnMut(&Path, Place) -> Content,
    ) {
        for (name, place) in &folders[folder] {
            let path = path.join(name);
            if self.is_folder[*place] {
                disk.folders.insert(path.clone());
                self.fill(disk, &path, *place, folders, content);
            } else {
                disk.files.insert(path.clone(), content(&path, *place));
            }
        }
    }
}

/// The names in a folder.
type Folder = BTreeMap<String, Place>;

/// What was done up to a moment, and what of it is on disk for sure.
struct Known<'a> {
    /// Of each place; of which the first so many are on disk.
    changes: Vec<Vec<&'a Change>>,
    synced: Vec<usize>,
    namings: Vec<&'a Naming>,
    /// How many namings there were when a folder was last synced.
    folders: Vec<usize>,
    /// So many of the namings are on disk, where they get there in order.
    ordered: usize,
}

impl Reader {
    fn add(&mut self, path: PathBuf, file: u64, is_folder: bool) -> Place {
        let place = self.is_folder.len();
        self.is_folder.push(is_folder);
        self.files.insert(file, place);
        self.names.insert(path, place);
        place
    }

    /// The folder that a path is in, and its name there.
    fn split(&self, path: &Path) -> (Place, String) {
        let name = path.file_name().unwrap().to_str().unwrap();
        (self.names[path.parent().unwrap()], name.to_owned())
    }

    fn link(&mut self, path: PathBuf, file: u64, is_folder: bool) {
        let (folder, name) = self.split(&path);
        let what = self.add(path, file, is_folder);
        self.events.push(Event::Naming(Naming::Link { folder, name, what }));
    }

    fn open(&mut self, path: PathBuf, file: u64, emptied: bool) {
        let place = self.files[&file];
        if self.names.get(&path) != Some(&place) {
            // It was renamed and we have not seen it: the engine does that with a system call of its
            // own, and opens what it has renamed.
            let mut names = self.names.iter();
            let old = names.find(|(_, it)| **it == place).map(|(old, _)| old.clone());
            self.rename(&old.unwrap(), path);
        }
        if emptied {
            self.change(file, Change::SetLen(0));
        }
    }

    fn change(&mut self, file: u64, change: Change) {
        self.events.push(Event::Change(self.files[&file], change));
    }

    fn unlink(&mut self, path: &Path) {
        let (folder, name) = self.split(path);
        self.names.remove(path).unwrap();
        self.events.push(Event::Naming(Naming::Unlink { folder, name }));
    }

    fn rename(&mut self, from: &Path, to: PathBuf) {
        let ((folder, name), (other, new)) = (self.split(from), self.split(&to));
        assert_eq!(folder, other, "moving from folder to folder is not modelled");
        let what = self.names.remove(from).unwrap();
        self.names.insert(to.clone(), what);
        // And what is below it.
        let below: Vec<_> = self.names.keys().filter(|it| it.starts_with(from)).cloned().collect();
        for path in below {
            let place = self.names.remove(&path).unwrap();
            self.names.insert(to.join(path.strip_prefix(from).unwrap()), place);
        }
        self.events.push(Event::Naming(Naming::Rename { folder, from: name, to: new, what }));
    }
}

/// What is in a file: these bytes, and zeros up to the length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    bytes: Vec<u8>,
    len: u64,
}

impl Content {
    fn apply(&mut self, change: &Change, trace: &[u8]) {
        match change {
            Change::Write(at, part) => self.write(*at, &trace[part.clone()]),
            Change::SetLen(len) => self.set_len(*len),
        }
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        let end = at as usize + data.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[at as usize..end].copy_from_slice(data);
        self.len = self.len.max(end as u64);
    }

    fn set_len(&mut self, len: u64) {
        self.bytes.truncate(len as usize);
        self.len = len;
    }

    /// Of changes that were not synced, some are lost.
    fn torn(
        mut self,
        pending: &[&Change],
        trace: &[u8],
        files: Torn,
        dice: &mut Dice,
    ) -> (Self, String) {
        match dice.range(0, if files == Torn::Front { 4 } else { 8 }) {
            0 => (self, "all lost".to_owned()),
            1 => {
                pending.iter().for_each(|change| self.apply(change, trace));
                (self, "all there".to_owned())
            }
            // Up to some moment, and the beginning of what was done then.
            2 | 3 => {
                let whole = dice.range(0, pending.len());
                pending[..whole].iter().for_each(|change| self.apply(change, trace));
                let mut some = 0;
                if let Change::Write(at, part) = pending[whole] {
                    some = dice.range(0, part.len() + 1);
                    if dice.chance(1, 2) {
                        let end = *at as usize + some;
                        some -= (end % SECTOR).min(some);
                    }
                    self.write(*at, &trace[part.start..part.start + some]);
                }
                (self, format!("{whole} there and {some} bytes of the next"))
            }
            _ => {
                let often = [1, 4, 7][dice.range(0, 3)];
                let (kept, of) = self.scatter(pending, trace, often, dice);
                let len = self.len;
                (self, format!("{kept} of {of} sectors written, length {len}"))
            }
        }
    }

    /// Each sector is as it was at some time since the last sync, and so is the length. Whenever a sector
    /// was changed it went to disk as it then was, so `often` out of 8 times. Gives how often it did.
    fn scatter(
        &mut self,
        pending: &[&Change],
        trace: &[u8],
        often: usize,
        dice: &mut Dice,
    ) -> (usize, usize) {
        let (mut cache, mut len, mut kept, mut of) = (self.clone(), self.len, 0, 0);
        for change in pending {
            cache.apply(change, trace);
            if dice.chance(often, 8) {
                len = cache.len;
            }
            match change {
                Change::Write(at, part) => {
                    let end = *at as usize + part.len();
                    for sector in *at as usize / SECTOR..end.div_ceil(SECTOR) {
                        of += 1;
                        if dice.chance(often, 8) {
                            kept += 1;
                            let first = sector * SECTOR;
                            let last = (first + SECTOR).min(cache.bytes.len());
                            self.write(first as u64, &cache.bytes[first..last]);
                        }
                    }
                }
                // What was cut off may have gone, or not yet.
                Change::SetLen(len) => {
                    if *len < self.len && dice.chance(often, 8) {
                        self.set_len(*len);
                    }
                }
            }
        }
        self.set_len(len);
        (kept, of)
    }
}

/// What a disk has.
#[derive(Debug, Default)]
pub(super) struct Disk {
    files: BTreeMap<PathBuf, Content>,
    folders: BTreeSet<PathBuf>,
    /// For people: what did not get to the disk.
    pub(super) lost: Vec<String>,
}

impl Disk {
    /// Makes a folder that has this.
    pub(super) fn write(&self, folder: &Path) {
        for path in &self.folders {
            fs::create_dir(folder.join(path)).unwrap();
        }
        for (path, content) in &self.files {
            let file = fs::File::create(folder.join(path)).unwrap();
            file.write_all_at(&content.bytes, 0).unwrap();
            file.set_len(content.len).unwrap();
        }
    }

    /// Fails where a folder has not just this.
    pub(super) fn assert_is(&self, folder: &Path) {
        let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
        let mut open = vec![PathBuf::new()];
        while let Some(path) = open.pop() {
            for item in fs::read_dir(folder.join(&path)).unwrap() {
                let item = item.unwrap();
                let path = path.join(item.file_name());
                if item.file_type().unwrap().is_dir() {
                    open.push(path.clone());
                    folders.insert(path);
                } else {
                    files.insert(path);
                }
            }
        }
        assert_eq!(folders, self.folders);
        assert_eq!(files, self.files.keys().cloned().collect());
        for (path, content) in &self.files {
            let bytes = fs::read(folder.join(path)).unwrap();
            let (written, rest) = bytes.split_at(content.bytes.len());
            let zeros = vec![0; content.len as usize - content.bytes.len()];
            assert!(written == content.bytes && rest == zeros, "{} is different", path.display());
        }
    }
}
