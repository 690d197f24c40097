//! `object`: the objects of a pool as they are, without S3; and what operators say about the buckets of the gateways
//! (`bucket.rs`, `limits.rs`).
//!
//! What is put from a file of up to 128 MiB is one object; longer files and pipes are striped over many
//! (`store_client::Striper`), and `get` and `rm` find out by themselves which it is.
#![allow(clippy::disallowed_methods)] // a file that was got is renamed into its place

use super::bucket::{self, BucketCommand, LifecycleCommand};
use super::limits::{self, QosCommand, QuotaCommand};
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::progress;
use crate::table::Table;
use crate::units::{bytes as in_units, date};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, FuturesUnordered, Stream, StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use store_base::error::Error;
use store_base::op::{OBJECT_BYTES_MAX, Op, PAYLOAD_BYTES_MAX, Stat};
use store_base::{ObjectName, PoolId};
use store_client::{Cursor, Options, StoreClient, Striper};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// Objects in one page of a listing.
const PAGE: usize = 1000;
/// Pieces read ahead of the network, and requests in flight.
const IN_FLIGHT: usize = 8;
/// Omap pairs in one request.
const OMAP_PAGE: u32 = 1000;

/// Data on its way in or out.
type Pieces = BoxStream<'static, Result<Bytes, Error>>;

#[derive(clap::Subcommand, Debug)]
pub(crate) enum ObjectCommand {
    /// Write a file or standard input to an object
    Put {
        #[command(flatten)]
        at: At,
        /// The file, or - for standard input
        file: PathBuf,
        /// Stripe it over many objects, as happens by itself above 128 MiB
        #[arg(long)]
        striped: bool,
    },
    /// Read an object into a file or standard output
    Get {
        #[command(flatten)]
        at: At,
        /// The file, or - for standard output
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// List the objects of a pool
    #[command(visible_alias = "list")]
    Ls {
        /// The pool
        pool: String,
        /// Size and time of change too
        #[arg(long, short)]
        long: bool,
        /// At most so many
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Remove objects
    Rm {
        /// The pool
        pool: String,
        /// The objects
        #[arg(required = true)]
        objects: Vec<String>,
        /// The namespace within the pool
        #[arg(long, default_value = "")]
        namespace: String,
    },
    /// Show an object's size, time of change and version
    Stat {
        #[command(flatten)]
        at: At,
    },
    /// Extended attributes of an object
    #[command(subcommand)]
    Xattr(PairCommand),
    /// Ordered keys of an object
    #[command(subcommand)]
    Omap(PairCommand),
    /// Buckets of the gateways
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// What users and buckets of the gateways may hold
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// How fast users and buckets of the gateways may go
    #[command(subcommand)]
    Qos(QosCommand),
    /// The workers of lifecycle rules
    #[command(subcommand)]
    Lifecycle(LifecycleCommand),
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum PairCommand {
    /// List keys and values
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        at: At,
    },
    /// Show a value, as it is
    Get {
        #[command(flatten)]
        at: At,
        /// The key
        key: String,
    },
    /// Set a value
    Set {
        #[command(flatten)]
        at: At,
        /// The key
        key: String,
        /// The value
        value: String,
    },
    /// Remove a key
    Rm {
        #[command(flatten)]
        at: At,
        /// The key
        key: String,
    },
}

/// An object of a pool.
#[derive(clap::Args, Debug)]
pub(crate) struct At {
    /// The pool
    pool: String,
    /// The object
    object: String,
    /// The namespace within the pool
    #[arg(long, default_value = "")]
    namespace: String,
}

fn name(object: &str, namespace: &str) -> ObjectName {
    let mut name = ObjectName::new(Bytes::copy_from_slice(object.as_bytes()));
    name.namespace = Bytes::copy_from_slice(namespace.as_bytes());
    name
}

/// A pool of a cluster that was reached.
struct Work<'a> {
    client: StoreClient,
    pool: PoolId,
    output: &'a Output,
}

pub(crate) async fn run(
    verb: ObjectCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let work = async |pool: &str| {
        let client = connection.client().await?;
        let pool = client.pool(pool).await?;
        Ok::<_, Failure>(Work { client, pool, output })
    };
    match verb {
        ObjectCommand::Put { at, file, striped } => {
            let work = work(&at.pool).await?;
            work.put(&name(&at.object, &at.namespace), &file, striped).await
        }
        ObjectCommand::Get { at, file } => {
            let work = work(&at.pool).await?;
            work.get(&name(&at.object, &at.namespace), &file).await
        }
        ObjectCommand::Ls { pool, long, limit } => work(&pool).await?.list(long, limit).await,
        ObjectCommand::Rm { pool, objects, namespace } => {
            let work = work(&pool).await?;
            let striper = work.striper();
            for object in &objects {
                striper.remove(&name(object, &namespace)).await?;
            }
            output.done(&format!("removed {}", objects.join(", ")));
            Ok(())
        }
        ObjectCommand::Stat { at } => {
            let work = work(&at.pool).await?;
            work.stat(&name(&at.object, &at.namespace)).await
        }
        ObjectCommand::Xattr(verb) => {
            let work = work(&verb.at().pool).await?;
            work.xattr(verb).await
        }
        ObjectCommand::Omap(verb) => {
            let work = work(&verb.at().pool).await?;
            work.omap(verb).await
        }
        ObjectCommand::Bucket(verb) => bucket::run(verb, connection, output).await,
        ObjectCommand::Quota(verb) => limits::quota(verb, connection, output).await,
        ObjectCommand::Qos(verb) => limits::qos(verb, connection, output).await,
        ObjectCommand::Lifecycle(verb) => bucket::lifecycle(verb, connection, output).await,
    }
}

impl PairCommand {
    fn at(&self) -> &At {
        match self {
            PairCommand::Ls { at }
            | PairCommand::Get { at, .. }
            | PairCommand::Set { at, .. }
            | PairCommand::Rm { at, .. } => at,
        }
    }
}

impl Work<'_> {
    fn striper(&self) -> Striper {
        Striper::new(self.client.clone(), self.pool)
    }

