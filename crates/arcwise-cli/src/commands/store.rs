//! What the node keeps on its disk.

use std::{path::Path, time::Instant};

use arcwise::Node;
use arcwise_store::{Options, Store};

use super::Context;
use crate::{
    api::{
        Check, Checked,
        client::{Error, shell_word},
    },
    exit::Exit,
    files::printable,
    output::{Output, bytes, count},
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
    let data = data.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        let store = Store::open(&data, Options::default())?;
        let report = store.check()?;
        let checked = Checked::new(&report, start.elapsed());
        let given_up = if repair { store.give_up(&report)? } else { 0 };
        Ok(Checked { given_up, ..checked })
    });
    work.await?
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
