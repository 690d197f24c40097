//! Watch and notify: the volatile half, on the primary.
//!
//! Who watches an object is kept with the object (`execute/watchers.rs`), so it survives a change of the
//! primary. What is kept here is when each watcher was last heard of, and which notifications wait for
//! whose answer.
//!
//! # How the placement group uses it
//!
//! - [`Watches::take`] with the [`Effect`]s of a vector: once its entry is committed, or together with its
//!   answer if it has no mutation. If there is an [`Effect::Notify`] the answer is not sent then; it is
//!   given back later by `Finish`, with the result of the notification filled in.
//! - [`Watches::wake`] at [`Watches::wake_at`].
//! - [`Watches::clear`] when the daemon stops leading the group. Notifiers resend their request to the next
//!   primary, which tells the watchers again: a notification arrives at least once.
//! - The actions: `Tell` goes to the client's stream, or nowhere if it has none now; `Expire` becomes an
//!   entry made with `execute::end_watch`, repeated until it is committed.
//!
//! # Invariants
//!
//! - A notification ends when every watcher that was registered at its start has answered, was removed, or
//!   its time is over; those that did not answer are named silent.
//! - A watcher that reconnects says so by `WatchPing` (or `Watch` again) and is told every open
//!   notification that it has not answered.
//! - A primary that has just taken over gives a watcher its full time from the first time the object is
//!   touched by any of these ops; a watch of an object that nobody touches costs nothing and stays.

use super::execute::{Done, Effect};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use store_base::codec::Encode;
use store_base::op::{Notification, NotifyResult, PAYLOAD_BYTES_MAX, Watcher};
use store_base::{ClientId, ObjectName, RequestId, Time};

/// Most notifications open at a time in one placement group; one more is answered at once, with all
/// watchers silent.
pub const NOTIFIES_MAX: usize = 4096;

/// How long an expired watch is left alone before its removal is asked for again.
const EXPIRE_AGAIN: Duration = Duration::from_secs(5);

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchAction {
    /// Send to a client.
    Tell {
        /// Whom.
        client: ClientId,
        /// What.
        notification: Notification,
    },
    /// Answer a request that was kept back by a notification.
    Finish {
        /// Which.
        request: RequestId,
        /// Its answer, complete.
        done: Done,
    },
    /// Remove a watch from its object: its time is over.
    Expire {
        /// The object.
        object: ObjectName,
        /// Whose watch.
        client: u64,
        /// Its number.
        cookie: u64,
    },
}

/// Client and cookie.
type WatchId = (u64, u64);

#[derive(Clone, Debug)]
struct Notify {
    object: ObjectName,
    request: RequestId,
    op: usize,
    done: Done,
    payload: Bytes,
    waits: Vec<WatchId>,
    result: NotifyResult,
    answer_bytes: usize,
    until: Time,
}

/// Watchers and notifications of a placement group.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    /// When each watch ends if nothing is heard.
    watchers: BTreeMap<ObjectName, BTreeMap<WatchId, Time>>,
    notifies: BTreeMap<u64, Notify>,
    /// Order of ends, watches and notifications together.
    ends: BTreeMap<(Time, u64), End>,
    end_ids: u64,
    notify_ids: u64,
}

#[derive(Clone, Debug)]
enum End {
    Watch { object: ObjectName, watch: WatchId },
    Notify { notify: u64 },
}

impl Watches {
    /// Nobody watches. `seed` keeps the numbers of notifications apart from those of an earlier life or
    /// another primary: the incarnation of the daemon does.
    pub fn new(seed: u64) -> Self {
        Watches { notify_ids: seed << 20, ..Watches::default() }
    }

    /// Whether this answer must be kept back.
    pub fn keeps_back(done: &Done) -> bool {
        done.effects.iter().any(|effect| matches!(effect, Effect::Notify { .. }))
    }

    /// Carries out what a vector brought. `done` comes back by `Finish` if it [`keeps_back`](Self::keeps_back);
    /// it may have come back already when this returns.
    pub fn take(
        &mut self,
        now: Time,
        request: RequestId,
        object: &ObjectName,
        done: &Done,
        actions: &mut Vec<WatchAction>,
    ) {
        if done.removes {
            self.object_removed(object, actions);
        }
        for effect in &done.effects {
            match effect {
                Effect::Watched { watcher } | Effect::Pinged { watcher } => {
                    self.heard_of(now, object, watcher, actions);
                }
                Effect::Unwatched { client, cookie } => {
                    self.ended(object, (*client, *cookie), actions);
                }
                Effect::Acked { notify, cookie, payload } => {
                    self.acked(*notify, (request.client.0, *cookie), payload, actions);
                }
                Effect::Notify { op, watchers, payload, timeout_secs } => {
                    for watcher in watchers {
                        self.adopt(now, object, watcher);
                    }
                    let notify = Notify {
                        object: object.clone(),
                        request,
                        op: *op,
                        done: done.clone(),
                        payload: payload.clone(),
                        waits: watchers.iter().map(|w| (w.client, w.cookie)).collect(),
                        result: NotifyResult::default(),
                        answer_bytes: 0,
                        until: now + Duration::from_secs(u64::from(*timeout_secs)),
                    };
                    self.notify(notify, actions);
                }
            }
        }
    }

