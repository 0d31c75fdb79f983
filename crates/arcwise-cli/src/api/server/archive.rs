//! Whole spaces, out and in.

use std::io;

use axum::{body::Body, extract::State, http::Uri, response::Response};
use tokio::io::{AsyncReadExt, copy, duplex, sink};
use tokio_stream::StreamExt;
use tokio_util::io::StreamReader;

use super::{
    Daemon,
    spaces::told,
    stream::{lines, stream},
};
use crate::api::{Code, Error, Exported, Import, Imported, wire};

/// Bytes of an archive sent at a time.
const PIECE: usize = 256 << 10;

pub(super) async fn export(State(daemon): State<Daemon>, uri: Uri) -> Result<Response, Error> {
    let space = daemon.space(&uri)?;
    let (stop, token) = (daemon.0.stop.clone(), daemon.0.running.token());
    Ok(stream(async move |pieces| {
        let _token = token;
        let (name, fingerprint) = (space.name(), space.id().fingerprint());
        let (writer, archive) = duplex(PIECE);
        let send = async {
            let mut archive = archive;
            loop {
                let mut piece = wire::new_piece(PIECE);
                // This end of the pipe does not fail.
                let _ = archive.read_buf(&mut piece).await;
                let Some(piece) = wire::encode_piece(piece) else { return };
                if pieces.send(piece).await.is_err() {
                    return;
                }
            }
        };
        let export = async { tokio::join!(space.export(writer), send).0 };
        let exported = match stop.run_until_cancelled(export).await {
            Some(exported) => exported.map_err(Error::from),
            None => Err(Error::new(Code::Stopping, "the daemon is shutting down")),
        };
        let last = match exported {
            Ok(arcwise::Exported { aspects, bytes }) => {
                wire::encode_exported(&Exported { name, fingerprint, aspects, bytes })
            }
            Err(error) => wire::encode_failure(&error),
        };
        let _ = pieces.send(last).await;
    }))
}

pub(super) async fn import(State(daemon): State<Daemon>, body: Body) -> Result<Response, Error> {
    let node = daemon.node()?;
    let (stop, token) = (daemon.0.stop.clone(), daemon.0.running.token());
    let pieces = body.into_data_stream().map(|piece| piece.map_err(io::Error::other));
    let mut archive = StreamReader::new(pieces);
    // Goes on to an end of its own where nobody waits for it any more, so that all that is stored is
    // announced. That comes soon: the archive ends there.
    let work = tokio::spawn(async move {
        let _token = token;
        let imported = node.import(&mut archive).await;
        (imported.map(|imported| Box::new(told_import(&imported))), archive)
    });
    Ok(lines(async move |lines| {
        // A panic in it has been told on stderr.
        let (imported, mut archive) = work.await.ok()?;
        let failed = imported.is_err();
        lines
            .tell(&imported.map_or_else(|error| Import::Failed(error.into()), Import::Imported))
            .await?;
        if failed {
            // Whoever sends may look for the answer only when all is sent.
            stop.run_until_cancelled(copy(&mut archive, &mut sink())).await?.ok()?;
        }
        Some(())
    }))
}

fn told_import(imported: &arcwise::Imported) -> Imported {
    let arcwise::Imported { space, created, aspects, bytes, new } = imported;
    Imported {
        space: told(&space.status()),
        already: !created,
        aspects: *aspects,
        bytes: *bytes,
        new: *new,
    }
}
