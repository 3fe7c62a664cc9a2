//! Request bodies on their way in: in pieces, each awaited only so long, and never more than is wanted.

use std::time::Duration;

use actix_web::{error::PayloadError, web::Payload};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::errors::Refusal;
use crate::oci::{ErrorCode, RegistryError};

/// How long the next piece may take.
const IDLE: Duration = Duration::from_secs(60);

/// A body that nobody has read yet. Dropped unread, it costs its sender the connection.
pub(super) struct Intake(Payload);

impl Intake {
    pub(super) fn new(payload: Payload) -> Self {
        Intake(payload)
    }

    /// The next piece; `None` at the end. An error where the body breaks off or stops coming.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Refusal> {
        match tokio::time::timeout(IDLE, self.0.next()).await {
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => Err(broken(&error).into()),
            Err(_) => {
                let message = "nothing came for a minute; what had come before is kept where the upload can go on";
                Err(RegistryError::new(ErrorCode::BlobUploadInvalid, message).with_status(408).into())
            }
        }
    }

    /// All of it; `None` where it is more than `most` bytes. `told`: its length, where the head has it.
    pub(super) async fn whole(&mut self, told: Option<u64>, most: usize) -> Result<Option<Bytes>, Refusal> {
        if told.is_some_and(|told| told > most as u64) {
            return Ok(None);
        }
        // What the head promises is believed only up to a point: promising costs nothing.
        let expected = told.map_or(0, |told| told as usize).min(64 << 10);
        let mut whole = BytesMut::with_capacity(expected);
        while let Some(piece) = self.piece().await? {
            if whole.len() + piece.len() > most {
                return Ok(None);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Some(whole.freeze()))
    }
}

fn broken(error: &PayloadError) -> RegistryError {
    RegistryError::new(ErrorCode::BlobUploadInvalid, format!("the body broke off: {error}"))
}
