//! The Helm chart, by the real helm: it renders to the same objects as the kustomize base, refuses values that make no
//! sense, and its config is one that the daemon reads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

use serde::Deserialize;
use serde_yaml::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

const CHART: &str = "deploy/helm/descope-gitops";

/// On the path, or where `.ci/run` unpacks it.
fn tool(name: &str) -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-tools/kubernetes").join(name);
    let found = [PathBuf::from(name), unpacked];
    let found = found.into_iter().find(|tool| Command::new(tool).arg("help").output().is_ok());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no {name}");
        eprintln!("skipped: no {name}");
    }
    found
}

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// What helm renders, or what it says instead.
fn helm(values: &[&str]) -> Option<Result<Vec<Value>, String>> {
    let mut command = Command::new(tool("helm")?);
    command.args(["template", "descope-gitops", CHART, "--namespace", "descope-gitops"]);
    for value in values {
        command.args([if value.contains('{') { "--set-json" } else { "--set" }, value]);
    }
    let output = command.output().unwrap();
    Some(if output.status.success() {
        Ok(documents(&String::from_utf8(output.stdout).unwrap()))
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    })
}

/// What kustomize builds from a copy of the base, with these lines more in its kustomization.
fn kustomize(more: &str) -> Option<Vec<Value>> {
    let copy = tempfile::tempdir().unwrap();
    let done = Command::new("cp").args(["-r", "deploy/kubernetes/."]).arg(copy.path()).status().unwrap();
    assert!(done.success());
    let path = copy.path().join("kustomization.yaml");
    fs::write(&path, fs::read_to_string(&path).unwrap() + more).unwrap();
    let output = Command::new(tool("kubectl")?).arg("kustomize").arg(copy.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(documents(&String::from_utf8(output.stdout).unwrap()))
}

/// Lists of a pod whose order means nothing: each by name.
fn by_name(pod: &mut Value) {
    let name = |item: &Value| item["name"].as_str().unwrap().to_owned();
    pod["volumes"].as_sequence_mut().unwrap().sort_by_key(name);
    for container in pod["containers"].as_sequence_mut().unwrap() {
        for list in ["env", "volumeMounts"] {
            container[list].as_sequence_mut().unwrap().sort_by_key(name);
        }
    }
}

/// The objects by kind, without what each tool names in its own way: kustomize puts a digest of the config into the name
/// of its `ConfigMap`, the chart puts one beside the pod; helm makes no namespace of its own, and has to be told that a claim stays.
fn compared(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "Namespace" => continue,
            "ConfigMap" => {
                object["metadata"]["name"] = "descope-gitops".into();
                let config: Value =
                    serde_yaml::from_str(object["data"]["descope-gitops.yaml"].as_str().unwrap()).unwrap();
                object["data"]["descope-gitops.yaml"] = config;
            }
            "PersistentVolumeClaim" => {
                let metadata = object["metadata"].as_mapping_mut().unwrap();
                let annotations = metadata.remove("annotations").unwrap_or_default();
                assert!(annotations.is_null() || annotations["helm.sh/resource-policy"] == "keep", "{annotations:?}");
            }
            "Deployment" => {
                let template = &mut object["spec"]["template"];
                template["metadata"]["annotations"].as_mapping_mut().unwrap().remove("checksum/config");
                by_name(&mut template["spec"]);
                for volume in template["spec"]["volumes"].as_sequence_mut().unwrap() {
                    if volume["name"] == "config" {
                        volume["configMap"]["name"] = "descope-gitops".into();
                    }
                }
            }
            _ => {}
        }
        assert!(found.insert(kind.clone(), object).is_none(), "two of {kind}");
    }
    found
}

/// Something else keeps the checkout.
const VOLUME: [&str; 3] =
    ["source.gitSync.enabled=false", "source.volume.claim=descope-config", "source.volume.path=current"];

/// A database in place of a claim.
const REPLICAS: [&str; 2] = ["replicas=2", "state.postgresql.enabled=true"];

