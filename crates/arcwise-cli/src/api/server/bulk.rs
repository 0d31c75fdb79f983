//! Aspects in and out.

use arcwise::EntryAddress;
use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};

use super::{Body, Daemon, query, spaces::select, stream::stream, whole};
use crate::{
    api::{AtEntry, Error, wire},
    objects,
};

pub(super) async fn put_aspects(
    State(daemon): State<Daemon>,
    uri: Uri,
    body: Body,
) -> Result<StatusCode, Error> {
    let space = daemon.space(&uri)?;
    let aspects = wire::decode_new(whole(body)?).map_err(Error::bad_request)?;
    objects::put(&space, aspects).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn missing(
    State(daemon): State<Daemon>,
    uri: Uri,
    body: Body,
) -> Result<Response, Error> {
    let space = daemon.space(&uri)?;
    let names = wire::decode_names(whole(body)?).map_err(Error::bad_request)?;
    let missing = objects::missing(&space, &names).await?;
    Ok(wire::encode_names(&missing).into_response())
}

pub(super) async fn read_objects(
    State(daemon): State<Daemon>,
    uri: Uri,
    body: Body,
) -> Result<Response, Error> {
    let space = daemon.space(&uri)?;
    let names = wire::decode_names(whole(body)?).map_err(Error::bad_request)?;
    let token = daemon.0.running.token();
    Ok(stream(async move |pieces| {
        let (_token, space) = (token, space);
        for piece in names.chunks(objects::PIECE) {
            let piece = match objects::read(&space, piece).await {
                Ok(aspects) => wire::encode_aspects(aspects.iter().map(Option::as_ref)),
                Err(error) => {
                    let _ = pieces.send(wire::encode_failure(&error.into())).await;
                    return;
                }
            };
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    }))
}

pub(super) async fn entry(State(daemon): State<Daemon>, uri: Uri) -> Result<Response, Error> {
    let AtEntry { space, address } = query(&uri)?;
    let space = select(&daemon.node()?, space.as_deref())?;
    let entry: EntryAddress = address.parse().map_err(Error::bad_request)?;
    let aspects = objects::entry(&space, entry).await?;
    Ok(wire::encode_aspects(aspects.iter().map(Some)).into_response())
}
