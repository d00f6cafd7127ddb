//! What a PipelineRun refers to, kept for a while: it asks for all its unstarted tasks again at every step.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tektite_engine::decision::{Answer, Query};
use tokio::time::Instant;

use crate::world::{Key, Kind};

/// How long a definition is taken as it was. A Task that is changed while a run is under way holds from then on at the
/// latest for its tasks that have not begun; one that was missing is always looked for again.
const KEPT: Duration = Duration::from_secs(10);

/// Definitions by the run that refers to them; runs do not share them, so that a new run sees what is there now.
#[derive(Default)]
pub(crate) struct Definitions {
    kept: Mutex<HashMap<Key, Kept>>,
}

/// Answers and since when they are known.
type Kept = BTreeMap<Query, (Instant, Answer)>;

impl Definitions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to `query` of the run `key`, if it was found a short while ago.
    pub(crate) fn get(&self, key: &Key, query: &Query) -> Option<Answer> {
        if !is_kept(key, query) {
            return None;
        }
        let kept = self.lock();
        let (since, answer) = kept.get(key)?.get(query)?;
        (since.elapsed() < KEPT).then(|| answer.clone())
    }

    /// Keeps what was found.
    pub(crate) fn keep(&self, key: &Key, query: &Query, answer: &Answer) {
        if is_kept(key, query) && matches!(answer, Answer::Found(_)) {
            let entry = (Instant::now(), answer.clone());
            self.lock()
                .entry(key.clone())
                .or_default()
                .insert(query.clone(), entry);
        }
    }

    /// Forgets what the run referred to.
    pub(crate) fn drop_of(&self, key: &Key) {
        if key.kind == Kind::PipelineRun {
            self.lock().remove(key);
        }
    }
}

fn is_kept(key: &Key, query: &Query) -> bool {
    key.kind == Kind::PipelineRun
        && matches!(
            query,
            Query::Task { .. } | Query::StepAction { .. } | Query::Remote(_)
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Name;
    use std::sync::Arc;
    use tektite_api::v1::Task;
    use tektite_engine::decision::Found;

    #[tokio::test(start_paused = true)]
    async fn what_was_found_holds_for_a_while_and_only_for_the_run_that_asked() {
        let key = |name: &str| Key {
            kind: Kind::PipelineRun,
            name: Name::new("ns", name),
        };
        let query = |name: &str| Query::Task {
            namespace: "ns".into(),
            name: name.into(),
        };
        let definitions = Definitions::default();
        let found = Answer::Found(Found::Task(Arc::new(Task::default())));
        definitions.keep(&key("a"), &query("t"), &found);
        definitions.keep(
            &key("a"),
            &query("gone"),
            &Answer::Missing {
                message: "not found".into(),
            },
        );
        assert!(definitions.get(&key("a"), &query("t")).is_some());
        assert!(definitions.get(&key("a"), &query("gone")).is_none());
        assert!(definitions.get(&key("b"), &query("t")).is_none());
        tokio::time::advance(KEPT).await;
        assert!(definitions.get(&key("a"), &query("t")).is_none());
        definitions.keep(&key("a"), &query("t"), &found);
        definitions.drop_of(&key("a"));
        assert!(definitions.get(&key("a"), &query("t")).is_none());
    }
}
