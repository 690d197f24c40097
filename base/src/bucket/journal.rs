//! Journals in the shards of a bucket that takes logs. A record is written before the change that it tells of
//! (`journal_add`), says what became of it afterwards (`journal_settle`), and leaves when a log with it is an object of
//! the bucket (`journal_cut`, `journal_read`, `journal_clear`).
//!
//! Invariants:
//! - a journal is there (`k/`) if and only if it has records (`l/`), and counts them;
//! - numbers only grow, also where a journal was gone meanwhile: they begin with the clock;
//! - the records of a cut do not change, and leave only when its log is written: who takes a cut over from a gateway that
//!   died writes the same log again;
//! - a record whose change is being made ends a cut, until [`JOURNAL_OPEN_MS_MAX`].

use super::index::{allowed, open_head};
use super::locks::lock_clock;
use super::multipart::{escaped, unescaped};
use super::*;

/// Most journals of one reply.
const JOURNALS_PER_REPLY: usize = 20;

fn head_key(name: &[u8]) -> Bytes {
    key_in(b'k', &escaped(name))
}

fn record_key(name: &[u8], number: u64) -> Bytes {
    key_in(b'l', &[&escaped(name)[..], &number.to_be_bytes()].concat())
}

fn number_of(key: &[u8]) -> Result<u64, ClassError> {
    let number = key.last_chunk::<8>().copied();
    number
        .map(u64::from_be_bytes)
        .ok_or_else(|| ClassError::Damaged("the key of a journal's record".into()))
}

fn journal(context: &mut dyn ClassContext, name: &[u8]) -> Result<Option<Journal>, ClassError> {
    stored_at(context, &head_key(name))
}

/// Stores a journal, or removes it where nothing waits in it.
fn store(context: &mut dyn ClassContext, name: &[u8], journal: &Journal) {
    match journal.records == 0 && journal.cut.is_none() {
        true => context.remove_omap(&head_key(name)),
        false => context.set_omap(head_key(name), journal.to_bytes()),
    }
}

fn first_record(
    context: &mut dyn ClassContext,
    name: &[u8],
    journal: &Journal,
) -> Result<Option<JournalRecord>, ClassError> {
    let (from, until) = (record_key(name, 0), record_key(name, journal.next));
    let first = context.omap_range(&from, &until, 1)?.into_iter().next();
    first.map(|(_, value)| stored(value)).transpose()
}

pub(super) fn add(
    context: &mut dyn ClassContext,
    input: JournalAdd,
) -> Result<Answer<JournalAdded>, ClassError> {
    allowed!(open_head(context)?);
    if input.name.len() > JOURNAL_NAME_BYTES_MAX
        || input.about.len() > JOURNAL_ABOUT_BYTES_MAX
        || input.lines.iter().any(|line| line.len() > JOURNAL_RECORD_BYTES_MAX)
    {
        return Err(ClassError::Invalid("a journal's name or record is too long".into()));
    }
    let now_ms = lock_clock(context);
    let mut journal = match journal(context, &input.name)? {
        Some(journal) => journal,
        // In microseconds: a journal does not get more records than that.
        None => {
            Journal { next: now_ms.saturating_mul(1000), since_ms: now_ms, ..Journal::default() }
        }
    };
    let bytes: u64 = input.lines.iter().map(|line| line.len() as u64).sum();
    let records = journal.records.saturating_add(input.lines.len() as u64);
    if records > JOURNAL_RECORDS_MAX || journal.bytes.saturating_add(bytes) > JOURNAL_BYTES_MAX {
        return Ok(Answer(Err(Refusal::QueueFull {})));
    }
    let first = journal.next;
    for line in input.lines {
        let record = JournalRecord { line, token: input.token, settled: false, at_ms: now_ms };
        context.set_omap(record_key(&input.name, journal.next), record.to_bytes());
        journal.next += 1;
    }
    (journal.records, journal.bytes, journal.about) = (records, journal.bytes + bytes, input.about);
    store(context, &input.name, &journal);
    Ok(Answer(Ok(JournalAdded { first, bytes: journal.bytes })))
}