    async fn put(&self, object: &ObjectName, file: &Path, striped: bool) -> Result<(), Failure> {
        object.check().map_err(Failure::usage)?;
        let (data, length) = source(file)?;
        let bar = progress::bytes(self.output, length);
        let mut data = counted(data, bar.clone()).boxed();
        let size = match length {
            Some(length) if length <= OBJECT_BYTES_MAX && !striped => {
                self.put_plain(object, data).await
            }
            _ if striped => self.striper().put(object, data).await.map_err(Failure::from),
            _ => {
                // A pipe: a short one is a plain object too.
                let first = gather(&mut data, PAYLOAD_BYTES_MAX + 1).await?;
                let small = first.len() <= PAYLOAD_BYTES_MAX;
                let whole = stream::iter([Ok(first)]).chain(data).boxed();
                match small {
                    true => self.put_plain(object, whole).await,
                    false => self.striper().put(object, whole).await.map_err(Failure::from),
                }
            }
        };
        bar.finish_and_clear();
        let size = size?;
        let value = json!({"object": object.to_string(), "size": size});
        self.output.show_text(&value, |_| format!("put {object}, {}", in_units(size)));
        Ok(())
    }

    /// Replaces the object; several pieces are in flight behind the first.
    async fn put_plain(&self, object: &ObjectName, mut data: Pieces) -> Result<u64, Failure> {
        match self.striper().look_up(object).await {
            // What points to stripes must not become their garbage.
            Ok(Some(_)) => self.striper().remove(object).await?,
            Ok(None) | Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let mut written = 0;
        let mut writes = FuturesUnordered::new();
        loop {
            let piece = gather(&mut data, PAYLOAD_BYTES_MAX).await?;
            let (offset, length) = (written, piece.len() as u64);
            written += length;
            if offset == 0 {
                self.client.write_full(self.pool, object, piece).await?;
            } else if length > 0 {
                writes.push(self.client.write(self.pool, object, offset, piece));
            }
            if length < PAYLOAD_BYTES_MAX as u64 {
                break;
            }
            if written > OBJECT_BYTES_MAX {
                return Err(Failure::failed("the file grew while it was read; put it again"));
            }
            if writes.len() >= IN_FLIGHT {
                writes.next().await.transpose()?;
            }
        }
        while writes.next().await.transpose()?.is_some() {}
        Ok(written)
    }

    async fn get(&self, object: &ObjectName, file: &Path) -> Result<(), Failure> {
        let to_screen = file == Path::new("-");
        let (size, data) = match self.striper().look_up(object).await? {
            Some(_) => {
                let reader = self.striper().get(object).await?;
                (reader.striped.size, reader.into_stream())
            }
            None => {
                let stat = self.client.stat(self.pool, object).await?;
                (stat.size, self.client.read_stream(self.pool, object, &stat))
            }
        };
        let shown = !to_screen || !std::io::stdout().is_terminal();
        let bar =
            if shown { progress::bytes(self.output, Some(size)) } else { ProgressBar::hidden() };
        let data = counted(data, bar.clone());
        if to_screen {
            let mut data = pin!(data);
            while let Some(piece) = data.next().await.transpose()? {
                self.output.raw(&piece);
            }
            bar.finish_and_clear();
            return Ok(());
        }
        let written = write_file(file, data).await;
        bar.finish_and_clear();
        written?;
        let value =
            json!({"object": object.to_string(), "size": size, "file": file.display().to_string()});
        let text = format!("got {object}, {}, into {}", in_units(size), file.display());
        self.output.show_text(&value, |_| text);
        Ok(())
    }

    async fn list(&self, long: bool, limit: Option<usize>) -> Result<(), Failure> {
        let mut left = limit.unwrap_or(usize::MAX);
        let mut cursor = Some(Cursor::default());
        let mut all = Vec::new();
        while let Some(from) = cursor.filter(|_| left > 0) {
            let page = self.client.list(self.pool, from, left.min(PAGE)).await?;
            left -= page.objects.len();
            cursor = page.next;
            let rows = self.describe(page.objects, long).await?;
            match self.output.is_json() {
                true => all.extend(rows),
                // A page at a time: a pool may be larger than memory.
                false => self.show_page(&rows, long),
            }
        }
        if self.output.is_json() {
            self.output.show(&Value::Array(all), |_| Table::default());
        }
        Ok(())
    }

    fn show_page(&self, rows: &[Value], long: bool) {
        let lines: String = rows
            .iter()
            .map(|row| {
                let name = crate::units::field(row, "name");
                let name = match crate::units::field(row, "namespace") {
                    namespace if namespace.is_empty() => name,
                    namespace => format!("{namespace}/{name}"),
                };
                match long {
                    true => {
                        let (size, mtime) =
                            (crate::units::number(row, "size"), crate::units::number(row, "mtime"));
                        format!("{size:>14}  {}  {name}\n", date(mtime))
                    }
                    false => format!("{name}\n"),
                }
            })
            .collect();
        self.output.text(&lines);
    }

    async fn describe(&self, objects: Vec<ObjectName>, long: bool) -> Result<Vec<Value>, Failure> {
        let described = stream::iter(objects).map(|object| async move {
            let mut row = json!({"name": show(&object.name), "namespace": show(&object.namespace)});
            if long {
                match self.client.stat(self.pool, &object).await {
                    Ok(stat) => {
                        row["size"] = json!(stat.size);
                        row["mtime"] = json!(stat.mtime.secs);
                    }
                    Err(Error::NotFound(_)) => return Ok(None), // removed meanwhile
                    Err(error) => return Err(error),
                }
            }
            Ok(Some(row))
        });
        let rows: Vec<Option<Value>> = described.buffered(IN_FLIGHT).try_collect().await?;
        Ok(rows.into_iter().flatten().collect())
    }

    async fn stat(&self, object: &ObjectName) -> Result<(), Failure> {
        let Stat { size, mtime, version } = self.client.stat(self.pool, object).await?;
        let mut value = json!({
            "name": show(&object.name),
            "size": size,
            "mtime": mtime.secs,
            "version": version,
        });
        if let Some(striped) = self.striper().look_up(object).await? {
            value["size"] = json!(striped.size);
            value["stripe_bytes"] = json!(striped.stripe_bytes);
        }
        let map = self.client.osd_map().borrow().clone();
        if let Some(pg) = map.pg_of(self.pool, object) {
            value["pg"] = json!(pg.to_string());
            value["acting"] = json!(map.pgs.get(&pg).map(|record| &record.members));
        }
        self.output.show(&value, |value| {
            let mut table = super::pairs(value);
            table.row(["changed".to_string(), date(mtime.secs)]);
            table
        });
        Ok(())
    }

    async fn xattr(&self, verb: PairCommand) -> Result<(), Failure> {
        let object = name(&verb.at().object, &verb.at().namespace);
        match verb {
            PairCommand::Ls { .. } => {
                let pairs = self.client.xattrs(self.pool, &object).await?;
                self.show_pairs(pairs);
            }
            PairCommand::Get { key, .. } => {
                let value = self.client.xattr(self.pool, &object, &key).await?;
                self.show_value(&key, &value);
            }
            PairCommand::Set { key, value, .. } => {
                self.client.set_xattr(self.pool, &object, &key, value.into()).await?;
                self.output.done(&format!("set {key}"));
            }
            PairCommand::Rm { key, .. } => {
                let ops = vec![Op::RemoveXattr { name: key.clone().into() }];
                self.client.operate(self.pool, &object, ops, Options::default()).await?;
                self.output.done(&format!("removed {key}"));
            }
        }
        Ok(())
    }

    async fn omap(&self, verb: PairCommand) -> Result<(), Failure> {
        let object = name(&verb.at().object, &verb.at().namespace);
        match verb {
            PairCommand::Ls { .. } => {
                let mut pairs = BTreeMap::new();
                let mut after = Bytes::new();
                loop {
                    let page = self
                        .client
                        .omap_list(self.pool, &object, after, Bytes::new(), OMAP_PAGE)
                        .await?;
                    after = page.entries.last().map(|(key, _)| key.clone()).unwrap_or_default();
                    pairs.extend(page.entries);
                    if !page.more || after.is_empty() {
                        break;
                    }
                }
                self.show_pairs(pairs);
            }
            PairCommand::Get { key, .. } => {
                let keys = vec![Bytes::from(key.clone())];
                let found = self.client.omap_values(self.pool, &object, keys).await?;
                let value = found.into_values().next();
                let value = value
                    .ok_or_else(|| Failure::not_found(format!("{object} has no key {key}")))?;
                self.show_value(&key, &value);
            }
            PairCommand::Set { key, value, .. } => {
                let pair = BTreeMap::from([(Bytes::from(key.clone()), Bytes::from(value))]);
                self.client.omap_set(self.pool, &object, pair).await?;
                self.output.done(&format!("set {key}"));
            }
            PairCommand::Rm { key, .. } => {
                let keys = vec![Bytes::from(key.clone())];
                self.client.omap_remove(self.pool, &object, keys).await?;
                self.output.done(&format!("removed {key}"));
            }
        }
        Ok(())
    }

    fn show_pairs(&self, pairs: BTreeMap<Bytes, Bytes>) {
        let rows = pairs.iter().map(|(key, value)| json!({"key": show(key), "value": show(value)}));
        self.output.show(&rows.collect(), |rows| {
            let mut table = Table::new(["key", "value"]);
            for row in super::items(rows, "") {
                table.row([crate::units::field(row, "key"), crate::units::field(row, "value")]);
            }
            table
        });
    }

    fn show_value(&self, key: &str, value: &Bytes) {
        match self.output.is_json() {
            true => self.output.show(&json!({"key": key, "value": show(value)}), super::pairs),
            false => self.output.raw(value),
        }
    }
}

/// Bytes as text; what is not printable ASCII is escaped.
fn show(bytes: &Bytes) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_string(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// The pieces of a file or of standard input, and the length of a regular file.
fn source(file: &Path) -> Result<(Pieces, Option<u64>), Failure> {
    if file == Path::new("-") {
        return Ok((pieces(std::io::stdin()), None));
    }
    let named = |error: std::io::Error| {
        let kind = error.kind();
        Failure::from(std::io::Error::new(kind, format!("cannot read {}: {error}", file.display())))
    };
    let opened = std::fs::File::open(file).map_err(named)?;
    let metadata = opened.metadata().map_err(named)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{} is a directory", file.display())));
    }
    let length = metadata.is_file().then_some(metadata.len());
    Ok((pieces(opened), length))
}

/// Reads ahead on a thread of its own, at most [`IN_FLIGHT`] pieces: reading a file blocks.
fn pieces(mut input: impl Read + Send + 'static) -> Pieces {
    let (send, receive) = mpsc::channel(IN_FLIGHT);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = BytesMut::zeroed(PAYLOAD_BYTES_MAX);
            let read = match input.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => {
                    piece.truncate(count);
                    Ok(piece.freeze())
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(Error::Invalid(format!("the input cannot be read: {error}"))),
            };
            let ended = read.is_err();
            if send.blocking_send(read).is_err() || ended {
                return;
            }
        }
    });
    stream::unfold(receive, |mut receive| async move {
        let piece = receive.recv().await?;
        Some((piece, receive))
    })
    .fuse() // `gather` looks for the end, and whoever sends the rest looks again
    .boxed()
}

