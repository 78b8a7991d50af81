//! Everything that a plan is made of, drawn at random: few names, so that both sides, the inventory and the limits meet.

use super::draws::application;
use super::draws::passwords;
use super::draws::permission;
use super::draws::role;
use super::draws::tenant;
use super::*;
use proptest::prelude::*;
use proptest::sample::select;

/// How Descope answers for one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Whole,
    Transient,
    Refused,
    NotAsked,
}

/// The whole input of a plan, and what an operator does with what it holds.
#[derive(Debug, Clone)]
pub struct Drawn {
    pub desired: Desired,
    /// What the lists hold, were they all answered.
    pub world: World,
    pub answers: BTreeMap<&'static str, Answer>,
    pub owned: BTreeMap<Key, Ownership>,
    pub due: BTreeSet<Key>,
    pub sent: Sent,
    /// The state knows of every rename.
    pub renamed: bool,
    pub policy: Policy,
    pub guards: Guards,
    pub first_contact: bool,
    /// Does the config hold the first contact of a kind or a part?
    pub holds_contact: bool,
    /// Kinds and fields that were never seen before.
    pub unknown: BTreeSet<(&'static str, &'static str)>,
    pub windows: BTreeMap<&'static str, Window>,
    /// What somebody else turns back again and again.
    pub contested: BTreeSet<Key>,
    /// Which of the held changes are approved, by their place.
    pub approved: u64,
}

pub const BUILTIN_ROLE: &str = "Tenant Admin";

impl Drawn {
    pub fn plan(&self, is_approved: &dyn Fn(&str) -> bool) -> Plan {
        diff(&Inputs {
            scope: "production",
            desired: &self.desired,
            observed: &self.observed(),
            owned: &self.owned,
            ids: &HashMap::new(),
            sent: &|_, path, _| match self.sent {
                // Nothing was sent of what is still to come.
                Sent::Unknown if path.ends_with(remember::ALONG) => Sent::Same,
                Sent::Same | Sent::Different if path.ends_with(remember::ALONG) => Sent::Unknown,
                Sent::Unknown | Sent::Same | Sent::Different => self.sent,
            },
            secret: &|_, _, _| Ok(self.sent),
            document: &|_, _, _, _| false,
            previews: &BTreeMap::new(),
            renamed: &|_, _| self.renamed,
            policy: self.policy,
            builtin_roles: &[BUILTIN_ROLE.to_owned()],
            guards: &self.guards,
            first_contact: self.first_contact,
            former: None,
            holds_contact: self.holds_contact,
            is_contacted: &|kind, field| !self.unknown.contains(&(kind, field)),
            windows: &self.windows,
            may_delete: &|key| self.due.contains(key),
            contested: &|change| {
                let contest = Contest {
                    path: "description".to_owned(),
                    times: 5,
                    since: SystemTime::UNIX_EPOCH,
                    until: SystemTime::UNIX_EPOCH,
                    is_moved: false,
                    actor: None,
                    former: None,
                };
                self.contested.contains(&change.key).then_some(contest)
            },
            drift: &DriftRules::HEAL,
            applied: &|_| None,
            drifted_since: &|_, _| None,
            now: SystemTime::UNIX_EPOCH,
            lost: &BTreeMap::new(),
            volume: &|| None,
            place: &|_| 0,
            is_approved,
        })
    }

    fn observed(&self) -> Observed {
        let mut observed = self.world.observed();
        for (kind, answer) in &self.answers {
            let operation = "GET /v1/mgmt/all";
            match answer {
                Answer::Whole => {}
                Answer::Transient => drop(observed.kinds.insert(kind, Err(timeout()))),
                Answer::Refused => {
                    let message = "not part of your plan".to_owned();
                    observed.kinds.insert(kind, Err(descope::Error::Forbidden { operation, message }));
                }
                Answer::NotAsked => drop(observed.kinds.remove(kind)),
            }
        }
        observed
    }
}

/// What may be true of one name, on either side and in the inventory. The numbers are below 100 and compared with
/// [`Odds`], so that a kind as a whole is nearly in sync, half gone, or empty.
#[derive(Debug, Clone)]
struct Fate {
    wanted: Value,
    found: Value,
    declared: u8,
    listed: u8,
    owned: u8,
    ownership: Ownership,
    is_due: bool,
    is_builtin: bool,
    /// Of the YAML: `protected`, `cascadeDelete`, and which name it had.
    flags: (Option<bool>, Option<bool>),
    renamed_from: Option<Key>,
}

