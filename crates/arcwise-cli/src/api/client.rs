//! The commands' side.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use arcwise::{Aspect, EntryAddress, Node};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    AtEntry, Code, InSpace, socket,
    wire::{self, Malformed},
};
use crate::files::{NewAspect, ObjectName, Objects};

/// Most bytes taken of one answer. Only a catalog with many records comes near.
const MAX_ANSWER: usize = 1 << 30;

/// Why the daemon did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "no daemon runs on {data}; start one with: arcwise serve --data {data}",
        data = shell_word(.0)
    )]
    NoDaemon(PathBuf),
    #[error("there is no node in {data}; make one with: arcwise init --data {data}", data = shell_word(.0))]
    NoNode(PathBuf),
    #[error("cannot talk to the daemon on {}", .data.display())]
    Connect { data: PathBuf, source: io::Error },
    #[error("the daemon stopped in the middle of it; see what it says, and start it again")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Refused(#[from] super::Error),
    #[error("the daemon's answer makes no sense; is it of another version than this command?")]
    Malformed,
    #[error("interrupted")]
    Interrupted,
}

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Self {
        Self::Lost(Box::new(error))
    }
}

impl From<Malformed> for Error {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// A path as it can be pasted into a shell.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Talks to the daemon on one data folder.
pub(crate) struct Client {
    data: PathBuf,
    /// Connections that wait for the next request.
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    /// There was a daemon.
    reached: AtomicBool,
}

impl Client {
    pub(crate) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), idle: Mutex::default(), reached: AtomicBool::new(false) }
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: impl Serialize,
    ) -> Result<T, Error> {
        json(&self.request(Method::GET, path, query, Bytes::new()).await?)
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: impl Serialize,
    ) -> Result<T, Error> {
        json(&self.request(Method::POST, path, (), to_json(body)?).await?)
    }

    /// Posts what is about a space.
    pub(crate) async fn post_in<T: DeserializeOwned>(
        &self,
        path: &str,
        space: InSpace,
        body: impl Serialize,
    ) -> Result<T, Error> {
        json(&self.request(Method::POST, path, space, to_json(body)?).await?)
    }

    pub(crate) async fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        space: InSpace,
    ) -> Result<T, Error> {
        json(&self.request(Method::DELETE, path, space, Bytes::new()).await?)
    }

    /// Posts, and reads the answer line by line as it comes.
    pub(crate) async fn post_lines(
        &self,
        path: &str,
        body: impl Serialize,
    ) -> Result<Lines, Error> {
        let (response, _connection) = self.send(Method::POST, path, (), to_json(body)?).await?;
        Ok(Lines { body: response.into_body(), buffer: BytesMut::new() })
    }

    /// Sends a request and takes all of the answer.
    async fn request(
        &self,
        method: Method,
        path: &str,
        query: impl Serialize,
        body: Bytes,
    ) -> Result<Bytes, Error> {
        let (response, connection) = self.send(method, path, query, body).await?;
        let body = collect(response.into_body()).await?;
        self.idle().push(connection);
        Ok(body)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: impl Serialize,
        body: Bytes,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), Error> {
        let query = serde_urlencoded::to_string(query).map_err(|_| Error::Malformed)?;
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, "arcwise")
            .body(Full::new(body))
            .map_err(|_| Error::Malformed)?;
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await?;
        if !response.status().is_success() {
            let status = response.status();
            let body = collect(response.into_body()).await?;
            return Err(match serde_json::from_slice::<super::Error>(&body) {
                Ok(error) => error.into(),
                Err(_) if status == StatusCode::NOT_FOUND => Error::Malformed,
                Err(_) => super::Error::new(Code::Failed, String::from_utf8_lossy(&body)).into(),
            });
        }
        Ok((response, connection))
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        while let Some(mut idle) = { self.idle().pop() } {
            if idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        let stream = socket::connect(&self.data).await.map_err(|source| {
            let data = self.data.clone();
            match source.kind() {
                _ if self.reached.load(Ordering::Relaxed) => Error::Lost(Box::new(source)),
                io::ErrorKind::NotFound if !Node::exists(&data) => Error::NoNode(data),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NoDaemon(data),
                _ => Error::Connect { data, source },
            }
        })?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        self.reached.store(true, Ordering::Relaxed);
        // Its errors show in the request that meets them.
        tokio::spawn(driver);
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

async fn collect(body: Incoming) -> Result<Bytes, Error> {
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => (*error).into(),
            Err(_) => Error::Malformed,
        }),
    }
}

fn to_json(body: impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(&body).map(Bytes::from).map_err(|_| Error::Malformed)
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|_| Error::Malformed)
}

/// An answer that comes line by line.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next line; `None` at the end.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                return json(&self.buffer.split_to(end + 1)).map(Some);
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

/// A space of the daemon's node. Its calls block, so they belong on a thread of their own.
pub(crate) struct Remote {
    client: Client,
    space: InSpace,
    runtime: Handle,
    /// Makes every call fail from then on, so that what is under way is given up in good order.
    pub(crate) interrupted: CancellationToken,
}

impl Remote {
    /// The space of this fingerprint.
    pub(crate) fn new(client: Client, fingerprint: String, runtime: Handle) -> Self {
        let space = InSpace { space: Some(fingerprint) };
        Self { client, space, runtime, interrupted: CancellationToken::new() }
    }

    fn call(
        &self,
        method: Method,
        path: &str,
        query: impl Serialize,
        body: Bytes,
    ) -> Result<Bytes, Error> {
        let work = self.client.request(method, path, query, body);
        let work = self.interrupted.run_until_cancelled(work);
        self.runtime.block_on(work).unwrap_or(Err(Error::Interrupted))
    }
}

impl Objects for Remote {
    type Error = Error;

    fn put(&self, aspects: Vec<NewAspect>) -> Result<(), Error> {
        let body = wire::encode_new(&aspects);
        self.call(Method::POST, "/v1/aspects", &self.space, body)?;
        Ok(())
    }

    fn entry(&self, entry: &EntryAddress) -> Result<Vec<Aspect>, Error> {
        let query = AtEntry { space: self.space.space.clone(), address: entry.to_string() };
        let body = self.call(Method::GET, "/v1/entry", query, Bytes::new())?;
        Ok(wire::decode_aspects(body)??.into_iter().flatten().collect())
    }

    fn missing(&self, objects: &[ObjectName]) -> Result<Vec<ObjectName>, Error> {
        let names = wire::encode_names(objects);
        Ok(wire::decode_names(self.call(Method::POST, "/v1/missing", &self.space, names)?)?)
    }

    fn read(&self, names: &[ObjectName]) -> Result<Vec<Option<Aspect>>, Error> {
        let body = wire::encode_names(names);
        let body = self.call(Method::POST, "/v1/objects", &self.space, body)?;
        let aspects = wire::decode_aspects(body)??;
        if aspects.len() == names.len() { Ok(aspects) } else { Err(Error::Malformed) }
    }
}
