//! Files in and out of a space.

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use arcwise::{Aspect, EntryAddress};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::{
    api::{
        self, Client, Peers, Ping, Replication, Space, WaitForCopies,
        client::{self, Remote},
    },
    args::{Get, InSpace, Put, What},
    exit::{Exit, NotReached, Signalled, Usage},
    files::{
        self, Entry, Item, Listed, Name, NewAspect, Node, ObjectName, Objects, SkipReason, Totals,
        printable, printable_path,
    },
    output::{Output, bytes, count, local_time, rfc3339, table},
    signals::stop_at_signals,
};

/// Fewest digits of an address that are shown.
const SHOWN: usize = 10;

pub(super) async fn put(args: Put, context: Context<'_>) -> anyhow::Result<Exit> {
    let output = context.output;
    let stdin = args.path.as_os_str() == "-";
    let name = match (args.name, stdin) {
        (Some(name), true) => {
            // Before anything is read.
            Name::parse(name.as_str()).map_err(|error| {
                Usage(format!("--name: {error}; give a plain name, such as notes.txt"))
            })?;
            name
        }
        (None, _) => String::new(),
        (Some(_), false) => {
            let text = "--name is for what comes from stdin; a file or folder keeps its own name";
            return Err(Usage(text.to_owned()).into());
        }
    };
    let (data, space) = (context.data, args.space.clone());
    let wanted = args.copies;
    let put = with_objects(context, args.space, move |objects| {
        let bar = output.files("putting");
        let objects = Noting { objects, names: RefCell::new(wanted.map(|_| Vec::new())) };
        let put = match stdin {
            true => files::put_reader(&objects, &name, io::stdin().lock(), &|done| bar.show(done)),
            false => files::put(&objects, &args.path, &|done| bar.show(done)),
        };
        put.map(|put| (put, objects.names.into_inner()))
    });
    let (put, names) = put.await?;
    let totals = put.item.totals();
    if !output.json {
        // It is durable here: whatever becomes of the copies, this is told.
        output.line(put.address)?;
    }
    for skipped in &put.skipped {
        let (path, why) = (printable_path(&skipped.path), why_skipped(skipped.reason));
        output.say(format_args!("left out {path}: {why}"));
    }
    let new = match put.new_objects {
        0 => "all of it was here already".to_owned(),
        objects => format!("stored {}, {}", count(objects, "new object"), bytes(put.new_bytes)),
    };
    output.say(format_args!("{}: {}; {new}", put.name, told_totals(&totals)));
    let copied = match wanted.zip(names) {
        Some((copies, names)) => Some(wait_for_copies(data, space, copies, &names, output).await?),
        None => None,
    };
    if output.json {
        let skipped = put.skipped.iter().map(|skipped| {
            json!({ "path": printable_path(&skipped.path), "reason": why_skipped(skipped.reason) })
        });
        let mut told = json!({
            "address": put.address.to_string(),
            "new_objects": put.new_objects,
            "new_bytes": put.new_bytes,
            "skipped": skipped.collect::<Vec<_>>(),
        });
        extend(&mut told, [json_name(&put.name), json_item(&put.item)]);
        if let Some(copied) = &copied {
            extend(&mut told, [json!({ "copies": copied })]);
        }
        output.json(&told)?;
    }
    Ok(copied.and_then(|copied| copied.signal).map_or(Exit::Done, Signalled::exit))
}

/// What became of waiting for copies.
#[derive(Debug, Serialize)]
struct Copied {
    wanted: u32,
    /// Whether all of it is known to have as many.
    complete: bool,
    objects: usize,
    /// Objects known to have as many; others may have.
    objects_complete: usize,
    /// What has ended the waiting.
    #[serde(skip)]
    signal: Option<Signalled>,
}

