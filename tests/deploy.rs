//! What Dockerfile and deploy/ name (commands, flags, variables, ports, paths, metrics) exists in the binary, and the
//! files agree with one another.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

use serde::Deserialize;
use serde_yaml::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

const PROGRAM: &str = "/usr/local/bin/descope-gitops";
/// Where the daemon listens; ports in front of it may differ.
const PORT: u64 = 8080;

/// The real binary, without the settings of whoever runs the tests.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_descope-gitops"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DESCOPE_")) {
        command.env_remove(name);
    }
    command
}

fn descope_gitops(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// The documents of a YAML file.
fn documents(path: &str) -> Vec<Value> {
    let text = read(path);
    let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    documents.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The only document of a YAML file.
fn document(path: &str) -> Value {
    let mut documents = documents(path);
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}

/// Every file below the folder, hidden ones included.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_str().unwrap().to_owned();
        if path.is_dir() { found.extend(files(&name)) } else { found.push(name) }
    }
    found
}

/// Everything that packages the daemon, in one text.
fn packaging() -> String {
    let paths = [files("deploy"), vec!["Dockerfile".to_owned()]].concat();
    paths.iter().map(read).collect()
}

/// All of src/ in one text: a string that is quoted there is one the binary knows.
fn source() -> String {
    [files("src"), vec!["build.rs".to_owned()]].concat().iter().map(read).collect()
}

/// The words of the text that begin with the prefix and go on with such characters.
fn words<'a>(text: &'a str, prefix: &str, goes_on: fn(char) -> bool) -> BTreeSet<&'a str> {
    let starts = text.match_indices(prefix).filter(|(at, _)| !text[..*at].ends_with(goes_on));
    starts.map(|(at, _)| text[at..].split(|c| !goes_on(c)).next().unwrap()).collect()
}

/// A list of strings, such as `args`.
fn strings(list: &Value) -> Vec<String> {
    list.as_sequence().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// What stands behind the key on the first line that begins with it.
fn setting<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|line| line.trim_start().strip_prefix(key)).unwrap_or_else(|| panic!("no {key}")).trim()
}

fn seconds(duration: &str) -> u64 {
    duration.strip_suffix('s').unwrap().parse().unwrap()
}

fn deployment() -> Value {
    document("deploy/kubernetes/deployment.yaml")
}

/// The container of this name in the Deployment.
fn container(name: &str) -> Value {
    let deployment = deployment();
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_sequence().unwrap();
    containers.iter().find(|container| container["name"] == name).unwrap().clone()
}

fn compose_service(name: &str) -> Value {
    document("deploy/compose/docker-compose.yaml")["services"][name].clone()
}

/// Each call of the binary that the packaging makes or advises: `["run"]`, `["validate", "--source", "/config"]`.
fn calls() -> Vec<Vec<String>> {
    let split = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let dockerfile = read("Dockerfile");
    let exec = |key| {
        let lines = dockerfile.lines().filter_map(move |line| line.trim_start().strip_prefix(key));
        lines.map(|json| serde_json::from_str::<Vec<String>>(json).unwrap())
    };
    let unit = read("deploy/systemd/descope-gitops.service");

    let mut calls: Vec<_> = exec("CMD ").chain(exec("ENTRYPOINT ")).collect();
    calls.push(split(setting(&unit, "ExecStart=")));
    for call in &mut calls {
        call.retain(|word| word != PROGRAM);
    }
    calls.retain(|call| !call.is_empty());
    calls.push(strings(&container("descope-gitops")["args"]));
    calls.push(strings(&compose_service("descope-gitops")["command"]));
    for line in (packaging() + &read("config/sample/README.md")).lines() {
        let advised = line.split("`descope-gitops ").nth(1).or_else(|| line.strip_prefix("    descope-gitops "));
        let in_docker = line
            .split(" descope-gitops ")
            .nth(1)
            .filter(|_| line.trim_start().starts_with("docker ") && line.contains(" run "));
        calls.extend(advised.or(in_docker).map(|call| split(call.split('`').next().unwrap())));
    }
    calls
}

