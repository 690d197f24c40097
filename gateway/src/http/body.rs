//! What an answer carries.

use crate::s3::error::S3Error;
use crate::transfer::download::Download;
use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of an answer.
pub enum ResponseBody {
    /// Bytes that are there.
    Full(Bytes),
    /// Bytes that come from the cluster; with what must live until they have.
    Download(Box<Download>, Box<dyn std::any::Any>),
}

impl ResponseBody {
    /// No bytes.
    pub fn empty() -> Self {
        ResponseBody::Full(Bytes::new())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = S3Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, S3Error>>> {
        match self.get_mut() {
            ResponseBody::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            ResponseBody::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ResponseBody::Download(download, _) => {
                Pin::new(&mut **download).poll_next(cx).map_ok(Frame::data)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Full(bytes) => bytes.is_empty(),
            ResponseBody::Download(download, _) => download.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            ResponseBody::Full(bytes) => bytes.len() as u64,
            ResponseBody::Download(download, _) => download.left(),
        })
    }
}