    /// When [`wake`](Self::wake) is wanted.
    pub fn wake_at(&self) -> Option<Time> {
        self.ends.first_key_value().map(|((time, _), _)| *time)
    }

    /// Ends what is over.
    pub fn wake(&mut self, now: Time, actions: &mut Vec<WatchAction>) {
        while let Some(first) = self.ends.first_entry().filter(|first| first.key().0 <= now) {
            let ((time, _), end) = first.remove_entry();
            match end {
                End::Notify { notify } => {
                    if let Some(open) = self.notifies.remove(&notify) {
                        finish(open, actions);
                    }
                }
                End::Watch { object, watch } => self.watch_end(now, time, object, watch, actions),
            }
        }
    }

    /// Forgets everything: another daemon leads now.
    pub fn clear(&mut self) {
        self.watchers.clear();
        self.notifies.clear();
        self.ends.clear();
    }

    /// A timer of a watch fired: is it still its end?
    fn watch_end(
        &mut self,
        now: Time,
        time: Time,
        object: ObjectName,
        watch: WatchId,
        actions: &mut Vec<WatchAction>,
    ) {
        let Some(end) = self.watchers.get_mut(&object).and_then(|all| all.get_mut(&watch)) else {
            return;
        };
        if *end != time {
            return; // it was heard of since; a later timer is set
        }
        *end = now + EXPIRE_AGAIN;
        let again = *end;
        let (client, cookie) = watch;
        actions.push(WatchAction::Expire { object: object.clone(), client, cookie });
        self.set_end(again, End::Watch { object, watch });
    }

    fn set_end(&mut self, at: Time, end: End) {
        self.end_ids += 1;
        self.ends.insert((at, self.end_ids), end);
    }

    /// A watcher that is stored with the object, but of which this primary has not heard yet, has its time
    /// from now on.
    fn adopt(&mut self, now: Time, object: &ObjectName, watcher: &Watcher) {
        let watch = (watcher.client, watcher.cookie);
        let known = self.watchers.get(object).is_some_and(|all| all.contains_key(&watch));
        if !known {
            self.alive(now, object, watcher);
        }
    }

    fn alive(&mut self, now: Time, object: &ObjectName, watcher: &Watcher) {
        let watch = (watcher.client, watcher.cookie);
        let end = now + Duration::from_secs(u64::from(watcher.timeout_secs));
        let before = self.watchers.entry(object.clone()).or_default().insert(watch, end);
        // Signs of life within one instant need one timer.
        if before != Some(end) {
            self.set_end(end, End::Watch { object: object.clone(), watch });
        }
        self.drop_stale_ends();
    }

    /// Every sign of life leaves a timer behind that has lost its meaning; they are swept before they
    /// outnumber what is alive.
    fn drop_stale_ends(&mut self) {
        let alive: usize =
            self.watchers.values().map(BTreeMap::len).sum::<usize>() + self.notifies.len();
        if self.ends.len() <= 2 * alive + 64 {
            return;
        }
        let (watchers, notifies) = (&self.watchers, &self.notifies);
        self.ends.retain(|(time, _), end| match end {
            End::Notify { notify } => notifies.contains_key(notify),
            End::Watch { object, watch } => {
                watchers.get(object).and_then(|all| all.get(watch)) == Some(time)
            }
        });
    }

    fn heard_of(
        &mut self,
        now: Time,
        object: &ObjectName,
        watcher: &Watcher,
        actions: &mut Vec<WatchAction>,
    ) {
        self.alive(now, object, watcher);
        let watch = (watcher.client, watcher.cookie);
        for (notify, open) in &self.notifies {
            if open.object == *object && open.waits.contains(&watch) {
                actions.push(tell(*notify, open, watch));
            }
        }
    }

