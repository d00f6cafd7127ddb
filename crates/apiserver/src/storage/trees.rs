//! Which objects keep what they were parsed to: the newest states of those written last, as they are likely to be
//! written again.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Stored;

/// How many objects keep a tree.
const MOST: usize = 128;

/// Objects that may have a tree, the last written at the end.
#[derive(Default)]
pub(super) struct Trees(VecDeque<Weak<Stored>>);

impl Trees {
    /// Takes note of an object, if it has a tree, in place of the one that was written longest ago.
    pub(super) fn keep(&mut self, object: &Arc<Stored>) {
        if !object.has_tree() {
            return;
        }
        self.0.push_back(Arc::downgrade(object));
        if self.0.len() > MOST {
            self.forget_oldest();
        }
    }

    /// Frees all of them.
    pub(super) fn clear(&mut self) {
        while !self.0.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.0.pop_front().and_then(|oldest| oldest.upgrade()) {
            oldest.forget_tree();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Draft, Pairs, Storage};
    use serde_json::json;

    fn draft(name: &str, text: &str) -> Draft {
        let object = json!({"kind": "Pod", "metadata": {"name": name, "namespace": "n"}, "status": {"text": text}});
        Draft::new(&object, Pairs::default()).with_tree(object)
    }

    #[test]
    fn the_newest_states_of_the_objects_written_last_need_no_parsing() {
        let storage = Storage::in_memory();
        let resource: Arc<str> = "pods".into();
        let first = storage.create(&resource, draft("a", "1")).unwrap();
        assert!(first.has_tree());
        assert_eq!(*first.tree(), first.value());
        let second = storage
            .update(&resource, draft("a", "2"), first.revision)
            .unwrap();
        assert!(!first.has_tree() && second.has_tree());
        assert_eq!(*second.tree(), second.value());
        for index in 0..MOST {
            storage
                .create(&resource, draft(&format!("b{index}"), ""))
                .unwrap();
        }
        assert!(!second.has_tree());
        assert_eq!(*second.tree(), second.value());
        let large = storage
            .create(&resource, draft("large", &"x".repeat(20_000)))
            .unwrap();
        assert!(!large.has_tree());
        let last = storage.create(&resource, draft("last", "")).unwrap();
        assert!(last.has_tree());
        storage.sweep();
        assert!(!last.has_tree());
    }
}
