//! What the daemon says where it does not do what was asked.

use arcwise::{
    BlockError, CreateError, ExportError, ImportError, JoinError, PublishError, StoreError,
    SyncError,
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::exit::{io_cause, is_full};

/// The body of every answer that is not a success.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    pub(crate) code: Code,
    /// For people: what is wrong, and what to do about it.
    pub(crate) message: String,
}

/// What kind of trouble it is, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// The request is not well-formed, or does not say which of several spaces is meant.
    BadRequest,
    /// There is no such space, peer or request.
    NotFound,
    /// No peer that could help is connected.
    NotConnected,
    /// There is one already.
    Exists,
    /// Another user asks.
    Forbidden,
    /// Too little room on the disk; nothing was written.
    DiskFull,
    /// What is on disk, or in an archive, is not what was stored.
    Damaged,
    /// A limit does not allow more.
    SpaceFull,
    /// An archive is of a newer version.
    Version,
    /// The store failed.
    Store,
    /// The daemon is shutting down.
    Stopping,
    /// Anything else, and what a later version may add.
    #[serde(other)]
    Failed,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl ToString) -> Self {
        Self::new(Code::BadRequest, message.to_string())
    }
}

impl Code {
    pub(crate) fn of_store(error: &StoreError) -> Self {
        match error {
            StoreError::DiskFull { .. } => Code::DiskFull,
            StoreError::Full { .. } => Code::SpaceFull,
            StoreError::SpaceDeleted(_) => Code::NotFound,
            StoreError::SpaceExists(_) => Code::Exists,
            StoreError::Damaged(_) => Code::Damaged,
            StoreError::Engine(error) if io_cause(error).is_some_and(is_full) => Code::DiskFull,
            StoreError::Engine(_) => Code::Store,
        }
    }

    pub(crate) fn of_sync(error: &SyncError) -> Self {
        match error {
            SyncError::Store(error) => Self::of_store(error),
            SyncError::NotConnected | SyncError::NotShared => Code::NotConnected,
            SyncError::Shutdown => Code::Stopping,
            _ => Code::Failed,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::BadRequest | Code::Version => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Exists => StatusCode::CONFLICT,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::DiskFull | Code::SpaceFull => StatusCode::INSUFFICIENT_STORAGE,
            Code::NotConnected | Code::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Code::Damaged | Code::Store | Code::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.code.status(), Json(self)).into_response()
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::new(Code::of_store(&error), error.to_string())
    }
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(error) => error.into(),
            PublishError::Aspect(error) => Self::bad_request(error),
        }
    }
}

impl From<CreateError> for Error {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Store(error) => error.into(),
            error => Self::new(Code::Failed, error.to_string()),
        }
    }
}

impl From<JoinError> for Error {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Store(error) => error.into(),
            error @ JoinError::OwnTicket => Self::bad_request(error),
        }
    }
}

impl From<BlockError> for Error {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Store(error) => error.into(),
            error => Self::bad_request(error),
        }
    }
}

impl From<ExportError> for Error {
    fn from(error: ExportError) -> Self {
        let code = match &error {
            ExportError::Damaged(_) | ExportError::Missing { .. } => Code::Damaged,
            ExportError::Store(error) => Code::of_store(error),
            ExportError::Write(_) => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ImportError> for Error {
    fn from(error: ImportError) -> Self {
        let code = match &error {
            ImportError::NotAnArchive => Code::BadRequest,
            ImportError::NewerVersion => Code::Version,
            ImportError::CutShort { .. }
            | ImportError::Damaged { .. }
            | ImportError::Aspect { .. } => Code::Damaged,
            ImportError::Store(error) => Code::of_store(error),
            ImportError::Shutdown => Code::Stopping,
            ImportError::Read(_) => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}
