//! A connection that breaks when its peer is silent for too long.
//!
//! HTTP/2's own keep-alive sends the pings that make a live peer speak, but does not end a server's connection
//! reliably: it says goodbye first, which waits for ever once the socket's buffer is full, and tells the
//! streams that they ended in order. Here both reading and writing fail, whatever the connection was doing.

use super::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

pub(crate) struct Watched {
    inner: Stream,
    silence_max: Duration,
    heard_at: Instant,
    /// Fires at or before the moment when the silence is too long; it is set anew only then.
    alarm: Pin<Box<Sleep>>,
}

impl Watched {
    pub(crate) fn new(inner: Stream, silence_max: Duration) -> Self {
        let alarm = Box::pin(sleep(silence_max));
        Watched { inner, silence_max, heard_at: Instant::now(), alarm }
    }

    /// Ready once the silence is too long; else wakes the task when it might be.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            let too_long_at = self.heard_at + self.silence_max;
            if Instant::now() >= too_long_at {
                let text = format!("the peer was silent for {:?}", self.silence_max);
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            self.alarm.as_mut().reset(too_long_at);
        }
        Poll::Pending
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Pending => self.poll_silence(cx).map(Err),
            ready => {
                self.heard_at = Instant::now();
                ready
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(cx, buf) {
            Poll::Pending => self.poll_silence(cx).map(Err),
            ready => ready,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.poll_silence(cx).map(Err),
            ready => ready,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Pending => self.poll_silence(cx).map(Err),
            ready => ready,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_shutdown(cx) {
            Poll::Pending => self.poll_silence(cx).map(Err),
            ready => ready,
        }
    }
}