/// The names that this one may have had.
fn siblings(key: &Key) -> Vec<Key> {
    names().into_iter().filter(|other| (other.kind, &other.tenant) == (key.kind, &key.tenant)).collect()
}

/// Of one kind, in percent.
#[derive(Debug, Clone, Copy)]
struct Odds {
    declared: u8,
    listed: u8,
    owned: u8,
}

/// Above all odds.
const NEVER: u8 = 100;

fn names() -> Vec<Key> {
    let of = |kind: &'static str, prefix: &str| {
        (0..7).map(|n| Key::new(kind, &format!("{prefix}{n}"))).collect::<Vec<Key>>()
    };
    let of_tenants = [("t0", "own"), ("t0", "other"), ("t1", "own"), ("t2", BUILTIN_ROLE)];
    let of_tenants = of_tenants.map(|(tenant, name)| Key::in_tenant("roles", tenant, name));
    // It reads like the role `own` of the tenant `t0`.
    let of_project = [Key::new("roles", BUILTIN_ROLE), Key::new("roles", "t0/own")];
    let others = [Key::new("ssoApplications", "a0"), Key::new("ssoApplications", "a1"), passwords_key()];
    let many = [of("permissions", "p"), of("roles", "r"), of("tenants", "t")].concat();
    [many, of_tenants.to_vec(), of_project.to_vec(), others.to_vec()].concat()
}

/// The only one of its kind, which is always there.
fn passwords_key() -> Key {
    Key::new("passwordSettings", "passwordSettings")
}

/// Mostly without references: else nearly everything is referred to, and nothing else ever holds a delete.
fn sparse(fields: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    let kept = select(vec![0, 0, 0, 0, 0, 0, 0, 1, 7]);
    let cut = |(mut fields, kept): (Value, usize)| {
        for name in ["permissionNames", "defaultRoles"] {
            if let Some(names) = fields.get_mut(name).and_then(Value::as_array_mut) {
                names.truncate(kept);
            }
        }
        fields
    };
    (fields, kept).prop_map(cut).boxed()
}

fn fields(kind: &str) -> BoxedStrategy<Value> {
    match kind {
        "permissions" => permission().boxed(),
        "roles" => sparse(role((0..7).map(|n| format!("p{n}")).collect())),
        "ssoApplications" => application((0..7).map(|n| format!("r{n}")).collect()).boxed(),
        "passwordSettings" => passwords().boxed(),
        _ => {
            let roles = (0..7).map(|n| format!("r{n}")).chain(["own".to_owned()]).collect();
            let parent = proptest::option::weighted(0.1, Just(json!("t0")));
            let apps = proptest::option::weighted(0.1, Just(json!(["app"])));
            let sso = proptest::option::weighted(0.9, any::<bool>().prop_map(Value::from));
            let auth = proptest::option::weighted(0.3, select(vec![json!("none"), json!("saml"), json!("")]));
            (sparse(tenant(roles)), parent, apps, sso, auth)
                .prop_map(|(mut tenant, parent, apps, sso, auth)| {
                    for (name, value) in
                        [("parent", parent), ("federatedAppIds", apps), ("enforceSSO", sso), ("authType", auth)]
                    {
                        if let Some(value) = value {
                            tenant[name] = value;
                        }
                    }
                    tenant
                })
                .boxed()
        }
    }
}

fn ownership(kind: &'static str) -> impl Strategy<Value = Ownership> {
    let odds = proptest::bool::weighted;
    let missing_for = select(vec![None, Some(0), Some(119), Some(120), Some(120), Some(3599), Some(3600), Some(3600)]);
    (any::<bool>(), odds(0.2), odds(0.1), odds(0.1), odds(0.5), missing_for).prop_map(
        move |(created, fresh, replaced, protected, cascade_delete, missing_for)| Ownership {
            created: created || fresh,
            fresh,
            replaced,
            replaces: false,
            protected,
            cascade_delete: cascade_delete && kind == "tenants",
            missing_for: missing_for.map(Duration::from_secs),
        },
    )
}

