//! What the node keeps on its disk.

use std::{path::Path, time::Instant};

use arcwise::{Node, StoreError};
use arcwise_store::{Options, Store};

use super::Context;
use crate::{
    api::{
        Check, Checked, Compacted, StoreStats,
        client::{Error, shell_word},
    },
    exit::Exit,
    files::printable,
    output::{Output, bytes, count, table},
};

/// Checks all of it: through the daemon, or here where none runs.
pub(super) async fn check(repair: bool, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { data, client, output } = context;
    let checking = output.spinner("reading the whole store");
    let checked = match client.post("/v1/check", Check { repair }).await {
        Err(Error::NoDaemon(_)) if Node::exists(data) => check_here(data, repair).await,
        checked => checked.map_err(anyhow::Error::from),
    };
    checking.finish_and_clear();
    let checked = checked?;
    match output.json {
        true => output.json(&checked)?,
        false => tell(&checked, data, output)?,
    }
    Ok(if checked.sound { Exit::Done } else { Exit::Damaged })
}

async fn check_here(data: &Path, repair: bool) -> anyhow::Result<Checked> {
    offline(data, move |store| {
        let start = Instant::now();
        let report = store.check()?;
        let checked = Checked::new(&report, start.elapsed());
        let given_up = if repair { store.give_up(&report)? } else { 0 };
        Ok(Checked { given_up, ..checked })
    })
    .await
}

pub(super) async fn stats(context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { data, client, output } = context;
    let stats = match client.get("/v1/store", ()).await {
        Err(Error::NoDaemon(_)) if Node::exists(data) => {
            offline(data, |store| Ok(store.stats()?.into())).await
        }
        stats => stats.map_err(anyhow::Error::from),
    };
    let stats: StoreStats = stats?;
    match output.json {
        true => output.json(&stats)?,
        false => output.line(table("<>", &rows(&stats)))?,
    }
    Ok(Exit::Done)
}

pub(super) async fn compact(context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { data, client, output } = context;
    let compacting = output.spinner("compacting the store");
    let compacted = match client.post("/v1/compact", ()).await {
        Err(Error::NoDaemon(_)) if Node::exists(data) => {
            offline(data, |store| {
                let before = store.stats()?.into();
                while store.clear()? {}
                store.compact()?;
                Ok(Compacted { before, after: store.stats()?.into() })
            })
            .await
        }
        compacted => compacted.map_err(anyhow::Error::from),
    };
    compacting.finish_and_clear();
    let compacted: Compacted = compacted?;
    match output.json {
        true => output.json(&compacted)?,
        false => output.line(format_args!(
            "The store took {} and takes {} now.",
            bytes(compacted.before.disk),
            bytes(compacted.after.disk)
        ))?,
    }
    Ok(Exit::Done)
}

/// Does something with the store, where no daemon has it open.
async fn offline<T: Send + 'static>(
    data: &Path,
    work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> anyhow::Result<T> {
    let data = data.to_owned();
    let work = move || Ok(work(&Store::open(&data, Options::default())?)?);
    tokio::task::spawn_blocking(work).await?
}

fn rows(stats: &StoreStats) -> [[String; 2]; 9] {
    let held = format!("{} in {}", bytes(stats.aspect_bytes), count(stats.aspects, "aspect"));
    let part = |what: &str, size| [what.to_owned(), bytes(size)];
    [
        ["held".to_owned(), held],
        part("on disk", stats.disk),
        part("  log", stats.log),
        part("    of it removed", stats.removed),
        part("  index by location", stats.index),
        part("  index by hash", stats.ids),
        part("  journals", stats.journals),
        part("  sums and records", stats.others),
        part("free", stats.free),
    ]
}

fn tell(checked: &Checked, data: &Path, output: &Output) -> anyhow::Result<()> {
    let Checked { aspects, seconds, damage_count, .. } = checked;
    let (aspects, size) = (count(*aspects, "sound aspect"), bytes(checked.bytes));
    for damage in &checked.damages {
        output.line(printable(damage.what.as_bytes()))?;
    }
    let untold = damage_count.saturating_sub(checked.damages.len() as u64);
    if untold > 0 {
        output.line(format_args!("and {untold} more"))?;
    }
    let found = match damage_count {
        0 => "nothing is damaged".to_owned(),
        damages => count(*damages, "damage"),
    };
    output.line(format_args!(
        "Checked index, log, counters and sums in {seconds:.2} s: {aspects}, {size}; {found}."
    ))?;
    if checked.given_up > 0 {
        output.say(format_args!(
            "{} given up: fetched again from peers that have them, once the daemon runs and they \
             are connected. Check again then, and check the disk.",
            count(checked.given_up, "damaged aspect"),
        ));
    } else if !checked.sound {
        output.say(format_args!(
            "What is sound can still be got. To have the damaged aspects fetched again from peers: \
             arcwise store check --repair. Or stop the daemon and restore a backup of {}. Check the \
             disk too.",
            shell_word(data),
        ));
    }
    Ok(())
}
