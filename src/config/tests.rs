use super::*;
use secrecy::ExposeSecret;

const KEY: &str = "K2thisisaverysecretmanagementkey";
const ONE: &str = "projects:\n  - name: production\n    projectId: P2abc\n    managementKey: { env: KEY }\n";

/// Loads `text` as a config file; messages say `FILE` for its path.
fn load(text: &str, overrides: &Overrides) -> Result<Config, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("descope-gitops.yaml");
    std::fs::write(&file, text).unwrap();
    let overrides = Overrides { config: Some(file.to_str().unwrap().to_owned()), ..overrides.clone() };
    Config::load(&overrides).map_err(|invalid| worded(&invalid, file.to_str().unwrap()))
}

fn worded(invalid: &Invalid, file: &str) -> Vec<String> {
    invalid.to_string().replace(file, "FILE").lines().map(str::to_owned).collect()
}

fn loaded(text: &str) -> Config {
    load(text, &Overrides::default()).unwrap()
}

fn errors(text: &str) -> Vec<String> {
    load(text, &Overrides::default()).map(|config| format!("{config:?}")).unwrap_err()
}

fn env_of<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

/// What is wrong once credentials are looked at.
fn start_errors(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let config = loaded(text);
    let file = config.file.clone().unwrap();
    let invalid = config.connections(&env_of(variables)).map(|c| format!("{c:?}")).unwrap_err();
    worded(&invalid, file.to_str().unwrap())
}

#[test]
fn the_sample_is_every_default_written_out() {
    let sample = include_str!("../../config/descope-gitops.yaml");
    let config = loaded(sample);
    let plain = loaded(ONE);

    assert_eq!(config.source, plain.source);
    assert_eq!(config.rate_limit, plain.rate_limit);
    assert_eq!(config.retry, plain.retry);
    assert_eq!(config.request_timeout, plain.request_timeout);
    assert_eq!((config.concurrency, config.max_answer), (plain.concurrency, plain.max_answer));
    assert_eq!(config.http.listen, plain.http.listen);
    assert_eq!(config.http.token, plain.http.token);
    assert_eq!(config.state, plain.state);
    assert_eq!(config.log, plain.log);
    assert_eq!(config.notifications, plain.notifications);
    let (sample, plain) = (&config.projects[0], &plain.projects[0]);
    assert_eq!(sample.guards, plain.guards);
    assert_eq!(sample.secrets, plain.secrets);
    assert_eq!(sample.paths, plain.paths);
    assert_eq!(sample.built_in_roles, plain.built_in_roles);
    assert_eq!((sample.policy, sample.first_contact), (plain.policy, plain.first_contact));
    assert_eq!(sample.owner, plain.owner);
    let connections = config.connections(&env_of(&[("DESCOPE_MANAGEMENT_KEY", KEY)])).unwrap();
    assert_eq!(connections[0].base_url.as_str(), "https://api.descope.com/");
}

#[test]
fn an_empty_file_and_empty_sections_are_defaults() {
    for text in ["", "# nothing\n", "source:\nhttp:\nrateLimit:\n  adaptive:\n"] {
        let config = loaded(text);

        assert_eq!(config.source.interval, SOURCE_INTERVAL, "{text}");
        assert_eq!(config.projects[0].name.as_ref(), "default");
        assert!(!config.declares_projects);
    }
}

