//! A socket that gives up on a client who takes nothing: hyper bounds how long heads and bodies may take
//! to come, this bounds how long an answer may stand still.
//!
//! It also says `100 Continue` where hyper does not: to a request that expects it and has an empty body.
//! Some clients (botocore) take the final answer for a refusal then, and their connection is out of step
//! from there on. It is said when all that was written before is flushed: with several requests on their way the end of
//! the answer before may still wait to be written.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How a connection's handler asks for `100 Continue` before the next answer.
#[derive(Clone, Debug, Default)]
pub struct Interim {
    /// Bytes of [`CONTINUE`] that are still to be written.
    left: Rc<Cell<usize>>,
    /// Who waits until they are.
    waiting: Rc<RefCell<Option<Waker>>>,
}

impl Interim {
    /// Says `100 Continue`, and comes back when that is said: the answer is given after it.
    pub async fn say_continue(&self) {
        self.left.set(CONTINUE.len());
        let said = |cx: &mut Context<'_>| {
            if self.left.get() == 0 {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        };
        poll_fn(said).await;
    }
}

/// A stream whose writes fail when they make no progress for too long.
pub struct Impatient<S> {
    stream: S,
    patience: Duration,
    interim: Interim,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    /// With so much patience.
    pub fn new(stream: S, patience: Duration, interim: Interim) -> Self {
        Impatient { stream, patience, interim, waiting: None }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.waiting = None;
            return write;
        }
        let patience = self.patience;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> Impatient<S> {
    /// Writes what is asked for. Called where whoever writes has nothing left that he began to write before.
    fn write_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let left = self.interim.left.get();
            if left == 0 {
                if let Some(waiting) = self.interim.waiting.take() {
                    waiting.wake();
                }
                return Poll::Ready(Ok(()));
            }
            let rest = &CONTINUE[CONTINUE.len() - left..];
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.interim.left.set(left - written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = match self.write_interim(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_flush(cx),
            other => other,
        };
        self.watch(cx, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, shutdown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn the_answer_before_is_not_broken_into() {
        // Shorter than what is written: neither goes in one step.
        let (here, mut there) = tokio::io::duplex(7);
        let interim = Interim::default();
        let mut stream = Impatient::new(here, Duration::from_secs(9), interim.clone());
        let answers = async move {
            stream.write_all(b"the beginning, ").await.expect("written");
            let waits = interim.say_continue();
            let writes = async {
                stream.write_all(b"the end of the answer before").await.expect("written");
                stream.flush().await.expect("flushed");
            };
            tokio::join!(waits, writes);
            stream.write_all(b"the answer").await.expect("written");
            stream.shutdown().await.expect("shut");
        };
        let mut all = String::new();
        let (read, ()) = tokio::join!(there.read_to_string(&mut all), answers);
        read.expect("read");
        let expected = format!(
            "the beginning, the end of the answer before{}the answer",
            std::str::from_utf8(CONTINUE).expect("text")
        );
        assert_eq!(all, expected);
    }
}
