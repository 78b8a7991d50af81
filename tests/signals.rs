//! SIGTERM, once and twice, to a real process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use descope_gitops::cli::shutdown::shutdown_on_signal;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

/// Run as a child by the tests below: says what it learns, and does not stop.
#[tokio::test]
#[ignore = "it is the child of another test"]
async fn a_command_that_does_not_listen() {
    let signals = shutdown_on_signal().unwrap();
    let say = |word: &str| writeln!(std::io::stdout(), "\n{word}").unwrap();
    say("ready");
    signals.token().cancelled().await;
    say("asked");
    std::future::pending::<()>().await;
}

#[test]
fn the_first_signal_asks_and_the_second_does_not() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_command_that_does_not_listen", "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);

        assert!(said.any(|line| line == "ready"));
        kill_process(pid, signal).unwrap();
        assert!(said.any(|line| line == "asked"));
        assert!(child.try_wait().unwrap().is_none());
        kill_process(pid, signal).unwrap();

        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}
