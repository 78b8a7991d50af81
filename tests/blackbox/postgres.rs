//! A real `PostgreSQL` from the Debian package, in a directory of its own, gone with the process that started it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "a test may stop where it stands; each suite uses some of it"
)]

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

static SERVERS: AtomicU32 = AtomicU32::new(0);
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A server. Dropped, it is killed.
pub struct Postgres {
    dir: Option<PathBuf>,
    port: u16,
    /// Ends when this process does, and ends the server.
    keeper: Mutex<Option<Child>>,
}

/// The program of the newest version that is installed.
fn program(name: &str) -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    versions.sort();
    versions.into_iter().map(|version| version.join("bin").join(name)).rfind(|path| path.exists())
}

fn id(flag: &str, user: &str) -> Option<u32> {
    let output = Command::new("id").args([flag, user]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// The server refuses to run as root.
fn command(program: &Path) -> Command {
    if id("-u", "root") == Some(0) && rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

impl Postgres {
    /// The one of this process; `None`, with a word, where the package is missing.
    pub fn start() -> Option<&'static Self> {
        static ONE: OnceLock<Option<Postgres>> = OnceLock::new();
        ONE.get_or_init(Self::fresh).as_ref()
    }

    /// One more, to do harm to.
    pub fn fresh() -> Option<Self> {
        let (Some(initdb), Some(_)) = (program("initdb"), program("postgres")) else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no PostgreSQL: install the package postgresql");
            eprintln!("skipped: no PostgreSQL; install the package postgresql");
            return None;
        };
        let count = SERVERS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("descope-gitops-postgres-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&dir, id("-u", "postgres"), id("-g", "postgres")).unwrap();
        }
        let made = command(&initdb)
            .args([
                "-D",
                dir.to_str().unwrap(),
                "-U",
                "postgres",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Free a moment ago: nobody else on this machine asks for it by number.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { dir: Some(dir), port, keeper: Mutex::new(None) };
        server.run();
        Some(server)
    }

    /// One that somebody else runs.
    pub fn at(url: &str) -> Self {
        let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
        Self { dir: None, port, keeper: Mutex::new(None) }
    }

    /// Starts it, and waits until it answers.
    #[allow(clippy::disallowed_methods, reason = "nothing else runs on this thread meanwhile")]
    pub fn run(&self) {
        let dir = self.dir.as_ref().unwrap();
        fs::remove_file(dir.join("postmaster.pid")).ok();
        let log = fs::File::create(dir.join("log")).unwrap();
        // What it confirmed outlives its being killed; the machine stays.
        let settings = ["fsync=off", "full_page_writes=off", "max_connections=200"];
        // A word means that it is started again; silence, that nobody is left who would.
        let script = r#"dir=$1; shift; "$@" & child=$!; read -r _ || gone=yes
            kill -QUIT $child 2>/dev/null; wait $child; [ -z "$gone" ] || rm -rf "$dir""#;
        let mut keeper = command(Path::new("sh"));
        keeper.args(["-c", script, "sh"]).arg(dir).arg(program("postgres").unwrap());
        keeper.args(["-D", dir.to_str().unwrap(), "-p", &self.port.to_string(), "-k", dir.to_str().unwrap()]);
        keeper.args(["-c", "listen_addresses=127.0.0.1"]);
        for setting in settings {
            keeper.args(["-c", setting]);
        }
        let child = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.keeper.lock().unwrap() = Some(child);
        for _ in 0..600 {
            if self.try_sql("postgres", "SELECT 1").is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("PostgreSQL does not start: {}", fs::read_to_string(dir.join("log")).unwrap());
    }

    /// Where it is, with the database that is always there.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a database, and says where it is.
    pub fn database(&self) -> String {
        let name = format!("test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url_of(&name)
    }

    /// What a statement answers: rows on lines, columns between bars.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = Command::new(program("psql").unwrap())
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// To all of its processes, e.g. to stop them and let them go on.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        // Any of them may have ended.
        kill_process(pid, signal).ok();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children", pid = pid.as_raw_nonzero()));
        for child in children.unwrap_or_default().split_whitespace() {
            kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), signal).ok();
        }
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.dir.as_ref()?.join("postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.parse().ok()?)
    }

    /// Kills it with all that it was doing.
    pub fn kill(&self) {
        let Some(mut keeper) = self.keeper.lock().unwrap().take() else { return };
        // Its own children see that it is gone, unless they are stopped.
        self.signal(Signal::CONT);
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::KILL).ok();
        }
        drop(keeper.stdin.take().map(|mut stdin| stdin.write_all(b"\n")));
        keeper.wait().unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        if let Some(dir) = &self.dir {
            fs::remove_dir_all(dir).ok();
        }
    }
}
