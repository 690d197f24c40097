//! Limits and times of the machine: one documented struct.

use super::scrub::ScrubConfig;
use std::time::Duration;

/// Settings of the machine. Every queue, retry and timeout has its bound here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    // Leases and signs of life.
    /// How often each peer is pinged. Shorter finds silence sooner and costs CPU in large clusters.
    pub heartbeat_every: Duration,
    /// How long a lease lasts. A crashed primary's groups wait at most this long for a new one.
    pub lease_term: Duration,
    /// How much earlier than the grantor the holder takes its lease for over: covers the drift of two
    /// clocks within one term.
    pub lease_margin: Duration,
    /// Silence after which a peer is reported failed.
    pub heartbeat_grace: Duration,
    /// How often a failure is reported while the map does not show it.
    pub failure_report_every: Duration,

    // Monitor.
    /// How often news of placement groups are reported, at the soonest.
    pub beat_news_after: Duration,
    /// How often changed counts are reported.
    pub beat_every: Duration,
    /// How often a beat goes out though there is nothing to say.
    pub beat_idle: Duration,
    /// How long to wait for an answer of the monitor before asking again.
    pub monitor_retry: Duration,
    /// Asks in one batch.
    pub asks_max: usize,

    // Requests.
    /// Requests that wait in one placement group. Beyond it: refused with EAGAIN.
    pub waiting_requests_max: usize,
    /// Bytes of requests that wait in the whole daemon. Beyond it: refused with EAGAIN.
    pub waiting_bytes_max: usize,
    /// Entries of one placement group that are stored but not committed; further writes wait.
    pub open_entries_max: usize,
    /// Their bytes. A takeover carries at most these, so it must stay below the largest message.
    pub open_bytes_max: usize,
    /// Reads of the daemon that wait for the medium; further ones wait in their group's queue.
    pub reads_max: usize,
    /// Share of the medium in permille from which on only deletes are accepted.
    pub full_permille: u64,
    /// Share of the medium in permille from which on a learner brings in no copies.
    pub backfill_full_permille: u64,

    // Replication.
    /// Members are told of the last commit after this long without another entry.
    pub commit_notice_after: Duration,
    /// What was not acknowledged for this long is sent again, though the session did not break.
    pub resend_after: Duration,

    // Log.
    /// A log is trimmed when it has more entries than this …
    pub log_entries_max: usize,
    /// … down to this many.
    pub log_entries_keep: usize,
    /// Or when its entries take more bytes than this. A learner adopts a log in one message: twice this (what
    /// a learner needs is kept longer) and what is open must fit the largest message.
    pub log_bytes_max: usize,
    /// Clients in the table of trimmed requests.
    pub trimmed_clients_max: usize,

    // Recovery.
    /// Copies that a daemon brings in at once.
    pub pulls_max: usize,
    /// Copies that a daemon sends at once while no client asks anything.
    pub pushes_max: usize,
    /// Copies that a daemon sends at once while clients are served.
    pub pushes_busy_max: usize,
    /// Share of a daemon's work, in per cent, that copies may take while clients are served. More heals sooner
    /// and slows clients down.
    pub recovery_share_percent: u64,
    /// Bytes per second that copies may take however busy clients are.
    pub recovery_bytes_min: u64,
    /// How long after a client's last request the daemon counts as busy.
    pub busy_for: Duration,
    /// Pulls that wait for their turn; beyond it they are refused and asked for again.
    pub pushes_waiting_max: usize,
    /// Bytes of one part of a copy.
    pub push_part_bytes: usize,
    /// Parts under way per copy.
    pub push_window: u32,
    /// A copy without progress for this long is given up at the sender (writes of the object go on),
    /// and begun again by the receiver.
    pub pull_timeout: Duration,
    /// How long to wait after a refusal.
    pub pull_retry: Duration,
    /// Objects in one answer to a scan.
    pub scan_objects_max: usize,
    /// Objects known to be lacking at which a scan pauses.
    pub missing_scan_max: usize,
    /// How often a damaged object is fetched before its reads fail.
    pub repair_attempts_max: u32,

    /// Limits and times of scrub.
    pub scrub: ScrubConfig,

    /// **For tests only**: a planted fault.
    pub fault: Fault,
}

