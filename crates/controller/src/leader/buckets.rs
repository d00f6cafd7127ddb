//! Which bucket a key belongs to: upstream's consistent hashing, so that processes of both kinds agree (P-394).

/// Angles on the circle.
const UNIVERSE: u64 = 1 << 11;

/// The buckets of one queue, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Buckets {
    /// Sorted.
    names: Vec<String>,
}

impl Buckets {
    /// Buckets of these names.
    pub(crate) fn new(mut names: Vec<String>) -> Self {
        names.sort();
        names.dedup();
        Self { names }
    }

    /// In order.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of the bucket that `key` (`namespace/name`) belongs to.
    pub(crate) fn owner(&self, key: &str) -> usize {
        if self.names.len() <= 1 {
            return 0;
        }
        let start = fnv([key, "start-angle-salt"]) % UNIVERSE;
        // Every key has a circle of its own, on which the buckets stand at other angles.
        let mut angles: Vec<(u64, usize)> = Vec::with_capacity(self.names.len());
        for (place, name) in self.names.iter().enumerate() {
            let mut text = format!("{name}{key}");
            let mut hash = fnv([&text]);
            while angles.iter().any(|(taken, _)| *taken == hash % UNIVERSE) {
                text.push_str(&format!("{hash:x}"));
                hash = fnv([&text]);
            }
            angles.push((hash % UNIVERSE, place));
        }
        angles.sort_unstable();
        let next = angles.iter().find(|(angle, _)| *angle >= start);
        next.or(angles.first()).map_or(0, |(_, place)| *place)
    }
}

/// FNV-1a of 64 bits.
fn fnv<'a>(parts: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) -> u64 {
    let bytes = parts.into_iter().flat_map(|part| part.as_ref().bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(count: usize) -> Buckets {
        Buckets::new(
            (0..count)
                .map(|n| format!("queue.{n:02}-of-{count:02}"))
                .collect(),
        )
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // The published test vectors.
        assert_eq!(fnv([""]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(["a"]), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv(["foo", "bar"]), 0x8594_4171_f739_67e8);
    }

    /// P-394
    #[test]
    fn keys_are_spread_over_all_buckets_and_most_stay_when_one_is_added() {
        let keys: Vec<String> = (0..3000).map(|n| format!("ns/run-{n}")).collect();
        let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("b{n}")).collect() };
        let (three, four) = (Buckets::new(names(3)), Buckets::new(names(4)));
        let mut counts = [0; 4];
        let mut moved = 0;
        for key in &keys {
            let (before, after) = (three.owner(key), four.owner(key));
            assert_eq!(before, three.owner(key));
            counts[after] += 1;
            moved += usize::from(before != after);
        }
        assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
        // A key moves only to the new bucket.
        assert_eq!(moved, counts[3]);
        assert_eq!(buckets(1).owner("ns/x"), 0);
    }
}