/// Waits until so many others hold all these objects, or until Ctrl-C.
async fn wait_for_copies(
    data: &Path,
    space: InSpace,
    copies: u32,
    names: &[ObjectName],
    output: Output,
) -> anyhow::Result<Copied> {
    let stop = CancellationToken::new();
    let signals = stop_at_signals(stop.clone())?;
    let client = Client::new(data);
    let wanted = WaitForCopies { space: space.space, copies };
    let others = count(copies.into(), "other node");
    output.say(format_args!(
        "Waiting for {others} to confirm that all of it is durable there; Ctrl-C ends the waiting, not \
         the put."
    ));
    let bar = output.counter(format!("durable at {others}"));
    bar.set_length(names.len() as u64);
    let (mut before, mut complete, mut least) = (0, 0, 0);
    let waiting = async {
        for part in names.chunks(NAMES_AT_A_TIME) {
            let mut lines = client.replicated(&wanted, part).await?;
            let mut whole = false;
            while let Some(now) = lines.next::<Replication>().await? {
                complete = before + now.complete;
                whole = now.complete == now.aspects;
                bar.set_position(complete as u64);
                if now.copies != least {
                    least = now.copies;
                    bar.suspend(|| {
                        output.say(format_args!(
                            "{} of {copies} hold all of what was asked for last.",
                            least.min(copies)
                        ));
                    });
                }
            }
            // It ends where there are enough, or with the daemon.
            whole.then_some(()).context("the daemon stopped before there were enough copies")?;
            before += part.len();
        }
        anyhow::Ok(())
    };
    let done = stop.run_until_cancelled(waiting).await.transpose()?.is_some();
    bar.finish_and_clear();
    let objects = names.len();
    match done {
        true => output.say(format_args!("All of it is durable at {others}.")),
        false => output.say(format_args!(
            "Not waiting any more: {complete} of {} are known to be durable at {others}. It is put, and \
             goes on to others by itself.",
            count(objects as u64, "object")
        )),
    }
    let objects_complete = if done { objects } else { complete };
    let signal = if done { None } else { signals.first() };
    Ok(Copied { wanted: copies, complete: done, objects, objects_complete, signal })
}

/// Objects that are waited for at a time: they fit a request.
const NAMES_AT_A_TIME: usize = 65_536;

/// Keeps in mind which objects a put is about, whether they are new or not.
struct Noting<'a> {
    objects: &'a Remote,
    /// Nothing where nobody wants to know.
    names: RefCell<Option<Vec<ObjectName>>>,
}

impl Noting<'_> {
    fn note(&self, names: impl IntoIterator<Item = ObjectName>) {
        if let Some(all) = &mut *self.names.borrow_mut() {
            all.extend(names);
        }
    }
}

impl Objects for Noting<'_> {
    type Error = client::Error;

    fn put(&self, aspects: Vec<NewAspect>) -> Result<(), client::Error> {
        let records = aspects.iter().filter(|new| new.signed);
        self.note(records.map(|new| ObjectName { address: new.entry, kind: new.kind }));
        self.objects.put(aspects)
    }

    fn entry(&self, entry: &EntryAddress) -> Result<Vec<Aspect>, client::Error> {
        self.objects.entry(entry)
    }

    fn missing(&self, objects: &[ObjectName]) -> Result<Vec<ObjectName>, client::Error> {
        self.note(objects.iter().copied());
        self.objects.missing(objects)
    }
}

fn why_skipped(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Special => "neither file, folder nor link",
        SkipReason::Vanished => "removed while it was read",
    }
}

pub(super) async fn get(args: Get, context: Context<'_>) -> anyhow::Result<Exit> {
    let output = context.output;
    let sub = match (args.what.sub, args.sub) {
        (Some(_), Some(_)) => {
            let text = "the path inside is given twice: after the address, and with --sub";
            return Err(Usage(text.to_owned()).into());
        }
        (one, other) => one.or(other),
    };
    let (what, destination) = (args.what.address, args.path);
    let (data, space) = (context.data, args.space.clone());
    let objects = open(context, args.space).await?;
    // A signal makes it give up in good order, so that nothing half done stays behind.
    let signals = stop_at_signals(objects.interrupted.clone())?;
    let work = tokio::task::spawn_blocking(move || {
        let address = files::resolve(&objects, &what)?;
        let destination = match destination {
            Some(destination) => destination,
            None => PathBuf::from(files::name_for(&objects, address, sub.as_deref())?),
        };
        let bar = output.files("getting");
        files::get(&objects, address, sub.as_deref(), &destination, &|done| bar.show(done))
    });
    let restored = match (work.await?, signals.first()) {
        (Ok(restored), _) => restored,
        (Err(_), Some(signal)) => return Err(signal.into()),
        (Err(error), None) => return Err(explained(error, data, space).await),
    };
    let skipped: Vec<_> = restored.skipped_links.iter().map(|path| printable_path(path)).collect();
    for link in &skipped {
        output.say(format_args!("left out {link}: this system has no such links"));
    }
    match output.json {
        true => {
            let mut told =
                json!({ "path": restored.path.to_string_lossy(), "skipped_links": skipped });
            extend(&mut told, [json_totals(&restored.totals)]);
            output.json(&told)?;
        }
        false => output.line(restored.path.display())?,
    }
    output.say(told_totals(&restored.totals));
    Ok(Exit::Done)
}

