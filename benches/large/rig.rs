//! What the benchmarks of large projects share: files, a simulator, and the program itself as a process that is watched.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_descope-gitops");
const PROJECT: &str = "P2abcdefghijklmnopqrstuvwxyz";
const TENANTS_A_FILE: usize = 100;
/// The list of so many tenants is no longer than the settings allow by themselves.
const SHORT: usize = 500_000;
/// Of a process that is watched.
const GLANCE: Duration = Duration::from_millis(2);
/// Linux counts CPU time in hundredths of a second.
const TICKS: f64 = 100.0;

/// The program that is measured: this build, or the one that `BENCH_PROGRAM` names, for two builds side by side.
fn program() -> OsString {
    std::env::var_os("BENCH_PROGRAM").unwrap_or_else(|| PROGRAM.into())
}

/// `--tenants N`. Without `--bench` it is `cargo test`, which only proves that it works.
pub fn tenants(usual: usize) -> usize {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = arguments.iter().position(|argument| argument == "--tenants");
    let asked = asked.and_then(|at| arguments.get(at + 1)?.replace(['_', ','], "").parse().ok());
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    asked.unwrap_or(if is_bench { usual } else { 200 })
}

/// A directory with files, a project, and settings that join them.
pub struct Rig {
    place: tempfile::TempDir,
    simulator: Option<Child>,
    address: String,
}

impl Rig {
    /// The project is an empty one of a simulator.
    #[allow(dead_code, reason = "not every benchmark writes")]
    pub fn new(tenants: usize) -> io::Result<Self> {
        let mut simulator = Command::new(PROGRAM);
        simulator.args(["simulator", "--listen", "127.0.0.1:0", "--rate-limit", "none"]);
        let mut simulator = simulator.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let address = simulator.stdout.take().and_then(|out| address(BufReader::new(out)));
        let address = address.ok_or_else(|| io::Error::other("the simulator did not start"))?;
        let mut rig = Self::at(&address, tenants)?;
        rig.simulator = Some(simulator);
        Ok(rig)
    }

    /// The project is what answers at this address.
    pub fn at(address: &str, tenants: usize) -> io::Result<Self> {
        let place = tempfile::tempdir()?;
        let tree = place.path().join("repo");
        fs::create_dir(&tree)?;
        fs::create_dir(place.path().join("desk"))?;
        for file in 0..tenants.div_ceil(TENANTS_A_FILE) {
            let first = file * TENANTS_A_FILE;
            write_file(&tree, file, first..tenants.min(first + TENANTS_A_FILE), "gold")?;
        }
        // Other builds may know no such setting; the list of so many is longer than without it.
        let longer = if tenants > SHORT { "maxAnswerMiB: 4096\n" } else { "" };
        let settings = format!(
            "source: {{ path: {tree}, debounce: 500ms, interval: 1h }}
projects:
  - {{ name: bench, projectId: {PROJECT}, managementKey: {{ env: KEY }}, baseUrl: 'http://{address}', firstContact: apply }}
rateLimit: {{ limit: null }}
concurrency: 64
{longer}http: {{ listen: 127.0.0.1:0 }}
state: {{ path: {state} }}
",
            tree = tree.display(),
            state = place.path().join("state").display(),
        );
        fs::write(place.path().join("settings.yaml"), settings)?;
        Ok(Self { place, simulator: None, address: address.to_owned() })
    }

    /// The program with these settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--config").arg(self.place.path().join("settings.yaml")).args(arguments).env("KEY", "K2bench");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Puts another value into one tenant of one file, at once.
    #[allow(dead_code, reason = "not every benchmark edits")]
    pub fn edit(&self, tier: &str) -> io::Result<()> {
        // Beside everything that is watched, so that nothing but the edit itself is seen.
        let desk = self.place.path().join("desk");
        write_file(&desk, 0, 0..1, tier)?;
        let edited = desk.join("0000.yaml");
        let text = fs::read_to_string(self.tree().join("0000.yaml"))?;
        let rest = text.match_indices("  - id").nth(1).map_or("", |(at, _)| &text[at..]);
        fs::write(&edited, fs::read_to_string(&edited)? + rest)?;
        fs::rename(edited, self.tree().join("0000.yaml"))
    }

