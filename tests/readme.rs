//! README.md and the pages under docs/ are true: what they name exists in the binary, and every setting is in them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

use clap::CommandFactory;
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

/// What is written by hand for operators, the front page first.
const PAGES: [&str; 8] = [
    "README.md",
    "docs/config.md",
    "docs/files.md",
    "docs/operations.md",
    "docs/operators-story.md",
    "docs/rate-limit.md",
    "docs/comparison.md",
    "docs/leaving.md",
];

fn page(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn readme() -> String {
    PAGES.map(page).join("\n")
}

/// The real binary, without the settings of whoever runs the tests.
fn descope_gitops(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_descope-gitops"));
    command.env_clear().args(args).envs(env.iter().copied());
    command.output().unwrap()
}

/// The blocks between fences with this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines().map(|line| line.strip_prefix("   ").filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
    {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(name) if name == language => {
                open = true;
                found.push(String::new());
            }
            Some(_) | None => {
                if open && let Some(block) = found.last_mut() {
                    block.push_str(line);
                    block.push('\n');
                }
            }
        }
    }
    found
}

/// The words in `code` of the text.
fn code(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).flat_map(|code| code.split([' ', '.', ':', '/', '='])).collect()
}

/// Of the command, and of those below it.
fn help(command: &str) -> String {
    let all = descope_gitops::cli::Cli::command();
    let below = all.find_subcommand(command).into_iter().flat_map(clap::Command::get_subcommands);
    let below = below.map(clap::Command::get_name).filter(|name| *name != "help");
    let calls = std::iter::once(vec![command, "--help"]).chain(below.map(|name| vec![command, name, "--help"]));
    let told = calls.map(|call| {
        let help = descope_gitops(&call, &[]);
        assert!(help.status.success(), "{call:?}: {help:?}");
        String::from_utf8(help.stdout).unwrap()
    });
    told.collect()
}

/// Every command there is.
fn commands() -> Vec<String> {
    let all = descope_gitops::cli::Cli::command();
    all.get_subcommands().map(|command| command.get_name().to_owned()).filter(|name| name != "help").collect()
}

/// Keys of a YAML mapping at any depth.
fn keys(value: &serde_yaml::Value, found: &mut BTreeSet<String>) {
    if let Some(map) = value.as_mapping() {
        for (key, value) in map {
            found.extend(key.as_str().map(str::to_owned));
            keys(value, found);
        }
    }
    for item in value.as_sequence().into_iter().flatten() {
        keys(item, found);
    }
}

#[test]
fn it_opens_with_the_two_commands() {
    let text = readme();

    let first: Vec<&str> = text.lines().filter(|line| line.starts_with("    ")).take(2).map(str::trim).collect();

    assert_eq!(first, ["cargo run --release -- demo", "cargo test"]);
}

#[test]
fn the_front_page_is_short_and_leads_to_every_other() {
    let front = page("README.md");

    assert!(front.lines().count() <= 200, "{}", front.lines().count());
    for path in PAGES.iter().skip(1).chain(&["docs/desired-state.md", "docs/plan.svg", "deploy/ci/README.md"]) {
        assert!(front.contains(&format!("]({path})")), "{path}");
    }
    assert!(fs::metadata("docs/plan.svg").unwrap().len() < 20_000);
}

#[test]
fn every_setting_is_explained() {
    let text = page("docs/config.md");
    let config = fs::read_to_string("config/descope-gitops.yaml").unwrap();
    let mut all = BTreeSet::new();
    keys(&serde_yaml::from_str(&config).unwrap(), &mut all);
    let words = code(&text);

    let missing: Vec<&String> = all.iter().filter(|key| !words.contains(key.as_str())).collect();

    assert!(all.len() > 40, "{all:?}");
    assert_eq!(missing, Vec::<&String>::new());
}

/// The fields stand in docs/desired-state.md, which `tests/reference.rs` holds against the tables.
#[test]
fn every_kind_of_the_desired_state_is_named() {
    let text = page("docs/files.md");
    let words = code(&text);

    assert!(text.contains("(desired-state.md)"));
    for kind in descope_gitops::resource::ALL {
        assert!(words.contains(kind.name()), "{}", kind.name());
    }
}

#[test]
fn every_exit_code_is_explained() {
    let text = page("docs/operations.md");
    let help = help("--help");
    let codes = help.split("Exit codes: ").nth(1).unwrap();

    for code in codes.split(';').filter_map(|part| part.split_whitespace().next()) {
        assert!(text.contains(&format!("{code} ")), "{code}");
    }
}

#[test]
fn every_command_line_is_understood() {
    let text = readme();
    let lines: Vec<String> = blocks(&text, "sh").concat().lines().map(str::to_owned).collect();
    let calls: Vec<Vec<&str>> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("descope-gitops "))
        .map(|call| call.split_whitespace().collect())
        .collect();

    assert!(calls.len() >= 8, "{calls:?}");
    for call in &calls {
        let help = help(call[0]);
        for flag in call.iter().filter(|word| word.starts_with('-')) {
            let is_there = [" ", "\n", ","].iter().any(|end| help.contains(&format!("{flag}{end}")));
            assert!(is_there, "{call:?}: {help}");
        }
    }
    for command in commands() {
        assert!(code(&text).contains(command.as_str()), "{command} is not explained");
    }
}

