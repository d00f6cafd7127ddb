//! The work queue: each key at most once in it and at most once in work, with later wakes and backoff.

mod record;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use record::Record;
pub(crate) use record::{BOUNDS, Durations, Lane, Standing};

/// Delay of a key's first retry; doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// How often in a row a key may come again at once because it wrote something. A run that settles needs few.
const ROUNDS: u32 = 16;
/// The longest delay of a retry.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Keys to be worked on.
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there when the work under way on it ends; since when.
    dirty: HashMap<K, Instant>,
    /// Since when it is worked on.
    working: HashMap<K, Instant>,
    /// When to add which key; `due` finds a key's place in it.
    timers: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    rounds: HashMap<K, u32>,
    serial: u64,
    /// By lane.
    records: Vec<Record>,
}

impl<K: Lane> Default for Queue<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashMap::new(),
                working: HashMap::new(),
                timers: BTreeMap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
                rounds: HashMap::new(),
                serial: 0,
                records: vec![Record::default(); K::LANES],
            }),
            changed: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Lane> Queue<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants work on `key` now, or as soon as the work under way on it ends.
    pub(crate) fn add(&self, key: K) {
        let mut state = self.lock();
        state.add(key);
        drop(state);
        self.changed.notify_one();
    }

    /// Wants work on `key` after `delay` at the latest.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        let mut state = self.lock();
        state.records[key.lane()].retries += 1;
        if delay.is_zero() {
            drop(state);
            return self.add(key);
        }
        let at = Instant::now() + delay;
        if state.due.get(&key).is_some_and(|(due, _)| *due <= at) {
            return;
        }
        state.stop_timer(&key);
        state.serial += 1;
        let place = (at, state.serial);
        state.timers.insert(place, key.clone());
        state.due.insert(key, place);
        drop(state);
        self.changed.notify_one();
    }

    /// Wants work on `key` again, later each time until [`Queue::settled`].
    pub(crate) fn retry(&self, key: K) {
        let mut state = self.lock();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let delay = FIRST_RETRY
            .saturating_mul(2_u32.saturating_pow(*failures))
            .min(LAST_RETRY);
        *failures = failures.saturating_add(1);
        drop(state);
        self.add_after(key, delay);
    }

    /// Wants work on `key` again because it is not known whether the last settled it; later each time if it never does.
    pub(crate) fn again(&self, key: K) {
        let mut state = self.lock();
        state.failures.remove(&key);
        let rounds = state.rounds.entry(key.clone()).or_insert(0);
        *rounds = rounds.saturating_add(1);
        let beyond = rounds.saturating_sub(ROUNDS);
        drop(state);
        if beyond == 0 {
            self.add(key);
        } else {
            self.add_after(
                key,
                FIRST_RETRY
                    .saturating_mul(2_u32.saturating_pow(beyond))
                    .min(LAST_RETRY),
            );
        }
    }

    /// The work on `key` is settled: it comes again after `wake`, if that is given, whatever was asked for before; and
    /// its next retry counts as the first.
    pub(crate) fn settled(&self, key: &K, wake: Option<Duration>) {
        let mut state = self.lock();
        state.failures.remove(key);
        state.rounds.remove(key);
        state.stop_timer(key);
        drop(state);
        if let Some(delay) = wake {
            self.add_after(key.clone(), delay);
        }
    }

    /// How things stand, by lane.
    pub(crate) fn standing(&self) -> Vec<Standing> {
        let state = self.lock();
        let now = Instant::now();
        let mut standing: Vec<Standing> = state
            .records
            .iter()
            .map(|record| Standing {
                record: record.clone(),
                ..Standing::default()
            })
            .collect();
        for key in state.dirty.keys() {
            standing[key.lane()].depth += 1;
        }
        for (key, since) in &state.working {
            let lane = &mut standing[key.lane()];
            let so_far = now - *since;
            lane.unfinished += so_far;
            lane.longest = lane.longest.max(so_far);
        }
        standing
    }

    /// The next key to work on; [`Queue::done`] must follow.
    pub(crate) async fn next(&self) -> K {
        loop {
            let next_timer = {
                let mut state = self.lock();
                let now = Instant::now();
                state.fire(now);
                if let Some(key) = state.ready.pop_front() {
                    state.begin(&key, now);
                    return key;
                }
                state.timers.first_key_value().map(|((at, _), _)| *at)
            };
            match next_timer {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.changed.notified() => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// The work on `key` has ended.
    pub(crate) fn done(&self, key: &K) {
        let mut state = self.lock();
        if let Some(since) = state.working.remove(key) {
            state.records[key.lane()].worked.add(since.elapsed());
        }
        if state.dirty.contains_key(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.changed.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash + Lane> State<K> {
    fn add(&mut self, key: K) {
        if self.dirty.contains_key(&key) {
            return;
        }
        self.records[key.lane()].adds += 1;
        self.dirty.insert(key.clone(), Instant::now());
        if !self.working.contains_key(&key) {
            self.ready.push_back(key);
        }
    }

    fn begin(&mut self, key: &K, now: Instant) {
        if let Some(since) = self.dirty.remove(key) {
            self.records[key.lane()].waited.add(now - since);
        }
        self.working.insert(key.clone(), now);
    }

    fn stop_timer(&mut self, key: &K) {
        if let Some(place) = self.due.remove(key) {
            self.timers.remove(&place);
        }
    }

    fn fire(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Lane for u32 {
        const LANES: usize = 2;

        fn lane(&self) -> usize {
            usize::from(*self > 9)
        }
    }

    async fn next_within(queue: &Queue<u32>, time: Duration) -> Option<u32> {
        tokio::time::timeout(time, queue.next()).await.ok()
    }

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_worked_on_once() {
        let queue = Queue::default();
        queue.add(1);
        queue.add(2);
        queue.add(1);
        assert_eq!(queue.standing()[0].depth, 2);
        assert_eq!(next_within(&queue, SOON).await, Some(1));
        assert_eq!(next_within(&queue, SOON).await, Some(2));
        assert_eq!(next_within(&queue, SOON).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_during_its_work_comes_again_after_it_and_not_before() {
        let queue = Queue::default();
        queue.add(1);
        assert_eq!(queue.next().await, 1);
        queue.add(1);
        assert_eq!(next_within(&queue, SOON).await, None);
        queue.done(&1);
        assert_eq!(next_within(&queue, SOON).await, Some(1));
        queue.done(&1);
        assert_eq!(next_within(&queue, SOON).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_wakes_the_earlier_counts_and_a_later_one_is_forgotten() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after(1, Duration::from_secs(10));
        queue.add_after(1, Duration::from_secs(5));
        queue.add_after(1, Duration::from_secs(20));
        assert_eq!(queue.next().await, 1);
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&1);
        assert_eq!(next_within(&queue, Duration::from_secs(60)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_settled_wakes_only_when_it_says() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after(1, Duration::from_secs(5));
        queue.settled(&1, Some(Duration::from_secs(30)));
        assert_eq!(queue.next().await, 1);
        assert_eq!(start.elapsed().as_secs(), 30);
        queue.done(&1);
        queue.add_after(1, Duration::from_secs(5));
        queue.settled(&1, None);
        assert_eq!(next_within(&queue, Duration::from_secs(3600)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_come_later_each_time_and_never_later_than_the_longest_delay() {
        let queue = Queue::default();
        let mut delays = Vec::new();
        for _ in 0..16 {
            let start = Instant::now();
            queue.retry(1);
            assert_eq!(queue.next().await, 1);
            delays.push(start.elapsed());
            queue.done(&1);
        }
        assert!(delays.windows(2).all(|two| two[0] <= two[1]), "{delays:?}");
        assert!(
            delays[0] < Duration::from_millis(10) && delays[15] >= LAST_RETRY,
            "{delays:?}"
        );
        queue.settled(&1, None);
        let start = Instant::now();
        queue.retry(1);
        queue.next().await;
        assert!(start.elapsed() < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_never_settles_is_slowed_down() {
        let queue = Queue::default();
        let start = Instant::now();
        for _ in 0..ROUNDS {
            queue.again(1);
            queue.next().await;
            queue.done(&1);
        }
        assert!(start.elapsed().is_zero());
        for _ in 0..20 {
            queue.again(1);
            queue.next().await;
            queue.done(&1);
        }
        assert!(start.elapsed() > LAST_RETRY);
        queue.settled(&1, None);
        let settled = Instant::now();
        queue.again(1);
        queue.next().await;
        assert!(settled.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_worker_hears_of_keys_that_come_later() {
        let queue = std::sync::Arc::new(Queue::default());
        let worker = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.add(7);
        assert_eq!(worker.await.unwrap(), 7);
    }

    /// T-417
    #[tokio::test(start_paused = true)]
    async fn waits_work_and_retries_are_counted_by_lane() {
        let queue = Queue::default();
        let second = Duration::from_secs(1);
        queue.add(1);
        queue.add(1);
        queue.add(10);
        tokio::time::advance(second * 2).await;
        assert_eq!(queue.next().await, 1);
        assert_eq!(queue.next().await, 10);
        tokio::time::advance(second * 3).await;
        // Wanted again during the work: it waits from now on.
        queue.add(1);
        let [few, many] = queue.standing().try_into().unwrap();
        assert_eq!((few.depth, few.record.adds), (1, 2));
        assert_eq!((few.unfinished, few.longest), (second * 3, second * 3));
        assert_eq!((many.depth, many.record.adds), (0, 1));
        assert_eq!((many.record.waited.count, many.record.waited.sum), (1, 2.0));
        queue.done(&1);
        queue.done(&10);
        queue.retry(10);
        queue.settled(&1, Some(second));
        let [few, many] = queue.standing().try_into().unwrap();
        assert_eq!((few.record.retries, many.record.retries), (1, 1));
        assert_eq!((few.record.worked.count, few.record.worked.sum), (1, 3.0));
        assert_eq!(few.longest, Duration::ZERO);
        let within: Vec<u64> = few.record.worked.within.to_vec();
        assert_eq!(
            within.iter().sum::<u64>(),
            3,
            "5, 7.5 and 10 seconds: {within:?}"
        );
    }
}
