//! Making a node, and stopping it.

use std::{fs, path::Path};

use arcwise::{Config, Node};

use super::Context;
use crate::{
    api::{
        Bandwidth, Stopping,
        client::{Error, shell_word},
    },
    args::Size,
    exit::Exit,
    output::bytes,
};

pub(super) async fn init(context: &Context<'_>) -> anyhow::Result<Exit> {
    let (data, output) = (context.data, context.output);
    let already = Node::exists(data);
    if !already {
        make_private(data);
    }
    let id = Node::init(&Config::new(data)).await?;
    match output.json {
        true => output.json(&serde_json::json!({
            "node": id.to_string(),
            "data": data.display().to_string(),
            "already": already,
        }))?,
        false => output.line(id)?,
    }
    match already {
        true => output.say(format_args!("There is a node in {} already.", data.display())),
        false => output.say(format_args!(
            "Made a node in {}. Run it with: arcwise serve{}",
            data.display(),
            data_option(data),
        )),
    }
    Ok(Exit::Done)
}

/// A folder that somebody made for the node, and that is still empty, becomes as private as one that
/// the node makes.
fn make_private(data: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let is_empty = fs::read_dir(data).is_ok_and(|mut children| children.next().is_none());
    if is_empty && let Err(error) = fs::set_permissions(data, fs::Permissions::from_mode(0o700)) {
        tracing::warn!(%error, "others may be able to read {}", data.display());
    }
}

/// What to add to a command so that it means this folder, where that must be said.
pub(super) fn data_option(data: &Path) -> String {
    let default = crate::data_folder(None).ok();
    match default.is_some_and(|default| default == data) {
        true => String::new(),
        false => format!(" --data {}", shell_word(data)),
    }
}

pub(super) async fn bandwidth(
    up: Option<Size>,
    down: Option<Size>,
    context: &Context<'_>,
) -> anyhow::Result<Exit> {
    let Context { client, output, .. } = context;
    let mut bandwidth: Bandwidth = client.get("/v1/bandwidth", ()).await?;
    if up.is_some() || down.is_some() {
        bandwidth.up = up.map_or(bandwidth.up, |Size(up)| up);
        bandwidth.down = down.map_or(bandwidth.down, |Size(down)| down);
        bandwidth = client.post("/v1/bandwidth", bandwidth).await?;
    }
    match output.json {
        true => output.json(&bandwidth)?,
        false => output.line(told_bandwidth(&bandwidth))?,
    }
    Ok(Exit::Done)
}

/// For people: `up at most 2.00 MiB/s, down as fast as it goes`.
pub(super) fn told_bandwidth(bandwidth: &Bandwidth) -> String {
    let rate = |rate: Option<u64>| match rate {
        Some(rate) => format!("at most {}/s", bytes(rate)),
        None => "as fast as it goes".to_owned(),
    };
    format!("up {}, down {}", rate(bandwidth.up), rate(bandwidth.down))
}

pub(super) async fn stop(context: &Context<'_>) -> anyhow::Result<Exit> {
    let waiting = context.output.spinner("waiting for the daemon to shut down");
    let mut lines = context.client.post_lines("/v1/stop", ()).await?;
    let mut last = None;
    while let Some(line) = lines.next::<Stopping>().await? {
        last = Some(line);
    }
    waiting.finish_and_clear();
    if last != Some(Stopping::Stopped) {
        return Err(Error::Malformed.into());
    }
    if context.output.json {
        context.output.json(&serde_json::json!({ "stopped": true }))?;
    }
    context.output.say("The daemon has shut down.");
    Ok(Exit::Done)
}
