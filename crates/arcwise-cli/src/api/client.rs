//! The commands' side.

use std::{
    convert::Infallible,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use arcwise::{Aspect, EntryAddress, Node};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

use super::{
    AtEntry, Code, Exported, Import, Imported, InSpace, WaitForCopies, socket,
    wire::{self, Malformed, Piece},
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

    /// Reads an answer to a GET line by line as it comes.
    pub(crate) async fn get_lines(
        &self,
        path: &str,
        query: impl Serialize,
    ) -> Result<Lines, Error> {
        let (response, _connection) = self.send(Method::GET, path, query, Bytes::new()).await?;
        Ok(Lines { body: response.into_body(), buffer: BytesMut::new() })
    }

    /// Waits for copies of these objects, and reads how far that is.
    pub(crate) async fn replicated(
        &self,
        wanted: &WaitForCopies,
        names: &[ObjectName],
    ) -> Result<Lines, Error> {
        let names = wire::encode_names(names);
        let (response, _connection) =
            self.send(Method::POST, "/v1/replicated", wanted, names).await?;
        Ok(Lines { body: response.into_body(), buffer: BytesMut::new() })
    }

    /// Has a space exported, piece by piece.
    pub(crate) async fn export(&self, space: InSpace) -> Result<Archive, Error> {
        let (response, _connection) =
            self.send(Method::GET, "/v1/export", space, Bytes::new()).await?;
        Ok(Archive { body: response.into_body(), buffer: BytesMut::new() })
    }

    /// Has an archive imported, of which the pieces come from `pieces`.
    pub(crate) async fn import(&self, pieces: mpsc::Receiver<Bytes>) -> Result<Imported, Error> {
        let pieces = ReceiverStream::new(pieces);
        let body = StreamBody::new(pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece))));
        let mut connection = self.connect().await?;
        let request = request(Method::POST, "/v1/import", (), body)?;
        let response = accepted(connection.send_request(request).await?).await?;
        let mut lines = Lines { body: response.into_body(), buffer: BytesMut::new() };
        match lines.next().await? {
            Some(Import::Imported(imported)) => Ok(*imported),
            Some(Import::Failed(error)) => Err(error.into()),
            None => Err(Error::Malformed),
        }
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
        let request = request(method, path, query, Full::new(body))?;
        let mut connection = self.connection().await?;
        let response = accepted(connection.send_request(request).await?).await?;
        Ok((response, connection))
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        while let Some(mut idle) = { self.idle().pop() } {
            if idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        self.connect().await
    }

    async fn connect<B>(&self) -> Result<SendRequest<B>, Error>
    where
        B: Body<Data: Send, Error = Infallible> + Send + 'static,
    {
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

fn request<B>(
    method: Method,
    path: &str,
    query: impl Serialize,
    body: B,
) -> Result<Request<B>, Error> {
    let query = serde_urlencoded::to_string(query).map_err(|_| Error::Malformed)?;
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let request = Request::builder().method(method).uri(target).header(HOST, "arcwise");
    request.body(body).map_err(|_| Error::Malformed)
}

/// The answer, where it is what was asked for.
async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = collect(response.into_body()).await?;
    Err(match serde_json::from_slice::<super::Error>(&body) {
        Ok(error) => error.into(),
        Err(_) if status == StatusCode::NOT_FOUND => Error::Malformed,
        Err(_) => super::Error::new(Code::Failed, String::from_utf8_lossy(&body)).into(),
    })
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

/// An archive that comes piece by piece.
pub(crate) struct Archive {
    body: Incoming,
    buffer: BytesMut,
}

impl Archive {
    /// The next piece, or what the archive was made of, once it is whole.
    pub(crate) async fn next(&mut self) -> Result<ControlFlow<Exported, Bytes>, Error> {
        loop {
            match wire::decode_piece(&mut self.buffer) {
                Some(Piece::Bytes(bytes)) => return Ok(ControlFlow::Continue(bytes)),
                Some(Piece::End { failed }) => {
                    while self.read().await? {}
                    return match failed {
                        true => Err(json::<super::Error>(&self.buffer)?.into()),
                        false => json(&self.buffer).map(ControlFlow::Break),
                    };
                }
                None if self.read().await? => {}
                None => return Err(Error::Malformed),
            }
        }
    }

    /// False where there is no more.
    async fn read(&mut self) -> Result<bool, Error> {
        let Some(frame) = self.body.frame().await else { return Ok(false) };
        if let Ok(data) = frame?.into_data() {
            self.buffer.extend_from_slice(&data);
        }
        Ok(true)
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
