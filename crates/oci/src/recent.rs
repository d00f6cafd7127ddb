//! A map that forgets what was not used for longest.

use std::collections::HashMap;
use std::hash::Hash;

/// Up to so many values; a further one takes the place of the one that was longest neither added nor found.
pub(crate) struct Recent<K, V> {
    capacity: usize,
    /// Grows with each use: says which value was used before which.
    uses: u64,
    kept: HashMap<K, (u64, V)>,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            uses: 0,
            kept: HashMap::new(),
        }
    }

    /// Finding a value is using it.
    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        self.uses += 1;
        let (used, value) = self.kept.get_mut(key)?;
        *used = self.uses;
        Some(value.clone())
    }

    /// Looks at all that are kept if there is no room: nothing beside what it cost to find out what is added.
    pub(crate) fn add(&mut self, key: K, value: V) {
        self.uses += 1;
        if self.kept.len() >= self.capacity && !self.kept.contains_key(&key) {
            let oldest = self.kept.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.kept.remove(&oldest);
            }
        }
        self.kept.insert(key, (self.uses, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_and_what_was_used_since_stays() {
        // T-262
        let mut recent = Recent::new(3);
        for key in ["a", "b", "c"] {
            recent.add(key, key);
        }
        assert_eq!(recent.get(&"a"), Some("a"));
        recent.add("b", "again");
        recent.add("d", "d");
        assert_eq!(recent.get(&"c"), None, "neither found nor added again");
        recent.add("e", "e");
        assert_eq!(recent.get(&"a"), None, "the rest was used after it");
        let rest = ["b", "d", "e"].map(|key| recent.get(&key));
        assert_eq!(rest, [Some("again"), Some("d"), Some("e")]);
    }
}