    fn tree(&self) -> PathBuf {
        self.place.path().join("repo")
    }

    /// What the simulator counts: `requests`, `writes`.
    #[allow(dead_code, reason = "not every benchmark asks")]
    pub fn count(&self, what: &str) -> u64 {
        let text = get(&self.address, "/_sim/stats").unwrap_or_default();
        let stats: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        stats[what].as_u64().unwrap_or_default()
    }

    /// Rows of the audit trail that say that a change was made.
    #[allow(dead_code, reason = "not every benchmark drains")]
    pub fn audited(&self) -> io::Result<usize> {
        let trail = self.command(&["audit", "-o", "json"]).stdout(Stdio::piped()).output()?;
        let rows: serde_json::Value = serde_json::from_slice(&trail.stdout).unwrap_or_default();
        let rows = rows["changes"].as_array();
        Ok(rows.map_or(0, |rows| rows.iter().filter(|row| row["outcome"] == "ok").count()))
    }

    /// CPU time of the simulator so far.
    #[allow(dead_code, reason = "not every benchmark asks")]
    pub fn simulator_cpu(&self) -> f64 {
        self.simulator.as_ref().and_then(|simulator| cpu(simulator.id())).map_or(0.0, |(user, system)| user + system)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(simulator) = &mut self.simulator {
            // One that has ended needs no ending.
            simulator.kill().unwrap_or_default();
            drop(simulator.wait());
        }
    }
}

/// What one run of the program took.
pub struct Ran {
    /// From start to end.
    pub seconds: f64,
    /// CPU time.
    pub user: f64,
    /// CPU time in the kernel.
    pub system: f64,
    /// The most memory that it had at a time.
    pub peak_mib: f64,
    /// It said that all went well.
    pub is_good: bool,
}

/// Runs it to its end.
pub fn run(mut command: Command) -> io::Result<Ran> {
    let started = Instant::now();
    let mut child = command.spawn()?;
    let mut ran = Ran { seconds: 0.0, user: 0.0, system: 0.0, peak_mib: 0.0, is_good: false };
    loop {
        if let Some((user, system)) = cpu(child.id()) {
            (ran.user, ran.system) = (user, system);
        }
        ran.peak_mib = memory(child.id(), "VmHWM:").unwrap_or(ran.peak_mib).max(ran.peak_mib);
        if let Some(status) = child.try_wait()? {
            ran.seconds = started.elapsed().as_secs_f64();
            ran.is_good = status.success();
            return Ok(ran);
        }
        pause(GLANCE);
    }
}

/// Waits, on a thread that has nothing else to do.
pub fn pause(time: Duration) {
    #[allow(clippy::disallowed_methods, reason = "a benchmark without a runtime")]
    std::thread::sleep(time);
}

/// A field of the status of a process, in MiB.
pub fn memory(process: u32, field: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? / 1024.0)
}

fn cpu(process: u32) -> Option<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold anything but a closing bracket behind its own.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS);
    Some((seconds(11)?, seconds(12)?))
}

/// The first address that a program says it serves at.
pub fn address(mut lines: impl BufRead) -> Option<String> {
    let mut line = String::new();
    while lines.read_line(&mut line).ok()? > 0 {
        if let Some(at) = line.find("127.0.0.1:") {
            let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == ':';
            return Some(line[at..].chars().take_while(|c| is_part(*c)).collect());
        }
        line.clear();
    }
    None
}

/// The body of an answer.
pub fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn write_file(folder: &Path, file: usize, tenants: std::ops::Range<usize>, tier: &str) -> io::Result<()> {
    let mut text = String::from("tenants:\n");
    for n in tenants {
        let written = write!(
            text,
            "  - id: tenant-{n:07}
    name: Tenant {n} ({tier})
    selfProvisioningDomains: [t{n}.example.com]
    enforceSSO: true
"
        );
        written.map_err(io::Error::other)?;
    }
    fs::write(folder.join(format!("{file:04}.yaml")), text)
}
