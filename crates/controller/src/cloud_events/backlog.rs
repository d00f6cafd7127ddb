//! Changes that wait to be told of: as they were while there is room, by name beyond that.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tektite_engine::cloud_event::Subject;
use tokio::sync::Notify;

use crate::store::Name;

/// How many changes may wait with their bodies.
const BODIES: usize = 1024;

/// A run in a new state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) subject: Subject,
    pub(crate) name: Name,
    /// The state; none where there was no room: then it is to be read when it comes to that.
    pub(crate) body: Option<Bytes>,
}

/// What waits.
#[derive(Default)]
pub(crate) struct Backlog {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Changed>,
    bodies: usize,
    /// What waits by name alone: once each.
    named: HashSet<(Subject, Name)>,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a change; never waits.
    pub(crate) fn add(&self, subject: Subject, name: Name, body: Option<Bytes>) {
        let mut state = self.lock();
        let named = (subject, name);
        // Whoever reads it later reads this state or a newer one.
        if state.named.contains(&named) {
            return;
        }
        let body = body.filter(|_| state.bodies < BODIES);
        if body.is_some() {
            state.bodies += 1;
        } else {
            state.named.insert(named.clone());
        }
        let (subject, name) = named;
        state.waiting.push_back(Changed {
            subject,
            name,
            body,
        });
        drop(state);
        self.changed.notify_one();
    }

    /// The next change, in the order they were noted.
    pub(crate) async fn next(&self) -> Changed {
        loop {
            if let Some(changed) = self.take() {
                return changed;
            }
            self.changed.notified().await;
        }
    }

    /// The next change, if there is one.
    pub(crate) fn take(&self) -> Option<Changed> {
        let mut state = self.lock();
        let changed = state.waiting.pop_front()?;
        if changed.body.is_some() {
            state.bodies -= 1;
        } else {
            state.named.remove(&(changed.subject, changed.name.clone()));
        }
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_the_room_for_bodies_each_run_waits_once_by_name() {
        let backlog = Backlog::default();
        let name = |n: usize| Name::new("ns", n.to_string());
        let body = || Some(Bytes::from_static(b"{}"));
        for n in 0..BODIES {
            backlog.add(Subject::TaskRun, name(n), body());
        }
        for _ in 0..3 {
            backlog.add(Subject::TaskRun, name(7), body());
            backlog.add(Subject::CustomRun, name(7), body());
        }
        for n in 0..BODIES {
            let changed = backlog.next().await;
            assert_eq!((changed.name, changed.body), (name(n), body()));
        }
        for subject in [Subject::TaskRun, Subject::CustomRun] {
            let changed = backlog.next().await;
            let expected = Changed {
                subject,
                name: name(7),
                body: None,
            };
            assert_eq!(changed, expected);
        }
        assert_eq!(backlog.take(), None);
        // Room again.
        backlog.add(Subject::TaskRun, name(7), body());
        assert_eq!(backlog.next().await.body, body());
    }
}
