//! The log: on stderr, and what was warned of also kept, since nobody may read the stderr of a
//! daemon.

use std::{
    fmt,
    io::{self, IsTerminal},
    sync::{Mutex, PoisonError},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer, filter::Targets, layer, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::args::Global;

/// Warnings that are kept, at most.
const MOST: usize = 20;

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(crate) fn start(global: &Global) {
    let directives = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (_, 0) => "error,arcwise=warn,arcwise_store=warn",
        (_, 1) => "warn,arcwise=info,arcwise_store=info",
        _ => "info,arcwise=debug,arcwise_store=debug,arcwise_proto=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives));
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let shown = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(ansi);
    let ours = Targets::new().with_target("arcwise", Level::WARN);
    tracing_subscriber::registry()
        .with(shown.with_filter(filter))
        .with(Warnings.with_filter(ours))
        .init();
}

/// What was warned of so far.
pub(crate) fn warnings() -> Vec<String> {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

struct Warnings;

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut kept = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST {
            kept.push(message.0);
        }
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