#[test]
fn every_bad_value_is_told_with_its_line_its_key_and_the_remedy() {
    for (text, expected) in [
        ("version: 2\n", "FILE:1: version must be 1, the only version there is"),
        (
            "source:\n  debounce: 500\n",
            "FILE:2: source.debounce must be a duration such as 500ms, 5m, 1h30m or 90d, not `500`",
        ),
        ("source: { interval: 0s }\n", "FILE:1: source.interval must be longer than zero"),
        ("requestTimeout: 400d\n", "FILE:1: requestTimeout must be at most a year"),
        (
            "source: { interval: 5M }\n",
            "FILE:1: source.interval must not count in months, as `5M` does (`M`), which are not all of one length; write \
             `m` for minutes, or days, such as 30d",
        ),
        (
            "rateLimit: { limit: 100/1M }\n",
            "FILE:1: rateLimit.limit must not count in months, as `1M` does (`M`), which are not all of one length; write \
             `m` for minutes, or days, such as 30d",
        ),
        (
            "rateLimit: { lockout: 1y 5s }\n",
            "FILE:1: rateLimit.lockout must not count in years, as `1y 5s` does (`y`), which are not all of one length; \
             write `m` for minutes, or days, such as 30d",
        ),
        (
            "source: { exclude: ['ok/**', 'a[' ] }\n",
            "FILE:1: source.exclude[1] must be a glob: unclosed character class; missing ']'",
        ),
        (
            "rateLimit:\n  adaptive:\n    minRate: 5\n    maxRate: 2\n",
            "FILE:4: rateLimit.adaptive.maxRate must be at least rateLimit.adaptive.minRate",
        ),
        (
            "rateLimit: { adaptive: { initialRate: 101 } }\n",
            "FILE:1: rateLimit.adaptive.initialRate must lie between rateLimit.adaptive.minRate and rateLimit.adaptive.maxRate",
        ),
        (
            "rateLimit: { adaptive: { minRate: .nan } }\n",
            "FILE:1: rateLimit.adaptive.minRate must be a number above 0, not `NaN`",
        ),
        (
            "rateLimit: { adaptive: { decreaseFactor: 1 } }\n",
            "FILE:1: rateLimit.adaptive.decreaseFactor must be a number between 0 and 1, not `1`",
        ),
        (
            "rateLimit: { adaptive: { increaseFactor: 1.0 } }\n",
            "FILE:1: rateLimit.adaptive.increaseFactor must be a number above 1, not `1`",
        ),
        (
            "rateLimit: { adaptive: { successThreshold: 0 } }\n",
            "FILE:1: rateLimit.adaptive.successThreshold must be a whole number from 1 to 4294967295, not `0`",
        ),
        (
            "rateLimit: { limit: 100 }\n",
            "FILE:1: rateLimit.limit must be requests per window such as 100/60s, or null for none, not `100`",
        ),
        (
            "rateLimit: { limit: 0/60s }\n",
            "FILE:1: rateLimit.limit must allow at least one request in a window longer than zero",
        ),
        (
            "rateLimit: { reserve: 100% }\n",
            "FILE:1: rateLimit.reserve must be less than 100%, or nothing is left for this daemon",
        ),
        (
            "rateLimit: { egress: office }\n",
            "FILE:1: rateLimit.egress goes with state.url; without it there is one process, which has the limit to itself",
        ),
        ("rateLimit: { algorithm: bucket }\n", "FILE:1: rateLimit.algorithm must be budget or adaptive, not `bucket`"),
        ("rateLimit: { probe: maybe }\n", "FILE:1: rateLimit.probe must be true or false, not `maybe`"),
        ("retry: { initialBackoff: 2m }\n", "FILE:1: retry.maxBackoff must be at least retry.initialBackoff"),
        ("maxAnswerMiB: 0\n", "FILE:1: maxAnswerMiB must be a whole number from 1 to 65536, not `0`"),
        ("concurrency: 0\n", "FILE:1: concurrency must be a whole number from 1 to 1000, not `0`"),
        ("http: { listen: 8080 }\n", "FILE:1: http.listen must be ADDRESS:PORT such as 0.0.0.0:8080, not `8080`"),
        ("log: { format: xml }\n", "FILE:1: log.format must be auto or json or pretty, not `xml`"),
        (
            "log: { level: wran }\n",
            "FILE:1: log.level must be trace, debug, info, warn or error, or directives as RUST_LOG takes them",
        ),
        (
            "log: { level: 'info,hyper' }\n",
            "FILE:1: log.level must be trace, debug, info, warn or error, or directives as RUST_LOG takes them",
        ),
        (
            "log: { level: a=b=c }\n",
            "FILE:1: log.level must be trace, debug, info, warn or error, or directives as RUST_LOG takes them",
        ),
        ("projects: []\n", "FILE:1: projects must hold at least one project"),
        (
            "sources: {}\n",
            "FILE:1: unknown key `sources`, expected one of `version`, `source`, `projects`, `rateLimit`, \
          `retry`, `requestTimeout`, `maxAnswerMiB`, `concurrency`, `http`, `state`, `notifications`, `log`",
        ),
        ("source:\n  path: a\n  path: b\n", "FILE:3: source.path is written twice"),
        ("source: []\n", "FILE:1: source: invalid type: sequence, expected a map"),
        ("{\n", "FILE:2: did not find expected node content"),
    ] {
        assert_eq!(errors(text), [expected], "{text}");
    }
}

