//! Answers that come piece by piece.

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use super::{Daemon, Shared};
use crate::api::{Error, Feed, Stopping};

pub(super) async fn events(State(daemon): State<Daemon>) -> Result<Response, Error> {
    let feed = Feed::new(&daemon.node()?);
    let (stop, token) = (daemon.0.stop.clone(), daemon.0.running.token());
    Ok(lines(async move |lines| {
        let (_token, mut feed) = (token, feed);
        let tell = async {
            while let Some(event) = feed.next().await {
                lines.tell(&event).await?;
            }
            Some(())
        };
        stop.run_until_cancelled(tell).await?
    }))
}

pub(super) async fn stop(State(daemon): State<Daemon>) -> Response {
    let Shared { stop, stopped, .. } = &*daemon.0;
    let (stop, stopped) = (stop.clone(), stopped.clone());
    lines(async move |lines| {
        lines.tell(&Stopping::Stopping).await?;
        stop.cancel();
        stopped.cancelled().await;
        lines.tell(&Stopping::Stopped).await
    })
}

/// Sends lines of JSON.
#[derive(Clone)]
pub(super) struct LineSender(mpsc::Sender<Bytes>);

impl LineSender {
    /// `None` where nobody reads any more.
    pub(super) async fn tell(&self, value: &impl Serialize) -> Option<()> {
        let mut line = serde_json::to_vec(value).ok()?;
        line.push(b'\n');
        self.0.send(line.into()).await.ok()
    }
}

/// Answers with the lines that `work` sends.
pub(super) fn lines<F>(work: impl FnOnce(LineSender) -> F + Send + 'static) -> Response
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let mut response = stream(|pieces| async move {
        work(LineSender(pieces)).await;
    });
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Answers with what `work` sends, piece by piece, as fast as it is read. `work` is dropped when
/// nobody reads any more.
pub(super) fn stream<F>(work: impl FnOnce(mpsc::Sender<Bytes>) -> F + Send + 'static) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, pieces) = mpsc::channel(2);
    tokio::spawn(async move {
        let gone = sender.clone();
        tokio::select! {
            () = work(sender) => {}
            () = gone.closed() => {}
        }
    });
    Body::from_stream(ReceiverStream::new(pieces).map(Ok::<_, Infallible>)).into_response()
}