#[test]
fn every_command_and_flag_exists() {
    let calls = calls();

    assert!(calls.len() > 8, "{calls:?}");
    for call in calls {
        let help = descope_gitops(&[&call[0], "--help"]);
        assert!(help.status.success(), "{call:?}: {help:?}");
        let help = String::from_utf8(help.stdout).unwrap();
        for flag in call.iter().filter(|word| word.starts_with('-')) {
            let flag = flag.split('=').next().unwrap();
            assert!(words(&help, "--", |c| c.is_alphanumeric() || c == '-').contains(flag), "{call:?}: {help}");
        }
    }
}

#[test]
fn every_environment_variable_exists() {
    let name = |c: char| c.is_ascii_uppercase() || c == '_';
    let (packaging, source) = (packaging(), source());
    let help = String::from_utf8(descope_gitops(&["run", "--help"]).stdout).unwrap();

    let used = words(&packaging, "DESCOPE_", name);

    assert!(used.contains("DESCOPE_GITOPS_CONFIG") && used.contains("DESCOPE_MANAGEMENT_KEY"), "{used:?}");
    for variable in used {
        assert!(source.contains(&format!("\"{variable}\"")), "{variable}");
        // The token has no flag, and the revision is built in.
        let has_a_flag = variable.starts_with("DESCOPE_GITOPS_")
            && !["DESCOPE_GITOPS_TOKEN", "DESCOPE_GITOPS_REVISION"].contains(&variable);
        assert!(!has_a_flag || help.contains(variable), "{variable}: {help}");
    }
}

/// Status of the answer to a GET; 0 while nobody listens.
async fn get(address: SocketAddr, path: &str) -> u16 {
    let Ok(mut stream) = TcpStream::connect(address).await else { return 0 };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // A stream of events has no end.
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).await.unwrap();
    status.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Ends the process however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("a daemon may be left: {error}");
        }
    }
}

#[tokio::test]
async fn every_path_is_served() {
    let packaging = packaging();
    let path = |c: char| c.is_ascii_alphanumeric() || "/-".contains(c);
    let used: BTreeSet<&str> = ["/livez", "/readyz", "/healthz", "/metrics", "/api/v1/"]
        .iter()
        .flat_map(|known| words(&packaging, known, path))
        .collect();
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let state = tempfile::tempdir().unwrap();
    let daemon = command()
        .args(["run", "--source", "config/sample", "--listen", &address.to_string(), "--state"])
        .arg(state.path())
        .env("DESCOPE_PROJECT_ID", "P2exampleProjectId0000000000")
        .env("DESCOPE_MANAGEMENT_KEY", "K2example")
        .env("DESCOPE_BASE_URL", format!("http://{address}")) // not a Descope; nothing is sent elsewhere
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut daemon = Running(daemon.unwrap());
    let listens = async {
        while get(address, "/livez").await == 0 && daemon.0.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), listens).await.unwrap();

    let mut unknown = Vec::new();
    for path in &used {
        if [0, 404].contains(&get(address, path).await) {
            unknown.push(*path);
        }
    }

    assert!(used.len() >= 6, "{used:?}");
    assert_eq!(unknown, Vec::<&str>::new());
}

#[test]
fn every_metric_exists() {
    let name = |c: char| c.is_ascii_lowercase() || c == '_';
    let (packaging, source) = (packaging(), source());

    let used = words(&packaging, "descope_gitops_", name);

    assert!(used.len() >= 8, "{used:?}");
    for metric in used {
        let own = metric.strip_prefix("descope_gitops_").unwrap();
        let known =
            |name: &str| ["", "descope_gitops_"].iter().any(|prefix| source.contains(&format!("\"{prefix}{name}\"")));
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| own.strip_suffix(part));
        assert!(known(own) || histogram.is_some_and(known), "{metric}");
    }
}

