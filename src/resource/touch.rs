//! Which resource a call is about, by every key and id that it may go by, and whatever goes with it. Calls that are about the
//! same one are made one after another.

use super::Action;
use super::Key;
use std::collections::HashSet;
use std::sync::Arc;

/// What one call is about.
#[derive(Debug, Clone, Copy)]
pub struct Touch<'a> {
    key: &'a Key,
    action: Action,
    old: Option<&'a Arc<str>>,
    id: Option<&'a Arc<str>>,
}

impl<'a> Touch<'a> {
    /// Of a call that does this to what bears, or will bear, this key. `old`: the name that it has before, where that may be
    /// another one. `id`: Descope's own, where it is known by one.
    pub fn new(action: Action, key: &'a Key, old: Option<&'a Arc<str>>, id: Option<&'a Arc<str>>) -> Self {
        Self { key, action, old: old.filter(|old| **old != key.name), id }
    }

    /// Under which it may be found, before or after.
    pub fn keys(self) -> impl Iterator<Item = Key> + use<'a> {
        let old = self.old.map(|old| Key { name: Arc::clone(old), ..self.key.clone() });
        std::iter::once(self.key.clone()).chain(old)
    }

    /// The tenant that it deletes, with all that lives in it.
    fn emptied(self) -> Option<&'a Arc<str>> {
        self.key.as_tenant().filter(|_| self.action == Action::Delete)
    }

    /// May it be about a resource that another call knows by another key, or does another part of it matter?
    pub fn is_wide(self) -> bool {
        self.old.is_some() || self.id.is_some() || self.action == Action::Delete
    }

    /// Are both about one resource?
    pub fn meets(self, other: Self) -> bool {
        let is_named = |one: Self, name: &Arc<str>| one.key.name == *name || one.old == Some(name);
        let takes =
            |one: Self, with: Self| one.emptied().is_some_and(|tenant| with.key.tenant.as_ref() == Some(tenant));
        let is_named_alike = || {
            self.key.tenant == other.key.tenant
                && (is_named(self, &other.key.name) || other.old.is_some_and(|old| is_named(self, old)))
        };
        let has_same_id = || self.id.is_some() && self.id == other.id;
        self.key.kind == other.key.kind && (is_named_alike() || has_same_id())
            || takes(self, other)
            || takes(other, self)
    }
}

/// What many calls are about.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    keys: HashSet<Key>,
    ids: HashSet<(&'static str, Arc<str>)>,
    /// Tenants that are deleted with all that lives in them.
    emptied: HashSet<Arc<str>>,
    /// Tenants in which something is touched.
    homes: HashSet<Arc<str>>,
}

impl Touched {
    /// One more.
    pub fn add(&mut self, touch: Touch<'_>) {
        self.keys.extend(touch.keys());
        self.ids.extend(touch.id.map(|id| (touch.key.kind, Arc::clone(id))));
        self.emptied.extend(touch.emptied().cloned());
        self.homes.extend(touch.key.tenant.clone());
    }

    /// Is one of them about the same resource?
    pub fn meets(&self, touch: Touch<'_>) -> bool {
        let is_known = |id: &Arc<str>| self.ids.contains(&(touch.key.kind, Arc::clone(id)));
        touch.keys().any(|key| self.keys.contains(&key))
            || touch.id.is_some_and(is_known)
            || touch.key.tenant.as_ref().is_some_and(|tenant| self.emptied.contains(tenant))
            || touch.emptied().is_some_and(|tenant| self.homes.contains(tenant))
    }

    /// Every key under which one of them may be found.
    pub fn keys(&self) -> &HashSet<Key> {
        &self.keys
    }
}

impl<'a> FromIterator<Touch<'a>> for Touched {
    fn from_iter<T: IntoIterator<Item = Touch<'a>>>(touches: T) -> Self {
        let mut all = Self::default();
        touches.into_iter().for_each(|touch| all.add(touch));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    struct Call(Action, Key, Option<Arc<str>>, Option<Arc<str>>);

    impl Call {
        fn touch(&self) -> Touch<'_> {
            Touch::new(self.0, &self.1, self.2.as_ref(), self.3.as_ref())
        }
    }

    fn call(action: Action, key: Key) -> Call {
        Call(action, key, None, None)
    }

    fn rename(old: &str, key: Key) -> Call {
        Call(Action::Rename, key, Some(old.into()), None)
    }

    #[test]
    fn a_call_meets_whatever_is_about_the_same_resource_by_any_key() {
        use Action::Create;
        use Action::Delete;
        use Action::Update;
        let list = |name: &str| Key::new("lists", name);
        let role = |tenant: &str, name: &str| Key::in_tenant("roles", tenant, name);
        let tenant = |name: &str| Key::new("tenants", name);
        let known_by = |id: &str, call: Call| Call(call.0, call.1, call.2, Some(id.into()));

        for (a, b, is_met) in [
            (call(Update, list("L")), call(Update, list("L")), true),
            (call(Update, list("L")), call(Update, list("M")), false),
            (call(Update, list("L")), call(Update, Key::new("permissions", "L")), false),
            (call(Update, list("L")), rename("L", list("M")), true),
            (call(Create, list("L")), rename("L", list("M")), true),
            (call(Create, list("M")), rename("L", list("M")), true),
            (call(Create, list("N")), rename("L", list("M")), false),
            (rename("L", list("M")), rename("M", list("N")), true),
            (rename("L", list("M")), rename("L", list("N")), true),
            (rename("A", role("t", "B")), call(Update, role("t", "A")), true),
            (rename("A", role("t", "B")), call(Update, role("u", "A")), false),
            (known_by("1", call(Update, list("L"))), known_by("1", call(Update, list("M"))), true),
            (known_by("1", call(Update, list("L"))), known_by("2", call(Update, list("M"))), false),
            (known_by("1", call(Update, list("L"))), known_by("1", call(Update, Key::new("jwtTemplates", "M"))), false),
            (call(Delete, tenant("t")), call(Create, role("t", "A")), true),
            (call(Update, tenant("t")), call(Create, role("t", "A")), false),
            (call(Delete, tenant("t")), call(Create, role("u", "A")), false),
            (call(Delete, tenant("t")), call(Update, tenant("t")), true),
        ] {
            assert_eq!(a.touch().meets(b.touch()), is_met, "{a:?} {b:?}");
        }
    }

    fn calls() -> impl Strategy<Value = Call> {
        let name = || prop::sample::select(vec!["a", "b", "c"]);
        let actions = vec![Action::Create, Action::Update, Action::Rename, Action::Delete];
        let key = (prop::sample::select(vec!["lists", "roles", "tenants"]), prop::option::of(name()), name());
        let key = key.prop_map(|(kind, tenant, name)| match tenant.filter(|_| kind == "roles") {
            Some(tenant) => Key::in_tenant(kind, tenant, name),
            None => Key::new(kind, name),
        });
        let call = (prop::sample::select(actions), key, prop::option::of(name()), prop::option::of(name()));
        call.prop_map(|(action, key, old, id)| Call(action, key, old.map(Into::into), id.map(Into::into)))
    }

    proptest! {
        #[test]
        fn either_meets_the_other_and_many_meet_what_one_of_them_does(
            all in prop::collection::vec(calls(), 0..4), one in calls(),
        ) {
            for other in &all {
                prop_assert_eq!(one.touch().meets(other.touch()), other.touch().meets(one.touch()));
            }
            let is_met = all.iter().any(|other| one.touch().meets(other.touch()));
            let touched: Touched = all.iter().map(Call::touch).collect();
            prop_assert_eq!(touched.meets(one.touch()), is_met);
        }
    }
}