    fn notify(&mut self, mut notify: Notify, actions: &mut Vec<WatchAction>) {
        // A resend of a notification that is open takes its place: watchers are told once.
        let resent = self
            .notifies
            .iter()
            .find(|(_, open)| open.request == notify.request && open.object == notify.object);
        if resent.is_some() {
            return;
        }
        if notify.waits.is_empty() || self.notifies.len() >= NOTIFIES_MAX {
            finish(notify, actions);
            return;
        }
        notify.waits.sort_unstable();
        self.notify_ids += 1;
        let id = self.notify_ids;
        actions.extend(notify.waits.iter().map(|watch| tell(id, &notify, *watch)));
        self.set_end(notify.until, End::Notify { notify: id });
        self.notifies.insert(id, notify);
    }

    fn acked(&mut self, id: u64, watch: WatchId, payload: &Bytes, actions: &mut Vec<WatchAction>) {
        let Some(open) = self.notifies.get_mut(&id) else { return };
        let Some(at) = open.waits.iter().position(|waits| *waits == watch) else { return };
        open.waits.remove(at);
        // What does not fit the answer any more is left out of it, the fact of the answer is not.
        open.answer_bytes += payload.len() + 20;
        let fits = open.answer_bytes <= PAYLOAD_BYTES_MAX / 2;
        open.result.answers.push((watch, if fits { payload.clone() } else { Bytes::new() }));
        self.finish_if_complete(id, actions);
    }

    fn finish_if_complete(&mut self, id: u64, actions: &mut Vec<WatchAction>) {
        if self.notifies.get(&id).is_some_and(|open| open.waits.is_empty())
            && let Some(open) = self.notifies.remove(&id)
        {
            finish(open, actions);
            self.drop_stale_ends();
        }
    }

    /// A watch is no more: nobody waits for it.
    fn ended(&mut self, object: &ObjectName, watch: WatchId, actions: &mut Vec<WatchAction>) {
        if let Some(all) = self.watchers.get_mut(object) {
            all.remove(&watch);
            if all.is_empty() {
                self.watchers.remove(object);
            }
        }
        let mut touched = Vec::new();
        for (id, open) in self.notifies.iter_mut().filter(|(_, open)| open.object == *object) {
            if let Some(at) = open.waits.iter().position(|waits| *waits == watch) {
                open.waits.remove(at);
                open.result.silent.push(watch);
                touched.push(*id);
            }
        }
        touched.into_iter().for_each(|id| self.finish_if_complete(id, actions));
        self.drop_stale_ends();
    }

    fn object_removed(&mut self, object: &ObjectName, actions: &mut Vec<WatchAction>) {
        let all: Vec<_> =
            self.watchers.get(object).map(|all| all.keys().copied().collect()).unwrap_or_default();
        all.into_iter().for_each(|watch| self.ended(object, watch, actions));
    }
}

fn tell(id: u64, open: &Notify, (client, cookie): WatchId) -> WatchAction {
    WatchAction::Tell {
        client: ClientId(client),
        notification: Notification {
            object: open.object.clone(),
            cookie,
            notify: id,
            payload: open.payload.clone(),
        },
    }
}