/// Every object that chart and base can render, by the schemas of Kubernetes itself; `.ci/run` unpacks those of an old version
/// and a new one.
#[test]
fn what_is_rendered_is_what_kubernetes_takes() {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-tools/kubernetes-schemas");
    let all = [
        "podDisruptionBudget.enabled=true",
        "extraCa.configMap=ca",
        "secretFiles.claim=shared",
        "image.pullPolicy=Always",
        "priorityClassName=high",
        r#"tolerations=[{"key":"a","operator":"Exists"}]"#,
        r#"env=[{"name":"HTTPS_PROXY","value":"http://proxy.example:3128"}]"#,
    ];
    let volume = [&VOLUME[..], &["state.claim=kept", "networkPolicy.egressPorts[0]=22"]].concat();
    let components = "components: [poddisruptionbudget, extra-ca]\n";
    let (Some(whole), Some(without), Some(base)) = (helm(&all), helm(&volume), kustomize(components)) else { return };
    let pair = "components: [postgresql, secret-files]\n";
    let (Some(replicas), Some(pair)) = (helm(&REPLICAS), kustomize(pair)) else { return };
    let copy = documents(&fs::read_to_string("deploy/kubernetes/state-copy.yaml").unwrap());
    let objects = [whole.unwrap(), without.unwrap(), base, replicas.unwrap(), pair, copy].concat();
    if !schemas.is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no schemas of Kubernetes");
        return eprintln!("skipped: no schemas of Kubernetes");
    }
    let mut kinds = BTreeSet::new();
    for version in fs::read_dir(schemas).unwrap() {
        let folder = version.unwrap().path();
        for object in &objects {
            let (kind, version) = (object["kind"].as_str().unwrap(), object["apiVersion"].as_str().unwrap());
            let name = format!("{kind}-{}.json", version.replace(".k8s.io", "").replace('/', "-")).to_lowercase();
            let schema: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap();
            let validator = jsonschema::options().with_retriever(Files(folder.clone())).build(&schema).unwrap();
            let instance = serde_json::to_value(object).unwrap();
            let wrong: Vec<String> =
                validator.iter_errors(&instance).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(wrong.is_empty(), "{kind} by {}: {wrong:#?}", folder.display());
            kinds.insert(kind.to_owned());
        }
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}

/// The schemas refer to each other by address.
struct Files(PathBuf);

impl jsonschema::Retrieve for Files {
    fn retrieve(
        &self,
        uri: &jsonschema::Uri<String>,
    ) -> Result<serde_json::Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.as_str().rsplit('/').next().unwrap_or_default();
        Ok(serde_json::from_str(&fs::read_to_string(self.0.join(name))?)?)
    }
}

