//! Files that nobody means: one clear error each, soon, in little memory. The sources are judged by `validate`, which reads
//! them as the daemon does, in an address space that a copy of a large one does not fit into.

use crate::harness::BINARY;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::mknodat;
use std::fs;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Exit code and all that is said, in an address space of 1 GB.
fn run(dir: &Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new("sh");
    command.env_clear().env("MALLOC_ARENA_MAX", "1").current_dir(dir);
    command.args(["-c", r#"ulimit -v 1000000; exec timeout 60 "$0" validate "$@""#, BINARY]).args(args);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn sparse(path: &Path) {
    File::create(path).unwrap().set_len(1 << 30).unwrap();
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
}

/// Ten to the power of eleven.
fn aliases() -> String {
    let level = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| text + &level(n))
}

type Spoil = Box<dyn Fn(&Path)>;

fn text(text: impl Into<Vec<u8>>) -> Spoil {
    let text = text.into();
    Box::new(move |path| fs::write(path, &text).unwrap())
}

#[test]
fn a_file_of_the_repo_that_nobody_means_is_one_error() {
    let cases: [(&str, Spoil, &str); 10] = [
        ("a gigabyte", Box::new(sparse), "a.yaml: holds more than 64 MiB; split it"),
        ("a FIFO", Box::new(fifo), "a.yaml: is not a regular file; remove it"),
        ("a directory", Box::new(|path| fs::create_dir(path).unwrap()), "no YAML file declares anything"),
        ("not text", text(b"roles: [\xff]\n"), "a.yaml: is not UTF-8; save it as UTF-8"),
        ("NULs", text(b"roles: \0\0\0"), "a.yaml:1: holds a NUL byte: the file is damaged or not text"),
        ("aliases", text(aliases()), "the aliases of this file expand to far more than they should"),
        ("lists in lists", text("[".repeat(1 << 16)), "a.yaml:1: is not YAML: recursion limit exceeded"),
        ("dashes", text("- ".repeat(1 << 16)), "a.yaml:1: nests deeper than 32 levels"),
        ("a link to a device", Box::new(|path| symlink("/dev/zero", path).unwrap()), "leaves the source directory"),
        ("a link to itself", Box::new(|path| symlink("a.yaml", path).unwrap()), "leads nowhere; mend or remove it"),
    ];
    for (case, spoil, expected) in cases {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("repo")).unwrap();
        spoil(&temp.path().join("repo/a.yaml"));

        let (code, said) = run(temp.path(), &["--source", "repo"]);

        assert_eq!(code, 3, "{case}: {said}");
        assert!(said.contains(expected) && said.ends_with("\ninvalid: 1 error\n"), "{case}: {said}");
    }
}

#[test]
fn a_device_in_the_repo_is_one_error() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("repo")).unwrap();
    let device = rustix::fs::makedev(1, 5);
    if mknodat(CWD, temp.path().join("repo/a.yaml"), FileType::CharacterDevice, Mode::RUSR, device).is_err() {
        return; // Only root may make one, and not everywhere.
    }

    let (code, said) = run(temp.path(), &["--source", "repo"]);

    assert_eq!((code, said.contains("a.yaml: is not a regular file; remove it")), (3, true), "{said}");
}

/// A FIFO was waited for, and a device read until the memory was full.
#[test]
fn settings_that_nobody_means_are_one_error() {
    let cases: [(&str, Spoil, &str); 8] = [
        ("a gigabyte", Box::new(sparse), "cannot read it: holds more than 4194304 bytes"),
        ("a FIFO", Box::new(fifo), "cannot read it: nobody writes to this pipe"),
        ("a directory", Box::new(|path| fs::create_dir(path).unwrap()), "cannot read it: it is a directory"),
        ("a device", Box::new(|path| symlink("/dev/zero", path).unwrap()), "cannot read it: it is not a regular file"),
        ("not text", text(b"source: \xff\n"), "is not UTF-8; save it as UTF-8"),
        ("aliases", text(aliases()), "config.yaml:1: unknown key `a0`"),
        ("lists in lists", text("[".repeat(1 << 15)), "config.yaml:1: invalid type: sequence, expected a map"),
        ("a link to itself", Box::new(|path| symlink("config.yaml", path).unwrap()), "cannot read it: "),
    ];
    for (case, spoil, expected) in cases {
        let temp = tempfile::tempdir().unwrap();
        spoil(&temp.path().join("config.yaml"));

        let (code, said) = run(temp.path(), &["--config", "config.yaml"]);

        assert_eq!(code, 64, "{case}: {said}");
        assert!(said.contains(expected) && said.len() < 4_000, "{case}: {said}");
    }
}

#[test]
fn settings_come_through_a_pipe_as_well() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("repo")).unwrap();
    fs::write(temp.path().join("repo/a.yaml"), "permissions: [{ name: a }]\n").unwrap();
    let script = r#"(sleep 0.1; echo "source: { path: repo }") | "$0" validate --config /dev/stdin"#;

    let output = Command::new("sh").env_clear().current_dir(temp.path()).args(["-c", script, BINARY]).output().unwrap();

    assert_eq!(String::from_utf8(output.stdout).unwrap(), "valid: 1 resource\n");
}

/// Each look finds it, or does not, or finds it gone in between.
#[test]
fn a_file_that_vanishes_in_mid_read_is_there_or_not() {
    let temp = tempfile::tempdir().unwrap();
    let repo = temp.path().join("repo");
    fs::create_dir(&repo).unwrap();
    fs::write(repo.join("a.yaml"), "permissions: [{ name: a }]\n").unwrap();
    let (aside, over) = (temp.path().join("aside"), AtomicBool::new(false));
    let seen: Vec<(i32, String)> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::write(&aside, "permissions: [{ name: b }]\n").unwrap();
                fs::rename(&aside, repo.join("b.yaml")).unwrap();
                std::thread::yield_now();
                fs::remove_file(repo.join("b.yaml")).unwrap();
            }
        });
        let seen = (0..3).map(|_| run(temp.path(), &["--source", "repo"])).collect();
        over.store(true, Ordering::Relaxed);
        seen
    });
    for (code, said) in seen {
        let is_whole = code == 0 && ["valid: 1 resource\n", "valid: 2 resources\n"].contains(&&*said);
        let moves = ["keep changing", "changed while they were read", "cannot read b.yaml: No such file"];
        let is_told = code == 3 && moves.iter().any(|what| said.contains(what)) && said.contains("invalid: 1 error");
        assert!(is_whole || is_told, "{code}: {said}");
    }
}