fn finish(mut open: Notify, actions: &mut Vec<WatchAction>) {
    open.result.silent.append(&mut open.waits);
    open.result.silent.sort_unstable();
    open.result.answers.sort();
    if let Some(result) = open.done.results.get_mut(open.op) {
        result.data = open.result.to_bytes();
    }
    actions.push(WatchAction::Finish { request: open.request, done: open.done });
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::codec::Decode;
    use store_base::op::OpResult;

    const SECOND: Duration = Duration::from_secs(1);

    /// Watches with the actions they asked for.
    #[derive(Default)]
    struct Bench {
        watches: Watches,
        actions: Vec<WatchAction>,
    }

    fn object() -> ObjectName {
        ObjectName::new("o")
    }

    fn request(client: u64, tid: u64) -> RequestId {
        RequestId { client: ClientId(client), incarnation: 1, tid }
    }

    fn watcher(client: u64) -> Watcher {
        Watcher { client, cookie: 1, timeout_secs: 10 }
    }

    fn at(secs: u64) -> Time {
        Time(secs * 1_000_000_000)
    }

    impl Bench {
        fn effect(&mut self, now: Time, from: RequestId, effect: Effect) -> Vec<WatchAction> {
            let done = Done {
                results: vec![OpResult::default()],
                effects: vec![effect],
                ..Done::default()
            };
            self.watches.take(now, from, &object(), &done, &mut self.actions);
            std::mem::take(&mut self.actions)
        }

        fn notify(&mut self, now: Time, tid: u64, watchers: &[u64]) -> Vec<WatchAction> {
            let effect = Effect::Notify {
                op: 0,
                watchers: watchers.iter().copied().map(watcher).collect(),
                payload: "p".into(),
                timeout_secs: 3,
            };
            self.effect(now, request(9, tid), effect)
        }

        fn ack(&mut self, now: Time, client: u64, notify: u64) -> Vec<WatchAction> {
            let effect = Effect::Acked { notify, cookie: 1, payload: format!("a{client}").into() };
            self.effect(now, request(client, 5), effect)
        }

        fn wake(&mut self, now: Time) -> Vec<WatchAction> {
            self.watches.wake(now, &mut self.actions);
            std::mem::take(&mut self.actions)
        }
    }

    fn told(actions: &[WatchAction]) -> Vec<(u64, u64)> {
        let told = actions.iter().filter_map(|action| match action {
            WatchAction::Tell { client, notification } => Some((client.0, notification.notify)),
            _ => None,
        });
        told.collect()
    }

    fn finished(actions: &[WatchAction]) -> Option<NotifyResult> {
        actions.iter().find_map(|action| match action {
            WatchAction::Finish { done, .. } => {
                Some(NotifyResult::from_bytes(done.results[0].data.clone()).expect("a result"))
            }
            _ => None,
        })
    }

    #[test]
    fn all_answer_and_the_notifier_is_told() {
        let mut bench = Bench::default();
        let told = told(&bench.notify(at(1), 1, &[1, 2]));
        assert_eq!(told.iter().map(|(client, _)| *client).collect::<Vec<_>>(), [1, 2]);
        let id = told[0].1;
        assert!(bench.ack(at(1), 2, id).is_empty());
        assert!(bench.ack(at(1), 2, id).is_empty(), "a second answer counts for nothing");
        let result = finished(&bench.ack(at(2), 1, id)).expect("all answered");
        assert_eq!(result.answers, [((1, 1), "a1".into()), ((2, 1), "a2".into())]);
        assert!(result.silent.is_empty());
    }

    #[test]
    fn without_watchers_the_answer_is_immediate() {
        let mut bench = Bench::default();
        assert_eq!(finished(&bench.notify(at(1), 1, &[])), Some(NotifyResult::default()));
    }

    #[test]
    fn the_silent_are_named_when_the_time_is_over() {
        let mut bench = Bench::default();
        let told = told(&bench.notify(at(1), 1, &[1, 2]));
        bench.ack(at(1), 1, told[0].1);
        assert_eq!(bench.watches.wake_at(), Some(at(4)));
        assert!(bench.wake(at(3)).is_empty());
        let result = finished(&bench.wake(at(4))).expect("the time is over");
        assert_eq!((result.answers.len(), result.silent), (1, vec![(2, 1)]));
    }

    #[test]
    fn a_watch_ends_after_its_time_unless_it_is_heard_of() {
        let mut bench = Bench::default();
        bench.effect(at(0), request(1, 1), Effect::Watched { watcher: watcher(1) });
        bench.effect(at(6), request(1, 2), Effect::Pinged { watcher: watcher(1) });
        assert!(bench.wake(at(10)).is_empty(), "the sign of life counts");
        let expire = vec![WatchAction::Expire { object: object(), client: 1, cookie: 1 }];
        assert_eq!(bench.wake(at(16)), expire);
        assert!(bench.wake(at(20)).is_empty());
        assert_eq!(bench.wake(at(21)), expire, "until it is carried out");
        bench.effect(at(22), request(1, 3), Effect::Unwatched { client: 1, cookie: 1 });
        assert!(bench.wake(at(100)).is_empty());
        assert_eq!(bench.watches.wake_at(), None);
    }

    #[test]
    fn who_comes_back_is_told_again_and_who_leaves_is_not_waited_for() {
        let mut bench = Bench::default();
        let id = told(&bench.notify(at(1), 1, &[1, 2]))[0].1;
        let again = bench.effect(at(2), request(1, 7), Effect::Pinged { watcher: watcher(1) });
        assert_eq!(told(&again), [(1, id)]);
        bench.ack(at(2), 1, id);
        let left = bench.effect(at(2), request(2, 8), Effect::Unwatched { client: 2, cookie: 1 });
        assert_eq!(finished(&left).expect("nobody is left").silent, [(2, 1)]);
    }

    #[test]
    fn timers_do_not_pile_up() {
        let mut bench = Bench::default();
        for i in 0..10_000u64 {
            let now = at(0) + SECOND.mul_f64(i as f64 / 1000.0);
            bench.effect(now, request(1, i), Effect::Pinged { watcher: watcher(1) });
        }
        assert!(bench.watches.ends.len() < 100, "{}", bench.watches.ends.len());
    }
}
