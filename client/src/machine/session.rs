//! Sessions: at most one per daemon, opened when a request needs it, opened again with growing pauses.

use super::pending::Cause;
use super::{Action, Client, Timer};
use store_base::{DaemonId, Incarnation, Time};

/// Doubling a pause more often than this changes nothing below any sensible longest pause.
const DOUBLINGS_MAX: u32 = 16;

/// What is known of the way to a daemon.
#[derive(Debug)]
pub(super) struct Session {
    /// The number of the last `Dial`.
    pub(super) number: u64,
    pub(super) phase: Phase,
    /// Sessions in a row that ended before the daemon answered anything.
    failures: u32,
    address: String,
    incarnation: Incarnation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Dialing,
    Up,
    /// After a failure, until this time.
    Resting(Time),
    /// May be dialed when someone needs it.
    Idle,
}

impl Client {
    /// The number of the open session with a daemon. If there is none it is dialed, unless it rests.
    pub(super) fn session(&mut self, daemon: DaemonId, actions: &mut Vec<Action>) -> Option<u64> {
        if let Some(session) = self.sessions.get(&daemon) {
            match session.phase {
                Phase::Up => return Some(session.number),
                Phase::Dialing | Phase::Resting(_) => return None,
                Phase::Idle => {}
            }
        }
        let info = self.map.as_ref()?.daemons.get(&daemon)?;
        self.session_last += 1;
        let number = self.session_last;
        let failures = self.sessions.get(&daemon).map_or(0, |session| session.failures);
        let session = Session {
            number,
            phase: Phase::Dialing,
            failures,
            address: info.address.clone(),
            incarnation: info.incarnation,
        };
        actions.push(Action::Dial { daemon, session: number, address: info.address.clone() });
        self.sessions.insert(daemon, session);
        None
    }

    /// The number of the open session, if there is one.
    pub(super) fn open_session(&self, daemon: DaemonId) -> Option<u64> {
        let session = self.sessions.get(&daemon)?;
        (session.phase == Phase::Up).then_some(session.number)
    }

    fn current(&mut self, daemon: DaemonId, number: u64) -> Option<&mut Session> {
        self.sessions.get_mut(&daemon).filter(|session| session.number == number)
    }

    /// The daemon answered: the way is good.
    pub(super) fn note_alive(&mut self, daemon: DaemonId, number: u64) {
        if let Some(session) = self.current(daemon, number) {
            session.failures = 0;
        }
    }

    pub(super) fn handle_session_up(
        &mut self,
        now: Time,
        daemon: DaemonId,
        number: u64,
        actions: &mut Vec<Action>,
    ) {
        let dialing = |session: &&mut Session| session.phase == Phase::Dialing;
        let Some(session) = self.current(daemon, number).filter(dialing) else {
            return;
        };
        session.phase = Phase::Up;
        self.replace_all(now, Cause::Session, actions);
        self.check_watches(now, actions);
    }

    pub(super) fn handle_session_lost(
        &mut self,
        now: Time,
        daemon: DaemonId,
        number: u64,
        actions: &mut Vec<Action>,
    ) {
        let (least, most) = (self.config.limits.redial_min, self.config.limits.redial_max);
        let alive = |session: &&mut Session| matches!(session.phase, Phase::Dialing | Phase::Up);
        let Some(session) = self.current(daemon, number).filter(alive) else {
            return;
        };
        let pause = least.saturating_mul(1 << session.failures.min(DOUBLINGS_MAX)).min(most);
        session.failures += 1;
        session.phase = Phase::Resting(now + pause);
        self.timers.set(now + pause, Timer::Dial(daemon));
        self.counters.sessions_lost += 1;
        // What was sent on it is unanswered now and goes out on the next session, or by the next map.
        self.replace_all(now, Cause::Session, actions);
        self.check_watches(now, actions);
    }

    pub(super) fn handle_redial(&mut self, now: Time, daemon: DaemonId, actions: &mut Vec<Action>) {
        if let Some(session) = self.sessions.get_mut(&daemon)
            && matches!(session.phase, Phase::Resting(_))
        {
            session.phase = Phase::Idle;
            self.replace_all(now, Cause::Session, actions);
            self.check_watches(now, actions);
        }
    }

    /// Closes sessions with daemons that the map shows down, gone, moved or restarted.
    pub(super) fn close_outdated_sessions(&mut self, actions: &mut Vec<Action>) {
        let Some(map) = &self.map else { return };
        let timers = &mut self.timers;
        self.sessions.retain(|daemon, session| {
            let valid = map.is_up_as(*daemon, session.incarnation)
                && map.daemons[daemon].address == session.address;
            match session.phase {
                _ if valid => {}
                Phase::Dialing | Phase::Up => {
                    actions.push(Action::Close { daemon: *daemon, session: session.number });
                }
                Phase::Resting(until) => timers.clear(until, Timer::Dial(*daemon)),
                Phase::Idle => {}
            }
            valid
        });
    }
}
