//! What the node keeps on its disk.

use std::{path::Path, time::Instant};

use arcwise::Node;
use arcwise_store::{Options, Store};

use super::Context;
use crate::{
    api::{
        Checked,
        client::{Error, shell_word},
    },
    exit::Exit,
    files::printable,
    output::{Output, bytes, count},
};

/// Checks all of it: through the daemon, or here where none runs.
pub(super) async fn check(context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { data, client, output } = context;
    let checking = output.spinner("reading the whole store");
    let checked = match client.post("/v1/check", ()).await {
        Err(Error::NoDaemon(_)) if Node::exists(data) => check_here(data).await,
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

async fn check_here(data: &Path) -> anyhow::Result<Checked> {
    let data = data.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        let report = Store::open(&data, Options::default())?.check()?;
        Ok(Checked::new(&report, start.elapsed()))
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
    if !checked.sound {
        output.say(format_args!(
            "What is sound can still be got. To have a whole store again, stop the daemon and \
             restore a backup of {}; or make another node, join the spaces there, and let it fetch \
             all from the peers: arcwise init --data DIR. Check the disk too.",
            shell_word(data),
        ));
    }
    Ok(())
}