#[test]
fn every_bad_value_of_a_project_is_told() {
    for (line, expected) in [
        ("policy: all", "projects[0].policy must be observe or create-only or upsert-only or sync, not `all`"),
        ("owner: a b", "projects[0].owner must be 1 to 63 letters, digits, dots, dashes or underscores"),
        ("firstContact: ask", "projects[0].firstContact must be hold or apply, not `ask`"),
        ("path: ../other", "projects[0].path must be relative to source.path and stay below it, not `../other`"),
        ("path: /etc", "projects[0].path must be relative to source.path and stay below it, not `/etc`"),
        ("path: { a: b }", "projects[0].path must be a directory or a list of directories"),
        ("guards: { maxDeletes: [] }", "projects[0].guards.maxDeletes must be a number, or a map by kind"),
        ("policy: [observe]", "projects[0].policy: invalid type: sequence, expected one value"),
        ("path: []", "projects[0].path must name at least one directory"),
        ("path: [a, a/b]", "projects[0].path names `a` and `a/b`, of which one holds the other"),
        (
            "guards: { maxDeletes: -1 }",
            "projects[0].guards.maxDeletes must be a whole number from 0 to 4294967295, not `-1`",
        ),
        (
            "guards: { maxDeletes: { tenant: 1 } }",
            "projects[0].guards.maxDeletes.tenant is no kind of resource; did you mean `tenants`?",
        ),
        (
            "guards: { maxDeletePercent: 120 }",
            "projects[0].guards.maxDeletePercent must be a whole number from 0 to 100, not `120`",
        ),
        (
            "secrets: { env: ['A{'] }",
            "projects[0].secrets.env[0] must be a glob: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
        ),
        ("secrets: { dir: x, shared: maybe }", "projects[0].secrets.shared must be true or false, not `maybe`"),
        (
            "secrets: { shared: true }",
            "projects[0].secrets.shared needs projects[0].secrets.dir, the directory of the volume that all replicas mount",
        ),
        ("drift: { mode: fix }", "projects[0].drift.mode must be heal or report, not `fix`"),
        (
            "drift: { minAge: soon }",
            "projects[0].drift.minAge must be a duration such as 500ms, 5m, 1h30m or 90d, not `soon`",
        ),
        ("drift: { flow: { mode: report } }", "projects[0].drift.flow is no kind of resource; did you mean `flows`?"),
        ("drift: { flows: { mode: fix } }", "projects[0].drift.flows.mode must be heal or report, not `fix`"),
        (
            "drift: { mode: heal, flows: { mode: report } }",
            "projects[0].drift must be one rule { mode, minAge } for all kinds, or rules by kind, not both",
        ),
        ("drift: { mode: heal, mode: report }", "projects[0].drift.mode is written twice"),
        (
            "drift: { minage: 1s }",
            "projects[0].drift.minage: invalid type: string, expected a map such as { mode: heal, minAge: 0s }",
        ),
        (
            "drift: heal",
            "projects[0].drift: invalid type: string, expected a map such as { mode: heal, minAge: 0s }, or such maps by kind",
        ),
        ("projectId: { file: x }", "projects[0].projectId must be a value, or { env: NAME }"),
    ] {
        let text = format!("projects:\n  - name: one\n    managementKey: {{ env: KEY }}\n    {line}\n");
        let text = if line.starts_with("projectId") { text } else { text + "    projectId: P2abc\n" };
        assert_eq!(errors(&text), [format!("FILE:4: {expected}")], "{line}");
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let text = "source: { interval: never }\nprojects:\n  - policy: all\nlog: { format: xml }\n";

    assert_eq!(
        errors(text),
        [
            "FILE:1: source.interval must be a duration such as 500ms, 5m, 1h30m or 90d, not `never`",
            "FILE:3: projects[0].name is missing",
            "FILE:3: projects[0].projectId is missing",
            "FILE:3: projects[0].managementKey is missing; write { env: NAME } or { file: PATH }",
            "FILE:3: projects[0].policy must be observe or create-only or upsert-only or sync, not `all`",
            "FILE:4: log.format must be auto or json or pretty, not `xml`",
        ]
    );
}

#[test]
fn a_secret_written_out_is_an_error_that_does_not_repeat_it() {
    let remedy = "must be { env: NAME } or { file: PATH }; a secret is never written into the config";
    for value in [
        KEY.to_owned(),
        format!("\"{KEY}\""),
        format!("[{KEY}]"),
        format!("{{ {KEY} }}"),
        format!("{{ value: {KEY} }}"),
        format!("{{ env: [{KEY}] }}"),
        format!("{{ env: A, file: {KEY} }}"),
    ] {
        let text = format!(
            "projects:\n  - name: a\n    projectId: P2abc\n    managementKey: {value}\nhttp:\n  token: {value}\n"
        );

        let errors = errors(&text);

        assert_eq!(
            errors,
            [format!("FILE:6: http.token {remedy}"), format!("FILE:4: projects[0].managementKey {remedy}")],
            "{value}"
        );
    }
}

#[test]
fn a_secret_in_place_of_a_variable_name_is_not_repeated_either() {
    let text = ONE.replace("env: KEY", &format!("env: {KEY}"));

    assert_eq!(
        start_errors(&text, &[]),
        ["FILE:4: the variable that it names is not set; it holds the management key of project production"]
    );
    let text = ONE.replace("env: KEY", &format!("env: {KEY}=="));
    assert_eq!(
        errors(&text),
        ["FILE:4: projects[0].managementKey.env must be the name of a variable: letters, digits and underscores"]
    );
}

#[test]
fn guards_are_a_map_by_kind_or_one_number_for_all() {
    let guards = |text: &str| loaded(&format!("{ONE}    guards: {text}\n")).projects[0].guards.clone();
    let kinds = |counts: &[(&str, u32)]| counts.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect::<BTreeMap<_, _>>();

    let default = guards("");
    assert_eq!(default.max_deletes, 10);
    assert_eq!(default.max_deletes_by_kind, kinds(&NEVER_DELETED.map(|kind| (kind, 0))));
    assert_eq!((default.max_missing, default.max_missing_percent), (10, Some(20)));
    assert!(default.max_missing_by_kind.is_empty(), "what guards deletes is no word on lists");
    let one = guards("{ maxDeletes: 3 }");
    assert_eq!((one.max_deletes, one.max_deletes_by_kind), (3, kinds(&[])));
    let map = guards("{ maxDeletes: { default: 5, roles: 7, tenants: 1 } }");
    assert_eq!(map.max_deletes, 5);
    let mut by_kind = kinds(&NEVER_DELETED.map(|kind| (kind, 0)));
    by_kind.extend(kinds(&[("roles", 7), ("tenants", 1)]));
    assert_eq!(map.max_deletes_by_kind, by_kind);
    let missing = guards("{ maxMissing: { default: 3, tenants: 1, percent: off } }");
    assert_eq!((missing.max_missing, missing.max_missing_percent), (3, None));
    assert_eq!(missing.max_missing_by_kind, kinds(&[("tenants", 1)]));
    assert_eq!(guards("{ maxMissing: 4 }").max_missing, 4);
    assert_eq!(guards("{ maxDeletePercent: off }").max_delete_percent, None);
    assert_eq!(guards("{ maxDeletePercent: null }").max_delete_percent, None);
    assert_eq!(guards("{ maxChangePercent: 50 }").max_change_percent, Some(50));
    assert_eq!(guards("{ deleteAfter: 0s }").delete_after, Duration::ZERO);
}

#[test]
fn no_limit_is_not_the_same_as_no_word_about_it() {
    assert_eq!(loaded("rateLimit: { limit: null }\n").rate_limit.limit, None);
    assert_eq!(loaded("rateLimit: {}\n").rate_limit.limit, Some(RATE_LIMIT));
    assert_eq!(loaded("rateLimit: { limit: 40/4s }\n").rate_limit.limit, Some((40.0, Duration::from_secs(4))));
    assert!((loaded("rateLimit: { reserve: 0% }\n").rate_limit.reserve).abs() < f64::EPSILON);
}

#[test]
fn a_flag_comes_before_the_file_and_the_file_before_the_default() {
    let text = "source: { path: /file }\nstate: { path: /file }\nhttp: { listen: '127.0.0.1:1' }\nlog: { format: pretty, level: warn }\n";
    let flag = |text: &str| Some(text.to_owned());
    let flags = Overrides {
        config: None,
        source: flag("/flag"),
        listen: flag("localhost:2"),
        state: flag("/flag"),
        log_format: flag("json"),
        log_level: flag("info,hyper=debug"),
    };
    let said = |config: &Config| {
        let StateAt::Directory(state) = config.state.clone() else { panic!("a directory") };
        let source = config.source.path.clone();
        format!("{source:?} {state:?} {} {:?} {}", config.http.listen, config.log.format, config.log.level)
    };

    assert_eq!(said(&load(text, &flags).unwrap()), r#""/flag" "/flag" 127.0.0.1:2 Json info,hyper=debug"#);
    assert_eq!(said(&loaded(text)), r#""/file" "/file" 127.0.0.1:1 Pretty warn"#);
    assert_eq!(said(&loaded("")), r#""/config" "./state" 0.0.0.0:8080 Auto info"#);
    let empty = Overrides { source: flag(""), listen: flag(""), log_level: flag(""), ..Overrides::default() };
    assert_eq!(said(&load(text, &empty).unwrap()), r#""/file" "/file" 127.0.0.1:1 Pretty warn"#);
    let wrong = Overrides { listen: flag("8080"), ..Overrides::default() };
    assert_eq!(
        load(text, &wrong).unwrap_err(),
        ["--listen (or DESCOPE_GITOPS_LISTEN) must be ADDRESS:PORT such as 0.0.0.0:8080, not `8080`"]
    );
}

#[test]
fn without_projects_the_official_variables_make_one() {
    let overrides = Overrides { source: Some("/repo".to_owned()), ..Overrides::default() };
    let config = Config::load(&overrides).unwrap();
    let connect = |variables: &[(&str, &str)]| {
        let env = env_of(variables);
        let found = config.connections(&env).map_err(|invalid| worded(&invalid, "FILE"))?;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].management_key.read().unwrap().expose_secret(), KEY);
        Ok::<_, Vec<String>>(format!("{} {}", found[0].project_id, found[0].base_url))
    };
    let (id, key) = (("DESCOPE_PROJECT_ID", "P2abc"), ("DESCOPE_MANAGEMENT_KEY", KEY));

    assert_eq!(connect(&[id, key]), Ok("P2abc https://api.descope.com/".to_owned()));
    for name in ["DESCOPE_BASE_URL", "DESCOPE_BASE_URI"] {
        assert_eq!(connect(&[id, key, (name, "http://127.0.0.1:9/")]), Ok("P2abc http://127.0.0.1:9/".to_owned()));
    }
    let both = [id, key, ("DESCOPE_BASE_URL", "https://a.example"), ("DESCOPE_BASE_URI", "https://a.example/")];
    assert_eq!(connect(&both), Ok("P2abc https://a.example/".to_owned()));
    let differ = [id, key, ("DESCOPE_BASE_URL", "https://a.example"), ("DESCOPE_BASE_URI", "https://b.example")];
    assert_eq!(
        connect(&differ),
        Err(vec!["DESCOPE_BASE_URL and DESCOPE_BASE_URI are both set and differ; keep one".to_owned()])
    );
    assert_eq!(
        connect(&[("DESCOPE_PROJECT_ID", "")]),
        Err(vec![
            "DESCOPE_PROJECT_ID is not set; it holds the id of project default".to_owned(),
            "DESCOPE_MANAGEMENT_KEY is not set; it holds the management key of project default".to_owned(),
        ])
    );
}

#[test]
fn without_a_file_and_a_source_there_are_no_settings() {
    let invalid = Config::load(&Overrides::default()).unwrap_err();

    assert!(invalid.to_string().starts_with("no settings: give --config FILE"), "{invalid}");
    let missing = Overrides { config: Some("/nowhere/x.yaml".to_owned()), ..Overrides::default() };
    assert_eq!(
        Config::load(&missing).unwrap_err().to_string(),
        "/nowhere/x.yaml: cannot read it: No such file or directory (os error 2)"
    );
}

#[test]
fn with_projects_an_official_variable_that_nothing_names_stops_the_start() {
    for (name, field) in
        [("DESCOPE_PROJECT_ID", "projectId"), ("DESCOPE_BASE_URL", "baseUrl"), ("DESCOPE_BASE_URI", "baseUrl")]
    {
        assert_eq!(
            start_errors(ONE, &[("KEY", KEY), (name, "https://elsewhere.example")]),
            [format!("FILE:1: {name} is set, but no project names it; unset it, or write {field}: {{ env: {name} }}")]
        );
    }
    let named = ONE.to_owned() + "    baseUrl: { env: DESCOPE_BASE_URL }\n";
    let env = [("KEY", KEY), ("DESCOPE_BASE_URL", "https://eu.example/descope/")];
    let connections = loaded(&named).connections(&env_of(&env)).unwrap();
    assert_eq!(connections[0].base_url.as_str(), "https://eu.example/descope");
    assert_eq!(
        start_errors(&named, &[("KEY", KEY)]),
        ["FILE:5: DESCOPE_BASE_URL is not set; it holds the base URL of project production"]
    );
}

#[test]
fn a_base_url_to_which_a_key_must_not_go_is_refused_and_not_repeated() {
    for (url, what) in [
        ("https://user:hunter2@api.example", "must not hold a user or password"),
        ("https://api.example/?a=hunter2", "must not hold a query or fragment"),
        ("https://api.example/#hunter2", "must not hold a query or fragment"),
        ("http://api.example", "must be https, or http to this machine: the management key would travel in the clear"),
        ("http://10.0.0.1", "must be https, or http to this machine: the management key would travel in the clear"),
        (
            "http://127.0.0.1.evil.example",
            "must be https, or http to this machine: the management key would travel in the clear",
        ),
        ("ftp://localhost", "must be https, or http to this machine: the management key would travel in the clear"),
        ("api.example", "must be a URL such as https://api.descope.com"),
        ("mailto:a@b.example", "must name a host"),
    ] {
        let text = format!("{ONE}    baseUrl: \"{url}\"\n");

        assert_eq!(start_errors(&text, &[("KEY", KEY)]), [format!("FILE:5: projects[0].baseUrl {what}")], "{url}");
    }
    for url in ["http://localhost:1", "http://127.1.2.3", "http://[::1]:8", "https://auth.customer.example"] {
        let config = loaded(&format!("{ONE}    baseUrl: \"{url}\"\n"));

        assert!(config.connections(&env_of(&[("KEY", KEY)])).is_ok(), "{url}");
    }
}

#[test]
fn the_base_url_follows_from_the_project_id() {
    for (id, url) in [
        ("P2abcdefghijklmnopqrstuvwxy", Some("https://api.descope.com")),
        ("Puse1abcdefghijklmnopqrstuvwxyz0", Some("https://api.use1.descope.com")),
        ("Peuc1abcdefghijklmnopqrstuvwxyz012", Some("https://api.euc1.descope.com")),
        ("P-a_babcdefghijklmnopqrstuvwxyz0", Some("https://api.descope.com")),
        ("P/.x.evil.example/abcdefghijklmnopqrs", None),
        ("", None),
    ] {
        assert_eq!(base_url(id).as_deref(), url, "{id}");
    }
    let text = ONE.replace("P2abc", "../x");
    assert_eq!(
        start_errors(&text, &[("KEY", KEY)]),
        [
            "FILE:3: projects[0].projectId must be letters, digits, dashes and underscores, such as P2abcdefghijklmnopqrstuvwxyz"
        ]
    );
}

const TWO: &str = "projects:
  - { name: a, path: a, projectId: P2abc, managementKey: { env: KEY } }
  - { name: b, path: b, projectId: P2abc, managementKey: { env: KEY } }
";

#[test]
fn one_project_claimed_twice_stops_the_start() {
    assert_eq!(
        start_errors(TWO, &[("KEY", KEY)]),
        [
            "FILE:3: projects[1].projectId is also that of project a, with the same owner `default`; two projects of this \
          config would undo each other's changes"
        ]
    );
    let owners = TWO.replace("name: b", "name: b, owner: team-b");
    assert!(loaded(&owners).connections(&env_of(&[("KEY", KEY)])).is_ok());
    let hosts = TWO.replace("name: b", "name: b, baseUrl: 'https://b.example'");
    assert!(loaded(&hosts).connections(&env_of(&[("KEY", KEY)])).is_ok());
}

#[test]
fn two_projects_of_one_name_or_with_overlapping_directories_are_refused() {
    assert_eq!(
        errors(&TWO.replace("name: b", "name: a")),
        ["FILE:3: projects[1].name `a` is taken by another project"]
    );
    for (path, other) in [("a", "a"), ("a/b", "a/b"), (".", "."), ("./a/", "a"), ("[c, a/x]", "a/x")] {
        let text = TWO.replace("path: b", &format!("path: {path}"));

        assert_eq!(
            errors(&text),
            [format!(
                "FILE:3: projects[1].path `{other}` overlaps `a` of project a; give each project directories of its own"
            )]
        );
    }
    assert_eq!(loaded(&TWO.replace("path: b", "path: ab")).projects.len(), 2);
}

#[test]
fn a_config_file_below_the_repo_stops_the_start_also_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("repo");
    std::fs::create_dir(&repo).unwrap();
    let (file, link) = (repo.join("settings.yaml"), dir.path().join("settings.yaml"));
    std::fs::write(&file, ONE.to_owned() + &format!("source: {{ path: {} }}\n", repo.display())).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    // Whoever may commit there could lead it elsewhere.
    let (elsewhere, through) = (dir.path().join("elsewhere.yaml"), repo.join("link.yaml"));
    std::fs::copy(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &through).unwrap();
    let (folder, twice) = (repo.join("folder"), dir.path().join("twice"));
    std::os::unix::fs::symlink(dir.path(), &folder).unwrap();
    std::os::unix::fs::symlink("repo/folder", &twice).unwrap();
    for path in [&file, &link, &through, &folder.join("elsewhere.yaml"), &twice.join("elsewhere.yaml")] {
        let overrides = Overrides { config: Some(path.to_str().unwrap().to_owned()), ..Overrides::default() };
        let config = Config::load(&overrides).unwrap();

        let invalid = config.connections(&env_of(&[("KEY", KEY)])).unwrap_err();

        assert!(invalid.to_string().contains("the config file must not lie below source.path"), "{invalid}");
    }
}

#[test]
fn a_management_key_comes_from_a_file_that_exists() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let text = ONE.replace("env: KEY", &format!("file: {}", path.display()));
    assert_eq!(
        start_errors(&text, &[]),
        [format!(
            "FILE:4: projects[0].managementKey: cannot read {}: No such file or directory (os error 2)",
            path.display()
        )]
    );
    std::fs::write(&path, format!("{KEY}\n")).unwrap();

    let connections = loaded(&text).connections(&|_| None).unwrap();

    assert_eq!(connections[0].management_key.read().unwrap().expose_secret(), KEY);
    assert_eq!(loaded(&text).own_credentials().files, BTreeSet::from([path]));
}

#[test]
fn the_daemons_own_variables_are_known_to_the_fence() {
    let own = loaded(&(ONE.to_owned() + "http: { token: { env: PAGE_TOKEN } }\n")).own_credentials();

    let names: Vec<&str> = own.variables.iter().map(String::as_str).collect();
    assert_eq!(names, ["DESCOPE_GITOPS_TOKEN", "DESCOPE_MANAGEMENT_KEY", "KEY", "PAGE_TOKEN"]);
}

#[test]
fn the_token_is_optional_unless_its_file_is_missing() {
    let token = |text: &str, variables: &[(&str, &str)]| loaded(text).token(&env_of(variables));

    assert!(token("", &[]).unwrap().is_none());
    assert!(token("", &[("DESCOPE_GITOPS_TOKEN", "")]).unwrap().is_none());
    assert_eq!(token("", &[("DESCOPE_GITOPS_TOKEN", "t")]).unwrap().unwrap().expose_secret(), "t");
    let invalid = token("http:\n  token: { file: /nowhere/token }\n", &[]).unwrap_err().to_string();
    assert!(invalid.ends_with(":2: http.token: cannot read /nowhere/token: No such file or directory (os error 2)"));
}

#[test]
fn no_debug_output_shows_a_key() {
    let config = loaded(ONE);
    let connections = config.connections(&env_of(&[("KEY", KEY)])).unwrap();

    assert!(!format!("{config:?} {connections:?}").contains(KEY));
}

#[test]
fn replicas_share_one_address_unless_they_say_otherwise_and_one_process_shares_nothing() {
    let database = "state: { url: { env: A }, fingerprintKey: { env: B } }\n";
    let egress = |text: &str| loaded(text).rate_limit.egress;

    assert_eq!(egress(""), None);
    assert_eq!(egress(database).as_deref(), Some("default"));
    assert_eq!(egress(&format!("{database}rateLimit: {{ egress: office-1 }}\n")).as_deref(), Some("office-1"));
}