#[test]
fn probes_ask_for_what_the_daemon_has_for_them() {
    let daemon = container("descope-gitops");

    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(
            (&daemon[probe]["httpGet"]["path"], &daemon[probe]["httpGet"]["port"]),
            (&path.into(), &"http".into())
        );
    }
}

#[test]
fn every_port_is_the_one_the_daemon_listens_on() {
    let config = document("deploy/kubernetes/descope-gitops.yaml");
    let ports = &container("descope-gitops")["ports"];
    let compose = compose_service("descope-gitops");
    let scrape = document("deploy/prometheus/prometheus.yaml");
    let annotations = &deployment()["spec"]["template"]["metadata"]["annotations"];

    assert_eq!(config["http"]["listen"], format!("0.0.0.0:{PORT}"));
    assert_eq!((&ports[0]["name"], &ports[0]["containerPort"]), (&"http".into(), &PORT.into()));
    assert_eq!(document("deploy/kubernetes/service.yaml")["spec"]["ports"][0]["targetPort"], "http");
    assert_eq!(annotations["prometheus.io/port"], PORT.to_string());
    assert_eq!(setting(&read("Dockerfile"), "EXPOSE"), PORT.to_string());
    assert_eq!(compose["environment"]["DESCOPE_GITOPS_LISTEN"], format!("0.0.0.0:{PORT}"));
    assert!(strings(&compose["ports"]).iter().all(|port| port.ends_with(&format!(":{PORT}"))));
    assert_eq!(scrape["scrape_configs"][0]["static_configs"][0]["targets"][0], format!("descope-gitops:{PORT}"));
}

#[test]
fn the_daemon_reads_the_settings_shipped() {
    for config in [
        "deploy/kubernetes/descope-gitops.yaml",
        "deploy/kubernetes/postgresql/descope-gitops.yaml",
        "deploy/systemd/descope-gitops.yaml",
    ] {
        let output = descope_gitops(&["validate", "--config", config, "--source", "config/sample"]);

        assert!(output.status.success(), "{config}: {output:?}");
    }
    // The project of this one comes from the environment.
    let arguments = ["validate", "--config", "deploy/compose/descope-gitops.yaml", "--source", "config/sample"];
    let environment = [("DESCOPE_PROJECT_ID", "P2example"), ("DESCOPE_MANAGEMENT_KEY", "K2example")];
    let output = command().args(arguments).envs(environment).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn stopping_takes_longer_than_a_request() {
    let request = seconds(document("deploy/kubernetes/descope-gitops.yaml")["requestTimeout"].as_str().unwrap());
    let pod = deployment()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    let compose = seconds(compose_service("descope-gitops")["stop_grace_period"].as_str().unwrap());
    let unit = seconds(setting(&read("deploy/systemd/descope-gitops.service"), "TimeoutStopSec="));

    assert!(request < pod && request < compose && request < unit, "{request}: {pod}, {compose}, {unit}");
}

/// With an arena for each thread, memory grew with each edit of a large repo.
#[test]
fn threads_share_one_pool_of_memory_wherever_it_runs() {
    let variables = container("descope-gitops")["env"].clone();
    let pod = variables.as_sequence().unwrap().iter().find(|variable| variable["name"] == "MALLOC_ARENA_MAX").unwrap();

    assert_eq!(pod["value"], "1");
    assert_eq!(compose_service("descope-gitops")["environment"]["MALLOC_ARENA_MAX"], "1");
    assert_eq!(setting(&read("Dockerfile"), "ENV MALLOC_ARENA_MAX="), "1");
    assert_eq!(setting(&read("deploy/systemd/descope-gitops.service"), "Environment=MALLOC_ARENA_MAX="), "1");
}

#[test]
fn one_daemon_writes_one_state() {
    let deployment = deployment();
    let state = "/var/lib/descope-gitops";
    let dockerfile = read("Dockerfile");
    let mounts = container("descope-gitops")["volumeMounts"].clone();
    let writable: Vec<&Value> =
        mounts.as_sequence().unwrap().iter().filter(|mount| mount["readOnly"] != true).collect();

    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["spec"]["strategy"]["type"]),
        (&1.into(), &"Recreate".into())
    );
    assert_eq!((setting(&dockerfile, "VOLUME"), setting(&dockerfile, "WORKDIR /var").len()), (state, 19));
    assert_eq!((writable.len(), &writable[0]["mountPath"]), (1, &state.into()));
    assert_eq!(document("deploy/kubernetes/descope-gitops.yaml")["state"]["path"], state);
    assert_eq!(document("deploy/systemd/descope-gitops.yaml")["state"]["path"], state);
    assert_eq!(compose_service("descope-gitops")["environment"]["DESCOPE_GITOPS_STATE"], state);
    assert_eq!(setting(&read("deploy/systemd/descope-gitops.service"), "StateDirectory="), "descope-gitops");
}

