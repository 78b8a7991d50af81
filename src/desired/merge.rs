//! The files of one project as one desired state: what only shows when all of them are seen together.

use crate::desired::Declared;
use crate::desired::Desired;
use crate::desired::Finding;
use crate::desired::Findings;
use crate::desired::Place;
use crate::desired::Resources;
use crate::desired::alike;
use crate::desired::check::FileReport;
use crate::desired::findings::bounded;
use crate::desired::remarks;
use crate::desired::yaml::shown;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::legible::exact;
use crate::resource::refer;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

// The message lists the first ones; the rest follows from them.
const MAX_SHOWN_IN_CYCLE: usize = 5;
// Over all references of a kind: a whole kind of them may dangle, and each may be meant for one of a hundred thousand.
const MAX_NAMES_COMPARED: usize = 500_000;

/// All findings of the files and of their sum, and the desired state if nothing is wrong.
#[derive(Debug, Default)]
pub struct Merged {
    /// The sum; meaningless where `errors` is not empty.
    pub desired: Desired,
    /// By file and line.
    pub errors: Findings,
    /// By file and line.
    pub warnings: Findings,
}

/// Merges the reports of all files. The order of `files` does not matter.
pub fn merge(kinds: &[&'static dyn Kind], files: &[Arc<FileReport>]) -> Merged {
    let mut merged = Merged::default();
    let mut all: Vec<&Arc<Declared>> = Vec::with_capacity(files.iter().map(|file| file.resources.len()).sum());
    for file in files {
        merged.desired.kinds.extend(&file.kinds);
        merged.errors.add(&file.errors);
        merged.warnings.add(&file.warnings);
        all.extend(&file.resources);
    }
    all.sort_unstable_by(|a, b| (&a.key, &a.place).cmp(&(&b.key, &b.place)));
    let errors = &mut merged.errors;
    all.dedup_by(|again, first| {
        let is_same = again.key == first.key;
        if is_same {
            let message = format!("is declared twice; the other place is {}", at(&first.place));
            errors.push(about(again, "", message));
        }
        is_same
    });
    merged.desired.resources = Resources::in_order(all.into_iter().map(Arc::clone).collect());
    renames(&mut merged);
    secret_files(&mut merged);
    for kind in kinds {
        let references = references(*kind, &merged.desired);
        cycles(&references, &mut merged);
        undeclared(&references, &mut merged);
        unmanaged(&references, &mut merged);
    }
    remarks::add(kinds, files, &mut merged);
    merged.errors.settle();
    merged.warnings.settle();
    merged
}

/// `FILE:LINE`.
pub fn at(place: &Place) -> String {
    format!("{}:{}", place.file, place.line)
}

/// A finding about one resource, at the place where it is declared.
pub fn about(one: &Declared, field: &str, message: String) -> Finding {
    Finding { place: one.place.clone(), resource: one.key.to_string(), field: field.to_owned(), message }
}

fn old_key(one: &Declared) -> Option<Key> {
    one.renamed_from.as_ref().map(|old| Key { name: Arc::clone(old), ..one.key.clone() })
}

fn renames(merged: &mut Merged) {
    const FIELD: &str = "renamedFrom";
    let mut claims: HashMap<Key, &Arc<Declared>> = HashMap::new();
    for one in merged.desired.resources.values() {
        let Some(old) = old_key(one) else { continue };
        if let Some(still) = merged.desired.resources.get(&old) {
            let message =
                format!("{} is still declared at {}; take one of the two out", shown(&old.name), at(&still.place));
            merged.errors.push(about(one, FIELD, message));
        }
        if let Some(first) = claims.get(&old) {
            let message = format!(
                "{} is also the old name of {}, at {}",
                shown(&old.name),
                bounded(first.key.to_string()),
                at(&first.place)
            );
            merged.errors.push(about(one, FIELD, message));
        } else {
            claims.insert(old, one);
        }
    }
}

/// Of two secrets in one file, one would be lost.
fn secret_files(merged: &mut Merged) {
    let mut claims: HashMap<&str, &Arc<Declared>> = HashMap::new();
    for one in merged.desired.resources.values() {
        let Some(path) = one.secret_file.as_deref() else { continue };
        if let Some(first) = claims.get(path) {
            let (first, place) = (bounded(first.key.to_string()), at(&first.place));
            let message = format!("{} is also the file of {first}, at {place}; name another one", shown(path));
            merged.errors.push(about(one, "secretFile", message));
        } else {
            claims.insert(path, one);
        }
    }
}

/// What one declared resource refers to.
struct Reference {
    from: Arc<Declared>,
    /// One of the project.
    key: Key,
    /// It may as well be of this tenant.
    tenant: Option<Arc<str>>,
    /// It is the name of an entry: who writes one need not manage what defines it.
    is_entry: bool,
}

fn references(kind: &'static dyn Kind, desired: &Desired) -> Vec<Reference> {
    let mut references = Vec::new();
    let fields: Vec<&Field> = refer::naming(kind.spec(), None).collect();
    for one in desired.of_kind(kind.name()) {
        let named = refer::named_by(fields.iter().copied(), &one.key, &one.fields);
        let is_entry = |name: &str| fields.iter().any(|field| field.name == name && field.entries_of.is_some());
        let named = named.iter().map(|named| (Key::new(named.kind, named.name), named.tenant, is_entry(named.field)));
        let all = named.chain(one.key.home().map(|home| (home, None, false)));
        references.extend(all.map(|(key, tenant, is_entry)| Reference {
            from: Arc::clone(one),
            key,
            tenant: tenant.map(Arc::from),
            is_entry,
        }));
    }
    references
}

/// Resources of one kind that refer to one another in a circle: none of them could be created first.
fn cycles(references: &[Reference], merged: &mut Merged) {
    let mut next: BTreeMap<&Key, Vec<&Key>> = BTreeMap::new();
    for Reference { from, key, .. } in
        references.iter().filter(|reference| reference.from.key.kind == reference.key.kind)
    {
        next.entry(&from.key).or_default().push(key);
    }
    let mut done: BTreeSet<&Key> = BTreeSet::new();
    let mut found = Vec::new();
    for start in next.keys().copied() {
        // Depth first without recursion: a chain of tenants may be as long as the list of tenants.
        let mut path: Vec<(&Key, usize)> = vec![(start, 0)];
        let mut on_path: BTreeSet<&Key> = BTreeSet::from([start]);
        while let Some((key, turn)) = path.last_mut() {
            let key = *key;
            let to = next.get(key).and_then(|all| all.get(*turn)).copied();
            *turn += 1;
            match to {
                _ if done.contains(key) => {
                    on_path.remove(key);
                    path.pop();
                }
                None => {
                    done.insert(key);
                    on_path.remove(key);
                    path.pop();
                }
                Some(to) if on_path.contains(to) => {
                    found.push(
                        path.iter().map(|(key, _)| *key).skip_while(|key| *key != to).cloned().collect::<Vec<_>>(),
                    );
                }
                Some(to) => {
                    on_path.insert(to);
                    path.push((to, 0));
                }
            }
        }
    }
    for circle in found {
        let Some(one) = circle.first().and_then(|key| merged.desired.resources.get(key)) else { continue };
        let mut names: Vec<String> = circle.iter().take(MAX_SHOWN_IN_CYCLE).map(|key| shown(&key.name)).collect();
        if circle.len() > MAX_SHOWN_IN_CYCLE {
            names.push("…".to_owned());
        }
        names.push(shown(&one.key.name));
        let message = format!("refers to itself in a circle: {}", names.join(" -> "));
        merged.errors.push(about(one, "", message));
    }
}

/// One warning for each kind that is referred to and of which no file declares anything: nobody looks whether those exist.
fn unmanaged(references: &[Reference], merged: &mut Merged) {
    let mut named: BTreeMap<&str, (&Reference, BTreeSet<&Key>)> = BTreeMap::new();
    for reference in references.iter().filter(|one| !one.is_entry && !merged.desired.kinds.contains(one.key.kind)) {
        let entry = named.entry(reference.key.kind).or_insert((reference, BTreeSet::new()));
        entry.1.insert(&reference.key);
        let at = |one: &Reference| (one.from.place.clone(), one.key.clone());
        if at(reference) < at(entry.0) {
            entry.0 = reference;
        }
    }
    for (kind, (first, keys)) in named {
        let others = if keys.len() > 1 { format!(" (as must {} more)", keys.len() - 1) } else { String::new() };
        let to = bounded(first.key.to_string());
        let message =
            format!("refers to {to}, and no file declares any {kind}: it must exist in the project already{others}");
        merged.warnings.push(about(&first.from, "", message));
    }
}

/// One warning for each resource that is referred to but not declared, though others of its kind are.
fn undeclared(references: &[Reference], merged: &mut Merged) {
    let desired = &merged.desired;
    let mut missing: BTreeMap<&Key, (&Declared, usize, Option<&str>)> = BTreeMap::new();
    for Reference { from: one, key: to, tenant, is_entry } in references {
        let own = tenant.clone().map(|tenant| Key { tenant: Some(tenant), ..to.clone() });
        let is_declared = |key: &Key| desired.resources.contains_key(key);
        let is_declared = is_declared(to) || own.as_ref().is_some_and(is_declared);
        if desired.kinds.contains(to.kind) && !is_declared && !is_entry {
            let entry = missing.entry(to).or_insert((one.as_ref(), 0, tenant.as_deref()));
            entry.1 += 1;
            if one.place < entry.0.place {
                (entry.0, entry.2) = (one.as_ref(), tenant.as_deref());
            }
        }
    }
    if missing.is_empty() {
        return;
    }
    let seen = |key: &Key| (key.kind, alike::seen(&key.id()).into_owned());
    let declared: HashMap<_, &Key> = desired.resources.keys().map(|key| (seen(key), key)).collect();
    let mut names = MAX_NAMES_COMPARED;
    for (to, (first, count, tenant)) in missing {
        let near = declared.get(&seen(to)).and_then(|near| Some((near.id(), alike::difference(&near.id(), &to.id())?)));
        let near = near.map(|(near, what)| format!("; {} is, which differs only in {what}", exact(&near)));
        let near = near.or_else(|| {
            let of_kind = desired.resources.keys().filter(|key| key.kind == to.kind && **key != first.key);
            let known = of_kind.filter(|key| key.tenant.is_none() || key.tenant.as_deref() == tenant);
            let counted = known.map_while(|key| {
                (names > 0).then(|| {
                    names -= 1;
                    &*key.name
                })
            });
            let near = alike::nearest(&to.name, counted)?;
            Some(format!("; did you mean {}?", exact(near)))
        });
        let near = near.unwrap_or_default();
        let others = if count > 1 { format!(" (as do {} more)", count - 1) } else { String::new() };
        let to = bounded(to.to_string());
        let message =
            format!("refers to {to}, which is not declared and so must exist in the project already{others}{near}");
        merged.warnings.push(about(first, "", message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::check::Checker;
    use crate::desired::secrets::Fence;
    use crate::desired::testing::KINDS;
    use std::fmt::Write;

    fn merged(files: &[(&str, &str)]) -> Merged {
        let fence = Fence::default();
        let checker = Checker { kinds: KINDS, fence: &fence };
        let reports: Vec<_> =
            files.iter().map(|(name, text)| Arc::new(checker.check(&Arc::from(*name), text))).collect();
        merge(KINDS, &reports)
    }

    fn lines(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lists_merge_over_files_and_documents() {
        let merged =
            merged(&[("b.yaml", "roles: [{name: b}]\n---\nroles: [{name: c}]\n"), ("a.yaml", "roles: [{name: a}]")]);

        let keys: Vec<_> = merged.desired.resources.keys().map(ToString::to_string).collect();
        assert_eq!(keys, ["roles/a", "roles/b", "roles/c"]);
        assert_eq!(lines(&merged.errors), [""; 0]);
    }

    #[test]
    fn what_only_the_sum_shows_is_an_error() {
        for (files, expected) in [
            (
                vec![
                    ("b.yaml", "roles:\n- name: x\n"),
                    ("a.yaml", "roles:\n- name: x\n"),
                    ("c.yaml", "roles:\n- {name: x, tenantId: t}\n"),
                ],
                vec!["b.yaml:2: roles/x: is declared twice; the other place is a.yaml:2"],
            ),
            (
                vec![("a.yaml", "roles:\n- name: x\n- name: y\n  renamedFrom: x\n")],
                vec!["a.yaml:3: roles/y: renamedFrom: `x` is still declared at a.yaml:2; take one of the two out"],
            ),
            (vec![("a.yaml", "roles:\n- name: x\n- {name: y, renamedFrom: x, tenantId: t}\n")], vec![]),
            (
                vec![("a.yaml", "roles:\n- {name: x, renamedFrom: w}\n- {name: y, renamedFrom: w}\n")],
                vec!["a.yaml:3: roles/y: renamedFrom: `w` is also the old name of roles/x, at a.yaml:2"],
            ),
            (
                vec![(
                    "a.yaml",
                    "tenants:\n- {id: a, name: A, parent: c}\n- {id: b, name: B, parent: a}\n- {id: c, name: C, parent: b}\n- {id: d, name: D, parent: a}\n",
                )],
                vec!["a.yaml:2: tenants/a: refers to itself in a circle: `a` -> `c` -> `b` -> `a`"],
            ),
            (
                vec![("a.yaml", "tenants:\n- {id: a, name: A, parent: a}\n")],
                vec!["a.yaml:2: tenants/a: refers to itself in a circle: `a` -> `a`"],
            ),
        ] {
            assert_eq!(lines(&merged(&files).errors), expected, "{files:?}");
        }
    }

    #[test]
    fn a_reference_to_something_undeclared_is_a_warning_once() {
        let roles = "roles:\n- {name: x, permissionNames: [p, q]}\n- {name: y, permissionNames: [q]}\n- {name: z, tenantId: t}\n";

        assert_eq!(
            lines(&merged(&[("a.yaml", roles)]).warnings),
            [
                "a.yaml:2: roles/x: refers to permissions/p, and no file declares any permissions: it must exist in the \
                 project already (as must 1 more)",
                "a.yaml:4: roles/t/z: refers to tenants/t, and no file declares any tenants: it must exist in the project \
                 already",
            ]
        );
        assert_eq!(
            lines(&merged(&[("a.yaml", roles), ("b.yaml", "permissions: [{name: p}]\ntenants: []\n")]).warnings),
            [
                "a.yaml:2: roles/x: refers to permissions/q, which is not declared and so must exist in the project \
                 already (as do 1 more)",
                "a.yaml:4: roles/t/z: refers to tenants/t, which is not declared and so must exist in the project already",
            ]
        );
    }

    #[test]
    fn a_reference_that_dangles_by_a_typo_names_what_was_meant() {
        let text = "permissions: [{name: articles.read}, {name: articles.write}]\nroles:\n- {name: Editor, permissionNames: [articels.read]}\n\
                    - {name: Editor of t, tenantId: acme}\ntenants:\n- {id: acme, name: A, defaultRoles: [Edito, Editor of  t, Other]}\n\
                    - {id: child, name: C, parent: acne}\n";

        assert_eq!(
            lines(&merged(&[("a.yaml", text)]).warnings),
            [
                "a.yaml:3: roles/Editor: refers to permissions/articels.read, which is not declared and so must exist in the \
                 project already; did you mean `articles.read`?",
                "a.yaml:6: tenants/acme: refers to roles/Edito, which is not declared and so must exist in the project already; did \
                 you mean `Editor`?",
                "a.yaml:6: tenants/acme: refers to roles/Other, which is not declared and so must exist in the project already",
                "a.yaml:6: tenants/acme: refers to roles/`Editor of  t`, which is not declared and so must exist in the project already; \
                 did you mean `Editor of t`?",
                "a.yaml:7: tenants/child: refers to tenants/acne, which is not declared and so must exist in the project already; \
                 did you mean `acme`?",
            ]
        );
    }

    /// What each file says by itself is found when it is read, and what they say together is not forgotten for that.
    #[test]
    fn a_remark_does_not_depend_on_which_file_says_what() {
        let one = |n: usize, domains: &str| {
            format!("- {{id: t{n}, name: \"T{n}{}\", selfProvisioningDomains: [{domains}]}}\n", [" ", ""][n % 2])
        };
        let all = [one(1, "a.example"), one(2, "B.example"), one(3, "b.example, c.example"), one(4, "a.example")];
        let text = |some: &[String]| format!("tenants:\n{}", some.concat());
        let told = |files: &[(&str, &str)]| {
            let warnings = merged(files).warnings;
            let tell = |it: &Finding| format!("{} {}: {}", it.resource, it.field, it.message);
            let in_one = |told: String| told.replace("b.yaml:3", "a.yaml:5").replace("b.yaml:2", "a.yaml:4");
            let mut told: Vec<String> = warnings.iter().map(tell).map(in_one).collect();
            told.sort();
            told
        };

        let together = told(&[("a.yaml", &text(&all))]);

        let apart = told(&[("b.yaml", &text(&all[2..])), ("a.yaml", &text(&all[..2]))]);
        assert_eq!(apart, together);
        let of = |what: &str| together.iter().filter(|told| told.contains(what)).count();
        assert_eq!(
            (of("is also claimed by"), of("is not in lower case"), of("ends with a blank")),
            (2, 1, 2),
            "{together:#?}"
        );
    }

    #[test]
    fn a_long_chain_of_parents_is_no_circle() {
        let mut text = String::from("tenants:\n");
        for n in 0..20_000 {
            writeln!(text, "- {{id: t{n:05}, name: T, parent: t{:05}}}", n + 1).unwrap();
        }

        assert_eq!(merged(&[("a.yaml", &text)]).errors[..], []);
    }
}