/// Faults to plant, so that the simulator can show that it finds them. **For tests only.**
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// None: the product.
    #[default]
    None,
    /// Members acknowledge entries, and the primary counts its own, before they are durable.
    AckBeforeDurable,
    /// An interval is confirmed without waiting for leases granted to another primary.
    NoLeaseWait,
    /// A resent request is taken for a new one.
    NoDedupe,
    /// Reads are answered though leases have run out.
    ReadWithoutLease,
    /// An interval is acted in that is not stored.
    ForgetInterval,
    /// A new primary drops what it does not know to be committed.
    DropTail,
    /// A member applies an entry when it has it, not when all have.
    ApplyUncommitted,
    /// A backfill takes an object of any version for the right one.
    BackfillSkips,
    /// A learner says that it lacks nothing before it is so.
    CompleteEarly,
    /// A trim forgets which requests were there.
    TrimLosesRequests,
    /// A copy is removed as soon as the daemon is no member any more.
    RemoveEarly,
    /// Copies go out without omap.
    CopySkipsOmap,
    /// What a learner has not compared yet is not said to be missing.
    TellFewerMissing,
    /// Mutations lose their xattrs.
    LoseXattrs,
    /// When a pool grows, children begin with nothing where the parent is.
    EmptyChild,
    /// A repair counts without a second look at the copy.
    NoReverify,
    /// With slots, an entry is committed without the acknowledgement of one member.
    OneSlotLess,
    /// With slots, an interval begins with the primary's log, however short those of others are.
    CutAtPrimary,
    /// A scrub takes the primary's copy for what another member's is, without reading it.
    TrustPrimaryDigest,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            heartbeat_every: Duration::from_millis(250),
            lease_term: Duration::from_secs(1),
            lease_margin: Duration::from_millis(50),
            heartbeat_grace: Duration::from_secs(4),
            failure_report_every: Duration::from_secs(1),
            beat_news_after: Duration::from_millis(20),
            beat_every: Duration::from_secs(1),
            beat_idle: Duration::from_secs(2),
            monitor_retry: Duration::from_secs(1),
            asks_max: 4096,
            waiting_requests_max: 4096,
            waiting_bytes_max: 256 << 20,
            open_entries_max: 256,
            open_bytes_max: 6 << 20,
            reads_max: 1024,
            full_permille: 950,
            backfill_full_permille: 900,
            commit_notice_after: Duration::from_millis(50),
            resend_after: Duration::from_secs(1),
            log_entries_max: 3000,
            log_entries_keep: 1500,
            log_bytes_max: 3 << 20,
            trimmed_clients_max: 4096,
            pulls_max: 16,
            pushes_max: 32,
            pushes_busy_max: 8,
            recovery_share_percent: 20,
            recovery_bytes_min: 1 << 20,
            busy_for: Duration::from_millis(100),
            pushes_waiting_max: 256,
            push_part_bytes: 1 << 20,
            push_window: 3,
            pull_timeout: Duration::from_secs(5),
            pull_retry: Duration::from_millis(100),
            scan_objects_max: 512,
            missing_scan_max: 1024,
            repair_attempts_max: 10,
            scrub: ScrubConfig::default(),
            fault: Fault::None,
        }
    }
}

/// Who this daemon is, as it tells the monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Made with the data directory; binds the id to it. The shell makes it on first start.
    pub uuid: [u8; 16],
    /// host:port of the data path.
    pub address: String,
    /// Name of the machine, for CRUSH.
    pub host: String,
    /// "rack=r1", …
    pub location: Vec<String>,
    /// Version of the program.
    pub version: String,
    /// "io_uring", "threads", "memory".
    pub engine: String,
    /// For CRUSH.
    pub device_class: String,
}