#[test]
fn every_flag_in_the_text_belongs_to_some_command() {
    let text = readme();
    let helps: String = commands().iter().map(|command| help(command)).collect();
    // Of other programs.
    let others = [
        "--version",
        "--limit-null",
        "--window-factor",
        "--release",
        "--path",
        "--bench",
        "--test",
        "--nocapture",
        "--scenarios",
        "--schemafile",
        "--format",
        "--short",
        "--locked",
        "--remap-path-prefix",
    ];

    let starts =
        text.match_indices("--").filter(|(at, _)| !text[..*at].ends_with(['-', ' ']) || text[..*at].ends_with(' '));
    let flags = starts.map(|(at, _)| text[at..].split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap());
    let unknown: BTreeSet<&str> = flags
        .filter(|flag| flag.len() > 3 && flag.starts_with("--") && !flag.starts_with("---"))
        .filter(|flag| !others.contains(flag) && !helps.contains(*flag))
        .collect();

    assert_eq!(unknown, BTreeSet::new());
}

#[test]
fn every_reason_to_hold_is_explained() {
    let text = readme();
    let words: BTreeSet<&str> = text.split('`').skip(1).step_by(2).collect();

    for hold in descope_gitops::plan::Hold::ALL {
        assert!(words.contains(hold.as_str()), "{}", hold.as_str());
    }
}

#[test]
fn every_metric_exists() {
    let text = readme();
    let source =
        ["src/telemetry/metrics.rs", "src/telemetry/logs.rs"].map(|path| fs::read_to_string(path).unwrap()).concat();

    let names: BTreeSet<&str> = code(&text)
        .into_iter()
        .filter_map(|word| word.strip_prefix("descope_gitops_"))
        .filter(|n| !n.is_empty())
        .collect();

    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let is_there = ["", "descope_gitops_"].iter().any(|prefix| source.contains(&format!("\"{prefix}{name}\"")));
        assert!(is_there, "descope_gitops_{name}");
    }
}

#[test]
fn every_variable_is_known() {
    let text = readme();
    let helps = ["run", "plan"].map(help).concat();
    let source: String = ["src/config.rs", "src/config/connect.rs", "build.rs"]
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();

    let words = code(&text);
    let names: Vec<&&str> = words.iter().filter(|word| word.starts_with("DESCOPE_") && **word != "DESCOPE_").collect();

    assert!(names.len() > 6, "{names:?}");
    for name in names {
        let name = name.trim_end_matches(|c: char| !c.is_ascii_uppercase());
        assert!(helps.contains(name) || source.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// As the pages are shown: what a heading becomes.
fn anchors(text: &str) -> BTreeSet<String> {
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept =
        |title: &str| title.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-').collect::<String>();
    titles.map(|title| kept(&title.to_lowercase()).replace(' ', "-")).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for path in PAGES.iter().chain(&["deploy/ci/README.md", "deploy/README.md", "docs/page.md"]) {
        let text = page(path);
        let folder = Path::new(path).parent().unwrap();
        let links: Vec<&str> = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
        for link in links.into_iter().filter(|link| !link.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { Path::new(path).to_owned() } else { folder.join(file) };
            assert!(target.exists(), "{path}: {link}");
            if let Some(anchor) = anchor {
                assert!(anchors(&page(target.to_str().unwrap())).contains(anchor), "{path}: {link}");
            }
        }
    }
    let front = page("README.md");
    for path in
        ["config/descope-gitops.yaml", "config/sample", "src/lib.rs", "tests/layers.rs", ".ci/run", "Dockerfile"]
    {
        assert!(front.contains(path) && Path::new(path).exists(), "{path}");
    }
}

#[test]
fn the_examples_for_ci_are_yaml_and_call_what_there_is() {
    for path in ["deploy/ci/github.yaml", "deploy/ci/gitlab.yaml"] {
        let text = page(path);
        serde_yaml::from_str::<serde_yaml::Value>(&text).unwrap();
        let calls: Vec<&str> = text.lines().filter_map(|line| line.split("./descope-gitops ").nth(1)).collect();

        assert!(calls.len() >= 3, "{path}: {calls:?}");
        for call in calls {
            let words: Vec<&str> = call.split_whitespace().collect();
            let help = help(words[0]);
            for flag in words.iter().filter(|word| word.starts_with('-') && word.len() > 1) {
                assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{call}");
            }
        }
    }
}

#[test]
fn the_config_in_it_can_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("repo");
    for folder in ["production", "staging", "shared"] {
        fs::create_dir_all(repo.join(folder)).unwrap();
        fs::write(repo.join(folder).join("roles.yaml"), format!("roles:\n  - name: {folder}\n")).unwrap();
    }
    let text = page("docs/config.md");
    let configs = blocks(&text, "yaml");
    assert_eq!(configs.len(), 1);
    let config = dir.path().join("config.yaml");
    fs::write(&config, configs[0].replace("/srv/descope-config", repo.to_str().unwrap())).unwrap();

    let output = descope_gitops(&["validate", "--config", config.to_str().unwrap()], &[]);

    assert!(output.status.success(), "{output:?}");
}

#[test]
fn every_event_in_the_table_of_the_log_is_one_that_the_daemon_logs() {
    fn text_below(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { text_below(&path, text) } else { text.push_str(&fs::read_to_string(path).unwrap()) }
        }
    }
    let (table, mut source) = (fs::read_to_string("docs/logs.md").unwrap(), String::new());
    text_below(Path::new("src"), &mut source);
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")).map(|row| row.split(" | ").next().unwrap());

    let events: Vec<&str> = rows.flat_map(|row| row.trim_matches('`').split("`, `")).collect();

    assert!(events.len() > 15, "{events:?}");
    for event in events {
        assert!(source.contains(&format!("\"{event}")), "{event}");
    }
}

#[test]
fn every_schema_is_listed_with_what_it_is_of() {
    let text = page("docs/operations.md");

    for of in descope_gitops::cli::schema::Of::value_variants().iter().skip(2) {
        let value = of.to_possible_value().unwrap();
        let row = format!("| `{}` | {} |", value.get_name(), value.get_help().unwrap());
        assert!(text.contains(&row), "{row}");
    }
}