pub(super) fn settle(
    context: &mut dyn ClassContext,
    input: JournalSettle,
) -> Result<Answer<Nothing>, ClassError> {
    allowed!(open_head(context)?);
    let Some(mut journal) = journal(context, &input.name)? else {
        return Ok(Answer(Ok(Nothing {})));
    };
    let cut = journal.cut.as_ref().map_or(0, |cut| cut.until);
    for (number, line) in input.records {
        let key = record_key(&input.name, number);
        // What is in a log, or will be, stays as it is.
        let Some(mut record) = stored_at::<JournalRecord>(context, &key)?
            .filter(|record| number >= cut && record.token == input.token && !record.settled)
        else {
            continue;
        };
        journal.bytes = journal.bytes.saturating_sub(record.line.len() as u64);
        match line {
            None => {
                journal.records = journal.records.saturating_sub(1);
                context.remove_omap(&key);
            }
            Some(line) if line.len() > JOURNAL_RECORD_BYTES_MAX => {
                return Err(ClassError::Invalid("a journal's record is too long".into()));
            }
            Some(line) => {
                journal.bytes += line.len() as u64;
                (record.line, record.settled) = (line, true);
                context.set_omap(key, record.to_bytes());
            }
        }
    }
    store(context, &input.name, &journal);
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn cut(
    context: &mut dyn ClassContext,
    input: JournalCutAsk,
) -> Result<Answer<JournalCut>, ClassError> {
    allowed!(open_head(context)?);
    let now_ms = lock_clock(context);
    let Some(mut journal) = journal(context, &input.name)? else {
        return Ok(Answer(Ok(JournalCut::default())));
    };
    let about = journal.about.clone();
    let until_ms = now_ms.saturating_add(input.lease_ms);
    if let Some(cut) = &mut journal.cut {
        if cut.holder == input.holder || cut.until_ms <= now_ms {
            (cut.holder, cut.until_ms) = (input.holder, until_ms);
            store(context, &input.name, &journal);
        }
        return Ok(Answer(Ok(JournalCut { cut: journal.cut, about, open: false })));
    }
    let below = input.below.min(journal.next);
    let (mut cut, open) = longest_cut(context, &input.name, below, now_ms)?;
    if cut.records == 0 {
        return Ok(Answer(Ok(JournalCut { cut: None, about, open })));
    }
    (cut.key, cut.holder, cut.until_ms) = (input.key, input.holder, until_ms);
    journal.cut = Some(cut);
    store(context, &input.name, &journal);
    Ok(Answer(Ok(JournalCut { cut: journal.cut, about, open })))
}

/// The oldest records that a log can have, and whether one whose change is being made ends them.
fn longest_cut(
    context: &mut dyn ClassContext,
    name: &[u8],
    below: u64,
    now_ms: u64,
) -> Result<(Cut, bool), ClassError> {
    let mut cut = Cut::default();
    loop {
        let (from, until) = (record_key(name, cut.until), record_key(name, below));
        let pairs = context.omap_range(&from, &until, BATCH)?;
        let last = pairs.len() < BATCH;
        for (key, value) in pairs {
            let record: JournalRecord = stored(value)?;
            if !record.settled && now_ms.saturating_sub(record.at_ms) < JOURNAL_OPEN_MS_MAX {
                return Ok((cut, true));
            }
            let bytes = cut.bytes + record.line.len() as u64;
            if cut.records >= JOURNAL_LOG_RECORDS_MAX || bytes > JOURNAL_LOG_BYTES_MAX {
                return Ok((cut, false));
            }
            if cut.records == 0 {
                cut.first_ms = record.at_ms;
            }
            (cut.records, cut.bytes) = (cut.records + 1, bytes);
            cut.until = number_of(&key)?.saturating_add(1);
        }
        if last {
            return Ok((cut, false));
        }
    }
}

pub(super) fn read(
    context: &mut dyn ClassContext,
    input: JournalRead,
) -> Result<Answer<Vec<(u64, Bytes)>>, ClassError> {
    allowed!(open_head(context)?);
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut from = record_key(&input.name, input.from);
    let until = record_key(&input.name, input.until);
    loop {
        let pairs = context.omap_range(&from, &until, BATCH)?;
        let last = pairs.len() < BATCH;
        for (key, value) in pairs {
            let record: JournalRecord = stored(value)?;
            bytes += record.line.len();
            found.push((number_of(&key)?, record.line));
            from = [&key[..], &[0]].concat().into();
            if bytes > REPLY_BYTES_MAX {
                return Ok(Answer(Ok(found)));
            }
        }
        if last {
            return Ok(Answer(Ok(found)));
        }
    }
}

pub(super) fn clear(
    context: &mut dyn ClassContext,
    input: JournalClear,
) -> Result<Answer<bool>, ClassError> {
    allowed!(open_head(context)?);
    let Some(mut journal) = journal(context, &input.name)? else {
        return Ok(Answer(Ok(false)));
    };
    let Some(cut) = journal.cut.as_mut().filter(|cut| cut.key == input.key) else {
        return Ok(Answer(Ok(false)));
    };
    cut.stored = true;
    let (from, until) = (record_key(&input.name, 0), record_key(&input.name, cut.until));
    let pairs = context.omap_range(&from, &until, BATCH)?;
    let more = pairs.len() == BATCH;
    for (key, value) in pairs {
        let record: JournalRecord = stored(value)?;
        journal.records = journal.records.saturating_sub(1);
        journal.bytes = journal.bytes.saturating_sub(record.line.len() as u64);
        context.remove_omap(&key);
    }
    if !more {
        journal.cut = None;
        if let Some(first) = first_record(context, &input.name, &journal)? {
            journal.since_ms = first.at_ms;
        }
    }
    store(context, &input.name, &journal);
    Ok(Answer(Ok(more)))
}

pub(super) fn list(
    context: &mut dyn ClassContext,
    input: Journals,
) -> Result<Answer<Vec<(Bytes, Journal)>>, ClassError> {
    allowed!(open_head(context)?);
    let from = match input.from.is_empty() {
        true => key_in(b'k', b""),
        false => head_key(&input.from),
    };
    let max = (input.max as usize).min(JOURNALS_PER_REPLY);
    let mut found = Vec::new();
    for (key, value) in context.omap_range(&from, &space_end(b'k'), max)? {
        let name = key.get(2..key.len().saturating_sub(2)).unwrap_or_default();
        found.push((unescaped(name).into(), stored(value)?));
    }
    Ok(Answer(Ok(found)))
}