/// At least `wanted` bytes and less than one piece more, or all that is left.
async fn gather(data: &mut Pieces, wanted: usize) -> Result<Bytes, Error> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while first.len() + more.len() < wanted {
        match data.next().await.transpose()? {
            None => break,
            Some(piece) if first.is_empty() => first = piece,
            Some(piece) => more.extend_from_slice(&piece),
        }
    }
    if more.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::from(first);
    whole.unsplit(more);
    Ok(whole.freeze())
}

fn counted(
    data: impl Stream<Item = Result<Bytes, Error>>,
    bar: ProgressBar,
) -> impl Stream<Item = Result<Bytes, Error>> {
    data.inspect_ok(move |piece| bar.inc(piece.len() as u64))
}

/// Writes a file that appears under its name when it is whole.
async fn write_file(
    file: &Path,
    data: impl Stream<Item = Result<Bytes, Error>>,
) -> Result<(), Failure> {
    let named = |error: std::io::Error| {
        let kind = error.kind();
        Failure::from(std::io::Error::new(
            kind,
            format!("cannot write {}: {error}", file.display()),
        ))
    };
    let Some(own_name) = file.file_name() else {
        return Err(Failure::usage(format!("{} names no file", file.display())));
    };
    // A device or pipe cannot be replaced.
    let in_place = std::fs::metadata(file).is_ok_and(|found| !found.is_file());
    let part = match in_place {
        true => file.to_path_buf(),
        false => file.with_file_name(format!(
            ".{}.part-{}",
            own_name.to_string_lossy(),
            std::process::id()
        )),
    };
    let written = async {
        let mut data = pin!(data);
        let mut out = tokio::fs::File::create(&part).await.map_err(named)?;
        while let Some(piece) = data.next().await.transpose()? {
            out.write_all(&piece).await.map_err(named)?;
        }
        out.flush().await.map_err(named)?;
        if !in_place {
            std::fs::rename(&part, file).map_err(named)?;
        }
        Ok(())
    };
    let written = written.await;
    if written.is_err() && !in_place {
        let _ = std::fs::remove_file(&part); // it may not exist
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_is_cut_and_gathered_whole() {
        let text: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        let mut data = pieces(std::io::Cursor::new(text.clone()));
        let mut back = Vec::new();
        loop {
            let piece = gather(&mut data, 1_500_000).await.expect("readable");
            back.extend_from_slice(&piece);
            if piece.len() < 1_500_000 {
                break;
            }
        }
        assert_eq!(back, text);
    }

    #[tokio::test]
    async fn a_pipe_that_has_ended_may_be_asked_again() {
        for text in ["", "hello"] {
            let mut data = pieces(std::io::Cursor::new(text));
            assert_eq!(gather(&mut data, PAYLOAD_BYTES_MAX).await.expect("readable"), text);
            assert_eq!(data.next().await, None, "as the end of what is put");
        }
    }

    #[tokio::test]
    async fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("out");
        let good = stream::iter([Ok(Bytes::from("one")), Ok(Bytes::from("two"))]);
        write_file(&file, good).await.expect("written");
        assert_eq!(std::fs::read(&file).expect("there"), b"onetwo");
        let bad = stream::iter([Ok(Bytes::from("three")), Err(Error::Damaged("x".into()))]);
        assert_eq!(write_file(&file, bad).await.expect_err("damaged").exit_code(), 1);
        assert_eq!(std::fs::read(&file).expect("still there"), b"onetwo");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listable").count(), 1);
    }

    #[test]
    fn names_that_no_terminal_should_see_are_escaped() {
        assert_eq!(show(&Bytes::from_static("grün".as_bytes())), "grün");
        assert_eq!(show(&Bytes::from_static(b"a\x1b[2J")), "a\\x1b[2J");
        assert_eq!(show(&Bytes::from_static(b"\xff")), "\\xff");
    }
}
