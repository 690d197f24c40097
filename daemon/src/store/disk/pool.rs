//! The medium by threads with pread and pwrite: where io_uring is refused, as in many containers.
#![allow(clippy::disallowed_methods)] // threads are this file's business

use super::file::{DataFile, Wake, available, failed, grow};
use super::{Buffer, Disk, DiskError, Done, Durability, Request};
use rustix::io::Errno;
use std::sync::{Arc, Condvar, Mutex, mpsc};

/// Enough to keep a disk busy with a group, extents and reads at once.
const THREADS: usize = 4;

#[derive(Default)]
struct Queue {
    requests: Mutex<(std::collections::VecDeque<(u64, Request)>, bool)>,
    filled: Condvar,
}

/// A [`Disk`] of a few threads.
pub(super) struct Threads {
    file: Arc<DataFile>,
    size: u64,
    queue: Arc<Queue>,
    answers: mpsc::Receiver<Done>,
    wake: Wake,
    handles: Vec<std::thread::JoinHandle<()>>,
    /// An answer that `wait` took.
    waited: Option<Done>,
}

impl Threads {
    pub(super) fn new(file: Arc<DataFile>, size: u64, wake: &Wake) -> std::io::Result<Threads> {
        let queue = Arc::new(Queue::default());
        let (send, answers) = mpsc::channel();
        let mut handles = Vec::with_capacity(THREADS);
        for _ in 0..THREADS {
            let (file, queue, send, wake) =
                (file.clone(), queue.clone(), send.clone(), wake.clone());
            let worker = move || work(&file, &queue, &send, &wake);
            handles.push(std::thread::Builder::new().name("store-disk".into()).spawn(worker)?);
        }
        Ok(Threads { file, size, queue, answers, wake: wake.clone(), handles, waited: None })
    }
}

fn work(file: &DataFile, queue: &Queue, answers: &mpsc::Sender<Done>, wake: &Wake) {
    loop {
        let next = {
            let mut requests = queue.requests.lock().expect("no holder of this lock panics");
            loop {
                if let Some(next) = requests.0.pop_front() {
                    break Some(next);
                }
                if requests.1 {
                    break None;
                }
                requests = queue.filled.wait(requests).expect("no holder of this lock panics");
            }
        };
        let Some((id, request)) = next else { return };
        let done = Done { id, result: perform(file, request) };
        if answers.send(done).is_err() {
            return;
        }
        wake.wake();
    }
}

fn perform(file: &DataFile, request: Request) -> Result<Option<Buffer>, DiskError> {
    match request {
        Request::Flush => {
            rustix::fs::fdatasync(&file.fd).map_err(|e| failed("flush the disk", e))?;
            Ok(None)
        }
        Request::Read { offset, mut buffer } => {
            let mut at = 0;
            while at < buffer.len() {
                match rustix::io::pread(&file.fd, &mut buffer[at..], offset + at as u64) {
                    Ok(0) => return Err(DiskError::Unreadable("the file ends early".into())),
                    Ok(read) => at += read,
                    Err(Errno::INTR) => {}
                    Err(e) => {
                        return Err(DiskError::Unreadable(std::io::Error::from(e).to_string()));
                    }
                }
            }
            Ok(Some(buffer))
        }
        Request::Write { offset, buffer, durability } => {
            let mut at = 0;
            while at < buffer.len() {
                match rustix::io::pwrite(&file.fd, &buffer[at..], offset + at as u64) {
                    Ok(0) => return Err(DiskError::Failed("the disk takes no bytes".into())),
                    Ok(written) => at += written,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(failed("write to the disk", e)),
                }
            }
            if durability != Durability::None {
                rustix::fs::fdatasync(&file.fd).map_err(|e| failed("flush the disk", e))?;
            }
            Ok(Some(buffer))
        }
    }
}

impl Disk for Threads {
    fn submit(&mut self, id: u64, request: Request) {
        let mut requests = self.queue.requests.lock().expect("no holder of this lock panics");
        requests.0.push_back((id, request));
        drop(requests);
        self.queue.filled.notify_one();
    }

    fn kick(&mut self) {}

    fn poll(&mut self, done: &mut Vec<Done>) {
        done.extend(self.waited.take());
        done.extend(self.answers.try_iter());
    }

    fn wait(&mut self) {
        if self.waited.is_none() {
            self.waited = self.answers.recv().ok();
        }
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn grow(&mut self, size: u64) -> Result<(), DiskError> {
        if size > self.size {
            grow(&self.file, self.size, size)?;
            self.size = size;
        }
        Ok(())
    }

    fn available(&self) -> u64 {
        available(&self.file)
    }

    fn engine(&self) -> &'static str {
        if self.file.direct { "threads" } else { "threads, buffered" }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut requests = self.queue.requests.lock().expect("no holder of this lock panics");
        requests.1 = true;
        drop(requests);
        self.queue.filled.notify_all();
        for handle in self.handles.drain(..) {
            // A panic there was reported by the panic itself.
            let _ = handle.join();
        }
        self.wake.clear();
    }
}
