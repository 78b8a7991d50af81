//! Everything that is declared, by key. The keys stand in the resources alone: a hundred thousand of them weigh something.

use super::Declared;
use crate::resource::Key;
use std::ops::Index;
use std::sync::Arc;

/// Declared resources, each key once, in the order of their keys. Shared with the loader's memory of each file, so that a
/// load of a hundred thousand holds them once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources(Vec<Arc<Declared>>);

impl Resources {
    /// Of those that are in order, each key once.
    pub fn in_order(all: Vec<Arc<Declared>>) -> Self {
        debug_assert!(all.is_sorted_by(|one, next| one.key < next.key), "in order, each key once");
        Self(all)
    }

    /// The one of this key.
    pub fn get(&self, key: &Key) -> Option<&Arc<Declared>> {
        self.0.get(self.find(key).ok()?)
    }

    /// Is there one of this key?
    pub fn contains_key(&self, key: &Key) -> bool {
        self.find(key).is_ok()
    }

    /// All, in the order of their keys.
    pub fn values(&self) -> std::slice::Iter<'_, Arc<Declared>> {
        self.0.iter()
    }

    /// All, to be changed in all but their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Arc<Declared>> {
        self.0.iter_mut()
    }

    /// Their keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Key> + Clone {
        self.0.iter().map(|one| &one.key)
    }

    /// All with their keys, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Arc<Declared>)> + Clone {
        self.0.iter().map(|one| (&one.key, one))
    }

    /// Those of one kind, in the order of their keys.
    pub fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Arc<Declared>> {
        let first = self.0.partition_point(|one| one.key.kind < kind);
        self.0.iter().skip(first).take_while(move |one| one.key.kind == kind)
    }

    /// How many there are of one kind.
    pub fn count_of(&self, kind: &str) -> usize {
        let end = self.0.partition_point(|one| one.key.kind <= kind);
        end - self.0.partition_point(|one| one.key.kind < kind)
    }

    /// Each of `keys`, which are in order, with what is declared of it: one walk beside the other, where as many searches
    /// would take many times as long.
    pub fn beside<'a, 'k>(
        &'a self,
        keys: impl IntoIterator<Item = &'k Key>,
    ) -> impl Iterator<Item = (&'k Key, Option<&'a Arc<Declared>>)> {
        let mut left = self.0.iter().peekable();
        keys.into_iter().map(move |key| {
            while left.next_if(|one| one.key < *key).is_some() {}
            (key, left.peek().copied().filter(|one| one.key == *key))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, key: &Key) -> Result<usize, usize> {
        self.0.binary_search_by(|one| one.key.cmp(key))
    }
}

/// Of several of one key the last one.
impl FromIterator<Arc<Declared>> for Resources {
    fn from_iter<T: IntoIterator<Item = Arc<Declared>>>(all: T) -> Self {
        let mut all: Vec<Arc<Declared>> = all.into_iter().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.dedup_by(|later, earlier| {
            let is_same = later.key == earlier.key;
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        Self::in_order(all)
    }
}

/// Panics where there is none of this key, like a map.
impl Index<&Key> for Resources {
    type Output = Arc<Declared>;

    #[allow(clippy::expect_used, reason = "as a map does")]
    fn index(&self, key: &Key) -> &Arc<Declared> {
        self.get(key).expect("no such resource")
    }
}

impl IntoIterator for Resources {
    type Item = Arc<Declared>;
    type IntoIter = std::vec::IntoIter<Arc<Declared>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Place;
    use crate::desired::yaml::At;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn one(kind: &'static str, name: &str, line: u32) -> Arc<Declared> {
        let place = Place::new(&"a.yaml".into(), At { line, column: 1 });
        Arc::new(Declared::new(Key::new(kind, name), place))
    }

    #[test]
    fn each_key_is_there_once_and_found_in_order() {
        let all: Resources =
            [one("roles", "b", 1), one("permissions", "z", 2), one("roles", "a", 3), one("roles", "b", 4)]
                .into_iter()
                .collect();

        let names: Vec<String> = all.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["permissions/z", "roles/a", "roles/b"]);
        assert_eq!(all.get(&Key::new("roles", "b")).unwrap().place.line, 4, "the last one");
        assert!(!all.contains_key(&Key::new("roles", "z")));
        let of_kind: Vec<&str> = all.of_kind("roles").map(|one| &*one.key.name).collect();
        assert_eq!(of_kind, ["a", "b"]);
        assert_eq!(all.of_kind("tenants").count(), 0);
        assert_eq!(["permissions", "roles", "tenants"].map(|kind| all.count_of(kind)), [1, 2, 0]);
    }

    proptest! {
        #[test]
        fn a_walk_beside_finds_what_a_search_finds(
            declared in proptest::collection::btree_set(0..40_u8, 0..30),
            asked in proptest::collection::btree_set(0..40_u8, 0..30),
        ) {
            let key = |n: &u8| match n % 3 {
                0 => Key::new("roles", &n.to_string()),
                1 => Key::in_tenant("roles", "t", &n.to_string()),
                _ => Key::new("tenants", &n.to_string()),
            };
            let place = Place::new(&"a.yaml".into(), At { line: 1, column: 1 });
            let all: Resources =
                declared.iter().map(|n| Arc::new(Declared::new(key(n), place.clone()))).collect();
            let asked: BTreeSet<Key> = asked.iter().map(key).collect();

            let found: Vec<_> = all.beside(&asked).collect();

            let expected: Vec<_> = asked.iter().map(|key| (key, all.get(key))).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