/// Only where the state is makes a difference.
#[test]
fn replicas_are_like_the_one_but_for_the_state() {
    let file = document("deploy/compose/replicas.yaml");
    let (one, replica) = (compose_service("descope-gitops"), &file["services"]["descope-gitops"]);
    let config = document("deploy/compose/descope-gitops.yaml");
    let example = read("deploy/compose/.env.example");
    let (alone, together) =
        (document("deploy/prometheus/prometheus.yaml"), document("deploy/prometheus/replicas.yaml"));

    assert_eq!(replica["deploy"]["replicas"], 2);
    for same in ["build", "image", "command", "read_only", "cap_drop", "security_opt", "stop_grace_period", "restart"] {
        assert_eq!(replica[same], one[same], "{same}");
    }
    for (name, value) in one["environment"].as_mapping().unwrap() {
        let there = match name.as_str().unwrap() {
            "DESCOPE_GITOPS_STATE" => continue,
            "DESCOPE_GITOPS_SOURCE" => &config["source"]["path"],
            "DESCOPE_GITOPS_LISTEN" => &config["http"]["listen"],
            name => &replica["environment"][name],
        };
        assert_eq!(there, value, "{name:?}");
    }
    for secret in ["url", "fingerprintKey"] {
        assert!(replica["environment"][config["state"][secret]["env"].as_str().unwrap()].is_string(), "{secret}");
    }
    for variable in read("deploy/compose/replicas.yaml").split("${").skip(1) {
        let name = variable.split(':').next().unwrap();
        assert!(example.lines().any(|line| line.strip_prefix(name) == Some("=")), "{name}");
    }
    assert_eq!(file["services"]["prometheus"]["command"][0], "--config.file=/etc/prometheus/replicas.yaml");
    assert_eq!(together["rule_files"], alone["rule_files"]);
    assert_eq!(together["scrape_configs"][1], alone["scrape_configs"][1]);
    assert_eq!(together["scrape_configs"][0]["job_name"], alone["scrape_configs"][0]["job_name"]);
    assert_eq!(together["scrape_configs"][0]["dns_sd_configs"][0]["port"], PORT);

    let mut pair = document("deploy/kubernetes/postgresql/descope-gitops.yaml");
    let base = document("deploy/kubernetes/descope-gitops.yaml");
    pair["state"] = base["state"].clone();
    assert_eq!(pair, base);
}

#[test]
fn nothing_runs_as_root_or_writes_where_it_should_not() {
    let pod = deployment()["spec"]["template"]["spec"].clone();
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    for (name, user) in [("descope-gitops", 65532), ("git-sync", 65533)] {
        let context = container(name)["securityContext"].clone();
        assert_eq!(context["runAsUser"], user);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(strings(&context["capabilities"]["drop"]), ["ALL"]);
        let service = compose_service(name);
        assert_eq!(service["read_only"], true);
        assert_eq!(strings(&service["cap_drop"]), ["ALL"]);
    }
    let user: Vec<_> =
        read("Dockerfile").lines().filter_map(|line| line.strip_prefix("USER ")).map(str::to_owned).collect();
    assert_eq!(user, ["65532:65532"]);
}

