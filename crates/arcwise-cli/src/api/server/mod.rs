//! The daemon's side.

mod archive;
mod bulk;
mod copies;
mod peers;
mod spaces;
mod status;
mod stream;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use arcwise::Node;
use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Query, Request, State, rejection::BytesRejection},
    http::Uri,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Code, Error, InSpace, MAX_REQUEST,
    socket::{self, Caller, Shown},
};
use crate::log;

/// How long requests under way may take once the daemon is to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// Fewest digits that may stand for a fingerprint or a node's id.
const MIN_PREFIX: usize = 4;

type Answer<T> = Result<Json<T>, Error>;

/// A body, or why it was not taken.
type Body = Result<Bytes, BytesRejection>;

/// The API of a running node.
pub(crate) struct Server {
    daemon: Daemon,
    shown: Shown,
    serving: JoinHandle<io::Result<()>>,
}

/// What all requests share.
#[derive(Clone)]
struct Daemon(Arc<Shared>);

struct Shared {
    /// Gone when the daemon stops.
    node: Mutex<Option<Node>>,
    data: PathBuf,
    /// Of when the daemon started.
    warnings: Vec<String>,
    stop: CancellationToken,
    /// The node has given up its folder.
    stopped: CancellationToken,
    /// Requests that use the node. What works on past its handler holds a token, and lets go of it
    /// last.
    running: TaskTracker,
}

impl Server {
    /// Begins to answer on the socket in `data`, the folder of `node`. A request can ask for `stop`.
    pub(crate) fn start(node: &Node, data: &Path, stop: CancellationToken) -> io::Result<Self> {
        let (listener, shown) = socket::bind(data)?;
        let daemon = Daemon(Arc::new(Shared {
            node: Mutex::new(Some(node.clone())),
            data: data.to_owned(),
            warnings: log::warnings(),
            stop: stop.clone(),
            stopped: CancellationToken::new(),
            running: TaskTracker::new(),
        }));
        let app = router(daemon.clone()).into_make_service_with_connect_info::<Caller>();
        let serve = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
        Ok(Self { daemon, shown, serving: tokio::spawn(serve.into_future()) })
    }

    /// Stops the node, in good order: no new requests, the end of those under way, goodbye to the
    /// peers. When this returns the folder is free.
    pub(crate) async fn stop(self, node: Node) {
        let Self { daemon: Daemon(shared), shown, mut serving } = self;
        shared.stop.cancel();
        drop(shown);
        drop(lock(&shared.node).take());
        shared.running.close();
        let requests = timeout(LAST_REQUESTS, shared.running.wait());
        if tokio::join!(requests, node.shutdown()).0.is_err() {
            tracing::warn!("a request was cut off");
        }
        drop(node);
        shared.stopped.cancel();
        // Whoever asked for the stop is told; others that are left hang up with the process.
        if timeout(Duration::from_secs(1), &mut serving).await.is_err() {
            serving.abort();
        }
    }
}

fn router(daemon: Daemon) -> Router {
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/bandwidth", get(status::bandwidth).post(status::set_bandwidth))
        .route("/v1/spaces", get(spaces::spaces).post(spaces::create_space))
        .route("/v1/space", get(spaces::one_space).delete(spaces::delete))
        .route("/v1/space/limit", post(spaces::limit))
        .route("/v1/space/arc", post(spaces::hold))
        .route("/v1/space-id", get(spaces::space_id))
        .route("/v1/ticket", get(spaces::ticket))
        .route("/v1/join", post(spaces::join))
        .route("/v1/watch", get(copies::watch))
        .route("/v1/why", get(copies::why))
        .route("/v1/replicated", post(copies::replicated))
        .route("/v1/peers", get(peers::peers))
        .route("/v1/block", post(peers::block))
        .route("/v1/probe", post(peers::probe))
        .route("/v1/sync", post(peers::sync))
        .route("/v1/check", post(status::check))
        .route("/v1/store", get(status::store))
        .route("/v1/compact", post(status::compact))
        .route("/v1/aspects", post(bulk::put_aspects))
        .route("/v1/missing", post(bulk::missing))
        .route("/v1/objects", post(bulk::read_objects))
        .route("/v1/entry", get(bulk::entry))
        .route("/v1/export", get(archive::export))
        .route("/v1/import", post(archive::import))
        .layer(from_fn_with_state(daemon.clone(), while_running))
        .route("/v1/events", get(stream::events))
        .route("/v1/stop", post(stream::stop))
        .fallback(async || Error::new(Code::NotFound, "this daemon knows no such request"))
        .method_not_allowed_fallback(async || Error::bad_request("this request has another method"))
        .layer(from_fn(only_owner))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(daemon)
}

async fn only_owner(
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if !caller.is_owner {
        let text = "only the user who runs the daemon may use it";
        return Error::new(Code::Forbidden, text).into_response();
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let start = Instant::now();
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), start.elapsed());
    tracing::debug!(%method, path, status, ?took, "answered");
    response
}

/// Keeps the node there until the request is done.
async fn while_running(State(daemon): State<Daemon>, request: Request, next: Next) -> Response {
    let _token = daemon.0.running.token();
    next.run(request).await
}

impl Daemon {
    fn node(&self) -> Result<Node, Error> {
        let node = lock(&self.0.node).clone();
        node.ok_or_else(|| Error::new(Code::Stopping, "the daemon is shutting down"))
    }

    fn space(&self, uri: &Uri) -> Result<arcwise::Space, Error> {
        let InSpace { space } = query(uri)?;
        spaces::select(&self.node()?, space.as_deref())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Error> {
    Query::try_from_uri(uri).map(|Query(query)| query).map_err(Error::bad_request)
}

fn whole(body: Body) -> Result<Bytes, Error> {
    body.map_err(|error| Error::bad_request(error.body_text()))
}

fn parsed<T: DeserializeOwned>(body: Body) -> Result<T, Error> {
    serde_json::from_slice(&whole(body)?).map_err(Error::bad_request)
}