pub(super) async fn cat(what: What, space: InSpace, context: Context<'_>) -> anyhow::Result<Exit> {
    let work = with_objects(context, space, move |objects| {
        let address = files::resolve(objects, &what.address)?;
        files::cat(objects, address, what.sub.as_deref(), io::stdout().lock())
    });
    work.await?;
    Ok(Exit::Done)
}

pub(super) async fn ls(
    what: Option<What>,
    space: InSpace,
    context: Context<'_>,
) -> anyhow::Result<Exit> {
    let output = context.output;
    let Some(What { address, sub }) = what else {
        let listed = with_objects(context, space, files::list).await?;
        return ls_catalog(&listed, output);
    };
    let work = with_objects(context, space, move |objects| {
        let address = files::resolve(objects, &address)?;
        match files::list_folder(objects, address, sub.as_deref()) {
            // As with `ls` of a file.
            Err(files::Error::NotAFolder { .. }) => {
                files::entry_at(objects, address, sub.as_deref()).map(|entry| vec![entry])
            }
            entries => entries,
        }
    });
    let entries = work.await?;
    if output.json {
        let entries: Vec<Value> = entries.iter().map(json_entry).collect();
        output.json(&entries)?;
    } else if entries.is_empty() {
        output.say("The folder is empty.");
    } else {
        let rows: Vec<_> = entries.iter().map(entry_row).collect();
        output.line(table("><", &rows))?;
    }
    Ok(Exit::Done)
}