/// What belongs to the operator of Prometheus, by its own types; `.ci/run` fetches the package.
#[test]
fn what_is_rendered_is_what_the_operator_of_prometheus_takes() {
    let enabled = ["podMonitor.enabled=true", "prometheusRule.enabled=true", "podMonitor.labels.release=prometheus"];
    let (Some(chart), Some(base)) = (helm(&enabled), kustomize("components: [podmonitor, prometheusrule]\n")) else {
        return;
    };
    let package = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/ci-tools/prometheus-operator/node_modules/@kubernetes-models/prometheus-operator");
    if !package.is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no models of the operator");
        return eprintln!("skipped: no models of the operator of Prometheus");
    }
    let objects = [chart.unwrap(), base].concat();
    let mut judged: Vec<&Value> =
        objects.iter().filter(|object| object["apiVersion"] == "monitoring.coreos.com/v1").collect();
    assert_eq!(judged.len(), 4);
    let mut broken = judged.iter().map(|object| (*object).clone()).collect::<Vec<_>>();
    for object in &mut broken {
        let place = if object["kind"] == "PodMonitor" { "podMetricsEndpoints" } else { "groups" };
        object["spec"][place][0]["interval"] = "often".into();
    }
    judged.extend(&broken);

    let mut node = Command::new("node")
        .args(["tests/operator.mjs".as_ref(), package.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(node.stdin.take().unwrap(), &judged).unwrap();
    let output = node.wait_with_output().unwrap();
    let wrong: Vec<Option<String>> = serde_json::from_slice(&output.stdout).unwrap();
    let (rendered, broken) = wrong.split_at(4);
    assert!(rendered.iter().all(Option::is_none), "{rendered:#?}");
    assert!(broken.iter().all(|wrong| wrong.as_ref().is_some_and(|wrong| wrong.contains("interval"))), "{broken:#?}");
}

#[test]
fn chart_and_kustomize_base_render_to_the_same_objects() {
    for (values, more, kinds) in [
        (&[][..], "", 5),
        (&["podMonitor.enabled=true"], "components: [podmonitor]\n", 6),
        (&["prometheusRule.enabled=true"], "components: [prometheusrule]\n", 6),
        (&["podDisruptionBudget.enabled=true"], "components: [poddisruptionbudget]\n", 6),
        (&["extraCa.configMap=descope-gitops-ca"], "components: [extra-ca]\n", 5),
        (&VOLUME, "components: [volume]\n", 5),
        (&REPLICAS, "components: [postgresql]\n", 5),
        (&[&REPLICAS[..], &VOLUME].concat(), "components: [postgresql, volume]\n", 5),
        (
            &[&VOLUME[..], &["podMonitor.enabled=true", "extraCa.configMap=descope-gitops-ca"]].concat(),
            "components: [podmonitor, extra-ca, volume]\n",
            6,
        ),
        (&["secretFiles.claim=descope-secrets"], "components: [secret-files]\n", 5),
        (
            &[&REPLICAS[..], &["secretFiles.claim=descope-secrets"]].concat(),
            "components: [postgresql, secret-files]\n",
            5,
        ),
    ] {
        let (Some(chart), Some(base)) = (helm(values), kustomize(more)) else { return };

        let (chart, base) = (compared(chart.unwrap()), compared(base));

        assert_eq!(chart.keys().collect::<Vec<_>>(), base.keys().collect::<Vec<_>>());
        assert_eq!(chart.len(), kinds);
        for (kind, object) in &chart {
            let text = |object: &Value| serde_yaml::to_string(object).unwrap();
            assert_eq!(
                object,
                &base[kind],
                "{kind}: the chart has\n{}\nthe base has\n{}",
                text(object),
                text(&base[kind])
            );
        }
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for (value, named) in [
        ("replicas=2", "state.postgresql.enabled"),
        ("replicas=0", "replicas"),
        (r#"state={"claim":"kept","postgresql":{"enabled":true}}"#, "state.claim"),
        ("state.postgresql.url=postgres://u:p@h/d", "url"),
        ("settings.state.url.env=A", "url"),
        ("image.tags=1", "tags"),
        ("projects[0].managementKey=K2literal", "managementKey"),
        ("projects[0].policy=all", "policy"),
        (r#"projects=[{"name":"a","projectId":"P2a"}]"#, "managementKey"),
        (r#"projects=[{"name":"a","projectId":"P2a","managementKey":{"key":"../other"}}]"#, "key"),
        ("secret.tokenKey=a/b", "tokenKey"),
        (r#"state={"postgresql":{"enabled":true,"urlKey":"a b"}}"#, "urlKey"),
        ("settings.http.listen=1", "http"),
        ("settings.state.path=x", "state"),
        ("settings.source.path=/x", "path"),
        ("source.gitSync.period=soon", "period"),
        ("source.gitSync.enabled=false", "source.volume.claim"),
        ("service.port=0", "port"),
        ("networkPolicy.egressPorts[0]=ssh", "egressPorts"),
    ] {
        let Some(rendered) = helm(&[value]) else { return };

        let said = rendered.unwrap_err();
        assert!(said.contains(named), "{value}: {said}");
        assert!(!said.contains("K2literal"), "{said}");
    }
}

#[test]
fn each_choice_renders_and_the_daemon_reads_its_config() {
    let several = r#"projects=[{"name":"a","projectId":"P2a","path":"tenants","managementKey":{"key":"a"}},
        {"name":"b","projectId":"P2b","path":"roles","managementKey":{"key":"b","secret":"other"},"policy":"sync"}]"#;
    let values = [
        several,
        r#"settings={"source":{"interval":"1m"},"rateLimit":{"limit":"50/60s"}}"#,
        "source.gitSync.enabled=false",
        "source.volume.claim=checkout",
        "source.volume.path=config",
        "state.claim=kept",
        "podMonitor.enabled=true",
        "prometheusRule.enabled=true",
        "podDisruptionBudget.enabled=true",
        "networkPolicy.egressPorts[0]=22",
    ];
    let Some(rendered) = helm(&values) else { return };
    let objects = rendered.unwrap();
    let of = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();

    let config = of("ConfigMap")["data"]["descope-gitops.yaml"].as_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_descope-gitops"));
    command.env_clear().arg("validate").args(["--source", "config/sample", "--config"]).arg(path);
    let output = command.output().unwrap();
    // The roles of the sample refer to permissions of another directory: warnings, and no error.
    assert!(output.status.success(), "{config}: {}", String::from_utf8_lossy(&output.stdout));
    let config: Value = serde_yaml::from_str(config).unwrap();
    assert_eq!(config["source"]["path"], "/git/config");
    assert_eq!(config["source"]["interval"], "1m");
    assert_eq!(config["projects"][1]["managementKey"]["file"], "/run/management-keys/other/b");

    let pod = &of("Deployment")["spec"]["template"]["spec"];
    let names = |list: &Value| -> Vec<String> {
        list.as_sequence().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&pod["containers"]), ["descope-gitops"]);
    let mut mounted = names(&pod["containers"][0]["volumeMounts"]);
    let mut volumes = names(&pod["volumes"]);
    mounted.sort();
    volumes.sort();
    assert_eq!(mounted, volumes);
    assert!(volumes.contains(&"management-key-0".to_owned()));
    let rules: Value = serde_yaml::from_str(&fs::read_to_string("deploy/prometheus/alerts.yaml").unwrap()).unwrap();
    assert_eq!(of("PrometheusRule")["spec"], rules);
    assert_eq!(of("PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    assert!(objects.iter().all(|object| object["kind"] != "PersistentVolumeClaim"));
}

/// `helm uninstall`, and a change to a database, would delete it with all that the daemon owns.
#[test]
fn the_claim_outlives_the_release() {
    let Some(rendered) = helm(&[]) else { return };

    let objects = rendered.unwrap();
    let claim = objects.iter().find(|object| object["kind"] == "PersistentVolumeClaim").unwrap();
    assert_eq!(claim["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
}

/// Whoever copies it has a pod that starts.
#[test]
fn the_values_of_the_readme_are_ones_that_the_daemon_takes() {
    let readme = fs::read_to_string("deploy/README.md").unwrap();
    let example = readme.split("    # my-values.yaml\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let values = dir.path().join("my-values.yaml");
    fs::write(&values, example).unwrap();
    let Some(helm) = tool("helm") else { return };

    let output =
        Command::new(helm).args(["template", "descope-gitops", CHART, "--values"]).arg(&values).output().unwrap();

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let objects = documents(&String::from_utf8(output.stdout).unwrap());
    let config =
        objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap()["data"]["descope-gitops.yaml"].clone();
    let (path, source) = (dir.path().join("config.yaml"), dir.path().join("source"));
    fs::write(&path, config.as_str().unwrap()).unwrap();
    for project in ["production", "staging"] {
        fs::create_dir_all(source.join(project)).unwrap();
        fs::write(source.join(project).join("roles.yaml"), "roles:\n  - name: Editor\n").unwrap();
    }
    let mut validate = Command::new(env!("CARGO_BIN_EXE_descope-gitops"));
    validate.env_clear().args(["validate", "--config"]).arg(path).arg("--source").arg(source);
    let output = validate.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Kubernetes takes dots and 253 characters in the name of a Secret and neither in that of a volume, and no two volumes of one name, nor
/// two mounts at one path.
#[test]
fn a_management_key_may_lie_in_a_secret_of_any_name() {
    let long = "a".repeat(253);
    let names =
        ["files", "state", "config", "database", "descope-gitops", "kubernetes.io", "a.b", "a", &long, "own", "files"];
    let projects: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            format!(r#"{{"name":"p{n}","projectId":"P2a","managementKey":{{"key":"k{n}","secret":"{name}"}}}}"#)
        })
        .collect();
    let projects = format!("projects=[{}]", projects.join(","));
    let rest = ["secret.name=own", "secretFiles.claim=common", "extraCa.configMap=ca"];
    for state in [&[][..], &REPLICAS] {
        let Some(rendered) = helm(&[&[projects.as_str()], &rest[..], state].concat()) else { return };
        let objects = rendered.unwrap();
        let of = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
        let pod = &of("Deployment")["spec"]["template"]["spec"];
        let (volumes, mounts) = (&pod["volumes"], &pod["containers"][0]["volumeMounts"]);
        let every = |list: &Value, key: &str| -> Vec<String> {
            list.as_sequence().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
        };
        for list in [every(volumes, "name"), every(mounts, "name"), every(mounts, "mountPath")] {
            assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len(), "{list:?}");
        }
        let label = |name: &String| name.len() <= 63 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        assert!(every(volumes, "name").iter().all(label), "{volumes:?}");

        // Each key lies where the daemon is told to read it.
        let config: Value =
            serde_yaml::from_str(of("ConfigMap")["data"]["descope-gitops.yaml"].as_str().unwrap()).unwrap();
        for (n, name) in names.iter().enumerate() {
            let file = config["projects"][n]["managementKey"]["file"].as_str().unwrap();
            let folder = file.strip_suffix(&format!("/k{n}")).unwrap();
            let find = |list: &Value, key: &str, is: &str| -> Value {
                list.as_sequence().unwrap().iter().find(|item| item[key] == is).unwrap().clone()
            };
            let mount = find(mounts, "mountPath", folder);
            let volume = find(volumes, "name", mount["name"].as_str().unwrap());
            assert_eq!(volume["secret"]["secretName"], *name);
        }
    }
}

/// Where replicas take over for one another, none of them has a claim, and a node or an update takes one at a time.
#[test]
fn replicas_share_a_database_and_are_kept_apart() {
    let projects = r#"projects=[{"name":"a","projectId":"P2a","managementKey":{"key":"k"},
        "secrets":{"dir":"/var/lib/descope-secrets","shared":true}}]"#;
    let settings = r#"settings={"state":{"lease":{"life":"30s"}}}"#;
    let choices = [&REPLICAS[..], &["state.postgresql.urlKey=uri", "secretFiles.claim=common", settings, projects]];
    let Some(rendered) = helm(&choices.concat()) else { return };
    let objects = rendered.unwrap();
    let of = |kind: &str| objects.iter().find(|object| object["kind"] == kind);

    let config = of("ConfigMap").unwrap()["data"]["descope-gitops.yaml"].as_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_descope-gitops"));
    command.env_clear().arg("validate").args(["--source", "config/sample", "--config"]).arg(path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{config}: {}", String::from_utf8_lossy(&output.stderr));
    let state = serde_yaml::from_str::<Value>(config).unwrap()["state"].clone();
    assert_eq!(state["url"]["file"], "/run/database/uri");
    assert_eq!(state["fingerprintKey"]["file"], "/run/database/fingerprint-key");
    assert_eq!((&state["lease"]["life"], &state["path"]), (&"30s".into(), &Value::Null));
    assert!(of("PersistentVolumeClaim").is_none());
    assert!(of("PodDisruptionBudget").is_some());
    let spec = &of("Deployment").unwrap()["spec"];
    assert_eq!((&spec["replicas"], &spec["strategy"]["type"]), (&2.into(), &"RollingUpdate".into()));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["topologySpreadConstraints"].as_sequence().unwrap().len(), 2);
    let named = |list: &Value| list.as_sequence().unwrap().iter().find(|one| one["name"] == "secret-files").cloned();
    let mounted = named(&pod["containers"][0]["volumeMounts"]).unwrap();
    assert_eq!((&mounted["mountPath"], &mounted["readOnly"]), (&"/var/lib/descope-secrets".into(), &Value::Null));
    assert_eq!(named(&pod["volumes"]).unwrap()["persistentVolumeClaim"]["claimName"], "common");
}

#[test]
fn the_charts_copy_of_the_alerts_is_the_one_that_is_tested() {
    let copy = fs::read_to_string(format!("{CHART}/alerts.yaml")).unwrap();

    assert!(copy == fs::read_to_string("deploy/prometheus/alerts.yaml").unwrap(), "copy deploy/prometheus/alerts.yaml");
    let component = fs::read_to_string("deploy/kubernetes/prometheusrule/prometheusrule.yaml").unwrap();
    let spec = documents(&component)[0]["spec"].clone();
    assert_eq!(spec, serde_yaml::from_str::<Value>(&copy).unwrap(), "copy deploy/prometheus/alerts.yaml");
}