#[test]
fn names_within_the_manifests_agree() {
    let pod = deployment()["spec"]["template"]["spec"].clone();
    let names = |list: &Value| -> BTreeSet<String> {
        list.as_sequence().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let kustomization = document("deploy/kubernetes/kustomization.yaml");
    let volumes = pod["volumes"].clone();
    let volume = |name: &str| volumes.as_sequence().unwrap().iter().find(|volume| volume["name"] == name).unwrap();

    let mounted: BTreeSet<String> =
        ["descope-gitops", "git-sync"].iter().flat_map(|name| names(&container(name)["volumeMounts"])).collect();

    assert_eq!(mounted, names(&volumes));
    assert_eq!(volume("config")["configMap"]["name"], kustomization["configMapGenerator"][0]["name"]);
    assert_eq!(
        volume("state")["persistentVolumeClaim"]["claimName"],
        document("deploy/kubernetes/state.yaml")["metadata"]["name"]
    );
    assert_eq!(container("descope-gitops")["image"], kustomization["images"][0]["name"]);
    for file in
        [&kustomization["resources"], &kustomization["configMapGenerator"][0]["files"]].into_iter().flat_map(strings)
    {
        assert!(Path::new("deploy/kubernetes").join(&file).is_file(), "{file}");
    }
}

/// What carries the state over mounts what the daemon mounts, as the same user, and reads the Secret that the replicas read.
#[test]
fn the_state_is_copied_from_the_claim_of_the_one_to_the_database_of_the_replicas() {
    let pod = document("deploy/kubernetes/state-copy.yaml")["spec"].clone();
    let (deployment, base) = (deployment(), document("deploy/kubernetes/kustomization.yaml"));
    let daemon = container("descope-gitops");
    let named = |list: &Value, name: &str| -> Value {
        list.as_sequence().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
    };
    let of_the_daemon = &deployment["spec"]["template"]["spec"]["volumes"];
    let (state, copy) = (named(&pod["volumes"], "state"), named(&pod["containers"], "copy"));

    assert_eq!(state, named(of_the_daemon, "state"));
    assert_eq!(named(&copy["volumeMounts"], "state"), named(&daemon["volumeMounts"], "state"));
    let image = &base["images"][0];
    assert_eq!(copy["image"], format!("{}:{}", image["newName"].as_str().unwrap(), image["newTag"].as_str().unwrap()));
    for key in ["runAsUser", "runAsGroup"] {
        assert_eq!(pod["securityContext"][key], daemon["securityContext"][key]);
    }
    assert_eq!(pod["securityContext"]["fsGroup"], deployment["spec"]["template"]["spec"]["securityContext"]["fsGroup"]);
    for name in ["copy", "shell"] {
        let context = &named(&pod["containers"], name)["securityContext"];
        assert_eq!(
            (&context["readOnlyRootFilesystem"], &context["allowPrivilegeEscalation"]),
            (&true.into(), &false.into())
        );
    }

    let replicas = documents("deploy/kubernetes/postgresql/deployment.yaml").remove(0);
    let secret = &named(&replicas["spec"]["template"]["spec"]["volumes"], "database")["secret"]["secretName"];
    let config = document("deploy/kubernetes/postgresql/descope-gitops.yaml");
    for (variable, setting) in [("DATABASE_URL", "url"), ("FINGERPRINT_KEY", "fingerprintKey")] {
        let key = &named(&copy["env"], variable)["valueFrom"]["secretKeyRef"];
        assert_eq!(&key["name"], secret);
        let file = config["state"][setting]["file"].as_str().unwrap();
        assert_eq!(file, format!("/run/database/{}", key["key"].as_str().unwrap()));
    }
}

#[test]
fn what_git_sync_publishes_is_what_the_daemon_reads() {
    // As `git-sync --man` of v4 lists them.
    let known = [
        "--repo",
        "--ref",
        "--root",
        "--link",
        "--period",
        "--max-failures",
        "--stale-worktree-timeout",
        "--http-bind",
        "--http-metrics",
    ];
    let sources = [
        (
            container("git-sync")["args"].clone(),
            document("deploy/kubernetes/descope-gitops.yaml")["source"]["path"].clone(),
        ),
        (
            compose_service("git-sync")["command"].clone(),
            compose_service("descope-gitops")["environment"]["DESCOPE_GITOPS_SOURCE"].clone(),
        ),
    ];

    for (arguments, path) in sources {
        let arguments = strings(&arguments);
        let value = |flag: &str| arguments.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('=')).unwrap();
        assert!(arguments.iter().all(|word| known.contains(&word.split('=').next().unwrap())), "{arguments:?}");
        assert_eq!(path, format!("{}/{}", value("--root"), value("--link")));
        assert_eq!(value("--http-bind"), ":9091");
    }
}