fn ls_catalog(listed: &[Listed], output: Output) -> anyhow::Result<Exit> {
    if output.json {
        let told = listed.iter().map(|listed| {
            let mut told = json!({
                "address": listed.address.to_string(),
                "author": listed.author.to_string(),
                "published": rfc3339(listed.published),
            });
            extend(&mut told, [json_name(&listed.name), json_item(&listed.item)]);
            told
        });
        output.json(&told.collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    if listed.is_empty() {
        output.say("Nothing was put into this space yet, as far as is known here.");
        return Ok(Exit::Done);
    }
    let digits = digits_to_tell(listed.iter().map(|listed| listed.address));
    let mut rows = vec![["ADDRESS", "SIZE", "FILES", "PUT", "BY", "NAME"].map(str::to_owned)];
    rows.extend(listed.iter().map(|listed| {
        let totals = listed.totals();
        let (files, slash) = match listed.is_folder() {
            true => (totals.files.to_string(), "/"),
            false => (String::new(), ""),
        };
        [
            listed.address.to_string()[..digits].to_owned(),
            bytes(totals.bytes),
            files,
            local_time(listed.published),
            listed.author.short(),
            format!("{}{slash}", listed.name),
        ]
    }));
    output.line(table("<>><<<", &rows))?;
    Ok(Exit::Done)
}

/// So many first digits tell the addresses apart.
fn digits_to_tell(addresses: impl Iterator<Item = EntryAddress>) -> usize {
    let mut texts: Vec<String> = addresses.map(|address| address.to_string()).collect();
    texts.sort_unstable();
    texts.dedup();
    let alike = |pair: &[String]| {
        let (a, b) = (pair[0].bytes(), pair[1].bytes());
        a.zip(b).take_while(|(a, b)| a == b).count()
    };
    texts.windows(2).map(alike).max().map_or(SHOWN, |alike| SHOWN.max(alike + 1))
}

/// Size and name; a mark says what it is, as with `ls -F`.
fn entry_row(entry: &Entry) -> [String; 2] {
    match &entry.node {
        Node::Item(Item::File { content, executable }) => {
            let mark = if *executable { "*" } else { "" };
            [bytes(content.length), format!("{}{mark}", entry.name)]
        }
        Node::Item(Item::Folder { totals, .. }) => {
            [bytes(totals.bytes), format!("{}/", entry.name)]
        }
        Node::Link(target) => [String::new(), format!("{}@ -> {}", entry.name, printable(target))],
    }
}

fn json_entry(entry: &Entry) -> Value {
    let mut told = json_name(&entry.name);
    let what = match &entry.node {
        Node::Item(item) => json_item(item),
        Node::Link(target) => {
            json!({ "kind": "link", "target": String::from_utf8_lossy(target) })
        }
    };
    extend(&mut told, [what]);
    told
}

/// The name, and its exact bytes in hexadecimal where it is not UTF-8.
fn json_name(name: &Name) -> Value {
    match std::str::from_utf8(name.as_bytes()) {
        Ok(name) => json!({ "name": name }),
        Err(_) => json!({
            "name": String::from_utf8_lossy(name.as_bytes()),
            "name_bytes": data_encoding::HEXLOWER.encode(name.as_bytes()),
        }),
    }
}

fn json_item(item: &Item) -> Value {
    let mut told = match item {
        Item::File { executable, .. } => json!({ "kind": "file", "executable": executable }),
        Item::Folder { .. } => json!({ "kind": "folder" }),
    };
    extend(&mut told, [json_totals(&item.totals())]);
    told
}

fn json_totals(totals: &Totals) -> Value {
    let Totals { files, folders, links, bytes } = totals;
    json!({ "files": files, "folders": folders, "links": links, "bytes": bytes })
}

fn extend(object: &mut Value, others: impl IntoIterator<Item = Value>) {
    for other in others {
        if let (Value::Object(object), Value::Object(other)) = (&mut *object, other) {
            object.extend(other);
        }
    }
}

fn told_totals(totals: &Totals) -> String {
    let mut parts = vec![count(totals.files, "file")];
    if totals.folders > 0 {
        parts.push(count(totals.folders, "folder"));
    }
    if totals.links > 0 {
        parts.push(count(totals.links, "link"));
    }
    parts.push(bytes(totals.bytes));
    parts.join(", ")
}

/// The space that is meant, which from here on is that and no other.
async fn open(context: Context<'_>, space: InSpace) -> Result<Remote, client::Error> {
    let space: Space = context.client.get("/v1/space", api::InSpace::from(space)).await?;
    Ok(Remote::new(context.client, space.fingerprint, Handle::current()))
}

/// What is missing may be with a peer that is not connected; where none is, that is the trouble.
async fn explained(error: files::Error, data: &Path, space: InSpace) -> anyhow::Error {
    if !matches!(error, files::Error::Missing(_)) {
        return error.into();
    }
    let client = Client::new(data);
    let asked = async {
        let space: Space = client.get("/v1/space", api::InSpace::from(space)).await?;
        let peers: Peers = client.get("/v1/peers", Ping { ping: false }).await?;
        Ok::<_, client::Error>((space.peers, peers.unreachable.len() as u64))
    };
    match asked.await {
        Ok((0, away @ 1..)) => {
            let away = count(away, "peer");
            let text = format!(
                "{error}.\nNo peer in this space is connected: {away} known, none answers; see: \
                 arcwise peers"
            );
            NotReached(text).into()
        }
        _ => error.into(),
    }
}

/// Runs file work against a space of the daemon, on a thread that may wait.
pub(super) async fn with_objects<T: Send + 'static>(
    context: Context<'_>,
    space: InSpace,
    work: impl FnOnce(&Remote) -> Result<T, files::Error> + Send + 'static,
) -> anyhow::Result<T> {
    let (data, again) = (context.data, space.clone());
    let objects = open(context, space).await?;
    match tokio::task::spawn_blocking(move || work(&objects)).await? {
        Ok(done) => Ok(done),
        Err(error) => Err(explained(error, data, again).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_digits_as_it_takes() {
        let digits = |last: &[u8]| {
            let address = |&byte| {
                let mut address = EntryAddress([7; 32]);
                address.0[31] = byte;
                address
            };
            digits_to_tell(last.iter().map(address))
        };
        assert_eq!(digits(&[]), SHOWN);
        assert_eq!(digits(&[1, 1]), SHOWN);
        assert_eq!(digits(&[1, 2]), 64);
        assert_eq!(digits(&[0x10, 0x20]), 63);
    }
}