fn fate(key: &Key) -> impl Strategy<Value = Fate> + use<> {
    let kind = key.kind;
    let percent = || 0u8..100;
    let flag = || proptest::option::of(any::<bool>());
    (
        (fields(kind), fields(kind)),
        (percent(), percent(), percent()),
        ownership(kind),
        proptest::bool::weighted(0.75),
        proptest::bool::weighted(0.05),
        (flag(), flag()),
        proptest::option::weighted(0.2, select(siblings(key))),
    )
        .prop_map(
            move |((wanted, found), (declared, listed, owned), ownership, is_due, is_builtin, flags, renamed_from)| {
                Fate { wanted, found, declared, listed, owned, ownership, is_due, is_builtin, flags, renamed_from }
            },
        )
}

fn odds() -> impl Strategy<Value = Odds> {
    let share = || prop_oneof![4 => Just(100u8), 8 => Just(85u8), 3 => Just(50u8), 1 => Just(10u8), 1 => Just(0u8)];
    (share(), share(), share()).prop_map(|(declared, listed, owned)| Odds { declared, listed, owned })
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        20 => Just(Answer::Whole),
        1 => Just(Answer::Transient),
        1 => Just(Answer::Refused),
        1 => Just(Answer::NotAsked),
    ]
}

/// One of each per kind.
fn by_kind<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = BTreeMap<&'static str, T>> {
    let kinds = || resource::ALL.iter().map(|kind| kind.name());
    proptest::collection::vec(value, kinds().count()).prop_map(move |values| kinds().zip(values).collect())
}

fn guards() -> impl Strategy<Value = Guards> {
    let most = || prop_oneof![4 => 0usize..6, 3 => Just(1000usize)];
    let percent = || select(vec![0.0, 12.5, 20.0, 50.0, 80.0, 80.0, 100.0, 100.0]);
    let limit = move || {
        (most(), by_kind(proptest::option::weighted(0.4, most())), percent()).prop_map(|(default, by_kind, percent)| {
            let named = by_kind.into_iter().filter_map(|(kind, most)| Some((kind.to_owned(), most?)));
            Most { default, by_kind: named.collect(), percent }
        })
    };
    let watch = || select(vec![Watch::Hold, Watch::Hold, Watch::Warn, Watch::Off]);
    (limit(), limit(), proptest::option::of(percent()), watch(), watch()).prop_map(
        |(deletes, missing, max_change_percent, weakening, lockout)| Guards {
            deletes,
            missing,
            max_change_percent,
            weakening,
            lockout,
        },
    )
}

/// Was the project seen before? One that was not is mostly empty, and nothing of it is owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    Later,
    First,
    FirstOfEmpty,
}

fn contact() -> impl Strategy<Value = Contact> {
    prop_oneof![17 => Just(Contact::Later), 1 => Just(Contact::First), 2 => Just(Contact::FirstOfEmpty)]
}

/// Mostly nothing; else a kind as a whole, or one field of it.
fn unknown() -> impl Strategy<Value = BTreeSet<(&'static str, &'static str)>> {
    let fields = |kind: &'static dyn resource::Kind| {
        let fields = kind.spec().fields().filter(|(_, field)| field.is_declarable());
        fields.map(move |(_, field)| (kind.name(), field.name))
    };
    let kinds: Vec<Vec<_>> = resource::ALL.iter().map(|kind| fields(*kind).collect()).collect();
    let single: Vec<Vec<_>> = kinds.iter().flatten().map(|field| vec![*field]).collect();
    prop_oneof![
        6 => Just(Vec::new()),
        2 => select(kinds),
        2 => select(single),
        1 => Just(vec![("tenants", "defaultRoles"), ("tenants", "federatedAppIds")]),
    ]
    .prop_map(|fields| fields.into_iter().collect())
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        8 => Just(Policy::Sync),
        2 => Just(Policy::UpsertOnly),
        1 => Just(Policy::CreateOnly),
        1 => Just(Policy::Observe),
    ]
}