#[test]
fn the_image_is_built_from_all_that_the_source_includes() {
    let (dockerfile, ignored) = (read("Dockerfile"), read(".dockerignore"));

    for path in files("src") {
        let text = read(&path);
        for included in text.split("include_").skip(1).filter_map(|rest| rest.split('"').nth(1)) {
            // `../../config/sample/x.yaml` in `src/cli/demo.rs` leaves src for config.
            let up = included.matches("../").count();
            let folder = included.trim_start_matches("../").split('/').next().unwrap();
            let leaves_src = up + 1 == path.split('/').count();
            let copied = dockerfile.contains(&format!("COPY {folder} ")) && ignored.contains(&format!("!{folder}\n"));
            assert!(!leaves_src || copied, "{path} includes {included}");
        }
    }
}

#[test]
fn every_yaml_file_can_be_parsed() {
    let paths: Vec<String> = files("deploy")
        .into_iter()
        .filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "yaml"))
        // Templates are YAML once helm has filled them in: tests/chart.rs.
        .filter(|path| !path.contains("/templates/"))
        .collect();

    assert!(paths.len() > 10, "{paths:?}");
    for path in paths {
        assert!(!documents(&path).is_empty(), "{path}");
    }
}

#[test]
fn every_alert_leads_to_a_section_that_says_what_to_do_and_is_tested() {
    let (runbook, tests) = (read("deploy/runbook.md"), read("deploy/prometheus/alerts.test.yaml"));
    let sections: Vec<&str> = runbook.split("\n## ").skip(1).collect();
    let rules = document("deploy/prometheus/alerts.yaml")["groups"][0]["rules"].as_sequence().unwrap().clone();

    assert_eq!(sections.len(), rules.len());
    for rule in &rules {
        let alert = rule["alert"].as_str().unwrap();
        let anchor = alert.to_lowercase();
        let section = sections.iter().find(|section| section.lines().next() == Some(alert)).unwrap();
        for part in ["**Means:**", "**Look at:**", "**Do:**", "**Test:**"] {
            assert!(section.contains(part), "{alert}: {part}");
        }
        assert_eq!(rule["annotations"]["runbook"], format!("deploy/runbook.md#{anchor}"));
        // Silent, ringing, and silent again.
        let cases: Vec<&str> =
            tests.split("eval_time: ").filter(|case| case.contains(&format!("alertname: {alert}"))).collect();
        let is_silent = |case: &&&str| case.contains("exp_alerts: []");
        assert!(cases.iter().any(|case| is_silent(&case)) && cases.iter().any(|case| !is_silent(&case)), "{alert}");
    }
}
