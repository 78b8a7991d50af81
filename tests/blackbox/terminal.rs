//! What somebody sees who sits at a terminal: a real one, as far as the program can tell.

use crate::harness::Setup;
use crate::harness::World;
use rustix::pty::OpenptFlags;
use serde_json::json;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The usual setup asks for JSON.
const LOG: &str = "log: { format: auto }";

/// A program on a pseudo-terminal.
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    child: Child,
    reading: std::thread::JoinHandle<()>,
}

impl Terminal {
    pub fn start(command: &Command, env: &[(&str, &str)]) -> Self {
        let ours: OwnedFd = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&ours).unwrap();
        rustix::pty::unlockpt(&ours).unwrap();
        let name = rustix::pty::ptsname(&ours, Vec::new()).unwrap();
        let theirs = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        // In a session of its own, so that Ctrl-C reaches it and nobody else.
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session.env_remove("NO_COLOR").env("TERM", "xterm").envs(env.iter().copied());
        session.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
        let child = session.spawn().unwrap();
        drop(session);
        let screen = Arc::new(Mutex::new(String::new()));
        let mut reader = File::from(ours.try_clone().unwrap());
        let shown = Arc::clone(&screen);
        let reading = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Once the program is gone, reading is an error.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { keyboard: File::from(ours), screen, child, reading }
    }

    pub fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    pub async fn until(&self, text: &str) {
        let start = Instant::now();
        while !self.screen().contains(text) {
            assert!(start.elapsed() < PATIENCE, "no {text:?} on the screen: {}", self.screen());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub async fn end(mut self) -> (i32, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.reading.join().unwrap();
                let screen = self.screen.lock().unwrap().clone();
                return (status.code().unwrap_or(-1), screen);
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {}", self.screen());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn world() -> World {
    let setup = Setup { project: vec!["policy: sync".to_owned()], top: vec![LOG.to_owned()], ..Setup::default() };
    let world = World::with(setup).await;
    world.set_live(json!({ "roles": [{ "name": "Editor", "description": "live" }] })).await;
    world.write("roles.yaml", "roles:\n  - { name: Editor, description: ours }\n  - { name: New }\n");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_has_colours_on_a_terminal_and_none_where_nobody_wants_them() {
    let world = world().await;
    let command = world.command(&["plan"]);

    let (code, colored) = Terminal::start(&command, &[]).end().await;
    let (_, plain) = Terminal::start(&command, &[("NO_COLOR", "1")]).end().await;
    let piped = String::from_utf8(world.run(&["plan"]).await.stdout).unwrap();

    assert_eq!(code, 0, "{colored}");
    assert!(colored.contains("\u{1b}[32m+ roles/New"), "{colored}");
    assert!(plain.contains("+ roles/New") && !plain.contains("\u{1b}[3"), "{plain}");
    assert!(piped.contains("+ roles/New") && !piped.contains('\u{1b}'), "{piped}");
    assert!(!plain.contains("{\"timestamp\""), "what is logged does not mix with what is said: {plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_says_what_is_dangerous_and_does_nothing_without_a_yes() {
    let world = world().await;
    let command = world.command(&["apply"]);

    let mut terminal = Terminal::start(&command, &[]);
    terminal.until("Apply this? [y/N]").await;
    assert!(terminal.screen().contains("DANGER: this repo never managed default"), "{}", terminal.screen());
    terminal.type_in("n\n");
    let (code, screen) = terminal.end().await;
    assert_eq!((code, world.writes().await.len()), (4, 0), "{screen}");

    let mut terminal = Terminal::start(&command, &[]);
    terminal.until("Apply this? [y/N]").await;
    terminal.type_in("y\n");
    let (code, screen) = terminal.end().await;
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("2 ok, 0 failed"), "{screen}");

    let (code, screen) = Terminal::start(&command, &[]).end().await;
    assert_eq!((code, screen.matches("nothing to change").count()), (0, 1), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_an_apply_and_says_what_was_done_and_what_was_not() {
    let mut world = World::new().await;
    world.reconfigure(|setup| {
        setup.top =
            vec![LOG.to_owned(), "concurrency: 1".to_owned(), "rateLimit: { limit: 4/1h, reserve: 0% }".to_owned()];
    });
    let tenants: String = (0..9).map(|n| format!("  - {{ id: t{n}, name: T{n} }}\n")).collect();
    world.write("tenants.yaml", &format!("tenants:\n{tenants}"));

    let mut terminal = Terminal::start(&world.command(&["apply", "--auto-approve"]), &[]);
    world.until("the budget is spent", async |world| world.writes().await.len() >= 3).await;
    terminal.until("changes, ").await;
    terminal.until(" of 4 requests of the window used").await;
    terminal.until(" so far, about ").await;
    terminal.type_in("\u{3}");
    let (code, screen) = terminal.end().await;

    assert_eq!(code, 5, "{screen}");
    let done = world.live().await["tenants"].as_array().unwrap().len();
    assert!(screen.contains(&format!("{done} ok, ")), "{done}: {screen}");
    assert_eq!(screen.matches("ok create tenants/").count(), done, "{screen}");
    assert!(screen.contains("stopped before everything was applied"), "{screen}");
}

/// The bar stood still, and nothing said that Descope had asked for a pause.
#[tokio::test(flavor = "multi_thread")]
async fn the_bar_of_an_apply_says_that_the_gate_is_closed() {
    let mut world = World::new().await;
    world.reconfigure(|setup| setup.top = vec![LOG.to_owned(), "rateLimit: { limit: null, lockout: 4s }".to_owned()]);
    let refuse = json!({ "match": { "path": "/v1/mgmt/role/create", "times": 1 }, "fault": "status", "status": 429,
        "headers": { "retry-after": "4" } });
    world.faults(json!([refuse])).await;
    world.write("roles.yaml", "roles:\n  - { name: New }\n");

    let terminal = Terminal::start(&world.command(&["apply", "--auto-approve"]), &[]);
    terminal.until("Descope's rate limit is reached: nothing is sent for ").await;

    let (code, screen) = terminal.end().await;
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("requests go out"), "the bar says that, no line of a log: {screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_shown_again_and_again_until_all_is_converged() {
    let mut world = world().await;
    world.start().await;
    world.until("the first contact is held", async |world| !world.project().await["held"].is_null()).await;
    let url = world.daemon_url().await;
    let args = ["status", "--url", &url, "--watch", "--exit-code"];

    let terminal = Terminal::start(&world.command(&args), &[]);
    terminal.until("first_contact").await;
    let first = terminal.screen().matches("\u{1b}[2J").count();
    let start = Instant::now();
    while terminal.screen().matches("\u{1b}[2J").count() == first {
        assert!(start.elapsed() < PATIENCE, "it is shown once: {}", terminal.screen());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let fingerprint = world.project().await["held"]["fingerprint"].as_str().unwrap().to_owned();
    assert!(world.run(&["approve", &fingerprint, "--url", &url]).await.status.success());
    let (code, screen) = terminal.end().await;

    assert_eq!(code, 0, "it ends by itself: {screen}");
    assert!(screen.rsplit("\u{1b}[2J").next().unwrap().contains("at rest"), "{screen}");
    assert!(!screen.contains("{\"timestamp\""), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_watch_and_says_how_it_was() {
    let mut world = world().await;
    world.start().await;
    world.until("the first contact is held", async |world| !world.project().await["held"].is_null()).await;
    let url = world.daemon_url().await;
    for (more, expected) in [(&["--exit-code"][..], 2), (&[], 0)] {
        let args = [&["status", "--url", &url, "--watch"], more].concat();
        let mut terminal = Terminal::start(&world.command(&args), &[]);
        terminal.until("first_contact").await;
        terminal.type_in("\u{3}");

        let (code, screen) = terminal.end().await;

        assert_eq!(code, expected, "{screen}");
    }
}