/// The whole input of a plan.
pub fn drawn() -> impl Strategy<Value = Drawn> {
    let fates: Vec<_> = names().iter().map(fate).collect();
    let around = (
        by_kind(answer()),
        by_kind(any::<bool>()),
        by_kind((0usize..3, 0usize..6, 0usize..3, 0usize..6)),
        select(vec![Sent::Same, Sent::Different, Sent::Unknown]),
    );
    let contested = proptest::collection::btree_set(select(names()), 0..3);
    let rules = (policy(), guards(), contact(), any::<bool>(), proptest::bool::weighted(0.9), unknown(), contested);
    let approved = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    (fates, by_kind(odds()), around, rules, approved).prop_map(|(fates, odds, around, rules, approved)| {
        let (answers, named, lately, sent) = around;
        let (policy, guards, contact, renamed, holds_contact, unknown, contested) = rules;
        let mut odds = odds;
        if contact == Contact::FirstOfEmpty {
            for odds in odds.values_mut() {
                (odds.listed, odds.owned) = (0, 0);
            }
        }
        let of_passwords = odds.get_mut(passwords_key().kind).unwrap();
        if contact == Contact::FirstOfEmpty {
            // It would not be empty with them.
            of_passwords.declared = 0;
        } else {
            of_passwords.listed = NEVER;
        }
        let fates = with_renames(names().into_iter().zip(fates).collect(), &odds);
        let owned = owned(&fates, &odds);
        let windows = lately.into_iter().map(|(kind, (deleted, created, passing, rise))| {
            let most = owned.iter().filter(|(key, ownership)| key.kind == kind && ownership.created).count();
            let (created, passing) = (created.min(most), passing.min(deleted));
            (kind, Window { deleted, created, passing, rise: rise.min(created + passing) })
        });
        let mut desired = desired_of(declarations(&fates, &odds));
        desired.kinds.extend(named.iter().filter(|(_, is_named)| **is_named).map(|(kind, _)| *kind));
        Drawn {
            desired,
            world: listed(&fates, &odds),
            answers,
            due: fates.iter().filter(|(_, fate)| fate.is_due).map(|(key, _)| key.clone()).collect(),
            sent,
            renamed,
            policy,
            guards,
            first_contact: contact != Contact::Later,
            holds_contact,
            unknown,
            windows: windows.collect(),
            contested,
            approved,
            owned,
        }
    })
}

fn owned(fates: &BTreeMap<Key, Fate>, odds: &BTreeMap<&'static str, Odds>) -> BTreeMap<Key, Ownership> {
    let owned = fates.iter().filter(|(key, fate)| fate.owned < odds[key.kind].owned);
    owned.map(|(key, fate)| (key.clone(), fate.ownership)).collect()
}

fn listed(fates: &BTreeMap<Key, Fate>, odds: &BTreeMap<&'static str, Odds>) -> World {
    let document = |(key, fate): (&Key, &Fate)| {
        let mut fields = fate.found.clone();
        if fate.is_builtin && key.kind == "permissions" {
            fields["systemDefault"] = json!(true);
        }
        (fate.listed < odds[key.kind].listed).then(|| (key.clone(), fields))
    };
    live(&fates.iter().filter_map(document).collect::<Vec<_>>())
}

/// Only what the loader lets pass: a name that is declared, or the old name of another one, is nobody's old name. Most
/// renames are still to be done, for by chance both names are there, or none.
fn with_renames(mut fates: BTreeMap<Key, Fate>, odds: &BTreeMap<&'static str, Odds>) -> BTreeMap<Key, Fate> {
    let mut named = BTreeSet::new();
    for key in names() {
        let fate = &fates[&key];
        let (is_declared, is_to_do) = (fate.declared < odds[key.kind].declared, !fate.listed.is_multiple_of(4));
        let has_rename = resource::kind(key.kind).unwrap().has_rename();
        let old = fate.renamed_from.clone().filter(|old| has_rename && is_declared && *old != key);
        let old = old.filter(|old| !named.contains(old) && !named.contains(&key));
        fates.get_mut(&key).unwrap().renamed_from.clone_from(&old);
        let Some(old) = old else { continue };
        fates.get_mut(&old).unwrap().declared = NEVER;
        if is_to_do {
            fates.get_mut(&old).unwrap().listed = 0;
            fates.get_mut(&key).unwrap().listed = NEVER;
        }
        named.extend([key, old]);
    }
    fates
}

fn declarations(fates: &BTreeMap<Key, Fate>, odds: &BTreeMap<&'static str, Odds>) -> Vec<Declared> {
    let declaration = |(key, fate): (&Key, &Fate)| Declared {
        protected: fate.flags.0,
        renamed_from: fate.renamed_from.as_ref().map(|old| old.name.clone()),
        cascade_delete: fate.flags.1.filter(|_| key.kind == "tenants"),
        ..declared(key.clone(), fate.wanted.clone())
    };
    fates.iter().filter(|(key, fate)| fate.declared < odds[key.kind].declared).map(declaration).collect()
}
