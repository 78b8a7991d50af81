//! How time and memory grow with a project: `validate`, `plan` in sync and from nothing, and the daemon from an edit to its
//! first call, with the slowest probe meanwhile.
//!
//! `cargo bench --bench scale -- [--tenants N]`. The list is made up while it is sent, so that a million tenants need no memory
//! but that of what is measured.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

#[path = "large/listed.rs"]
mod listed;
#[path = "large/rig.rs"]
mod rig;

use listed::Listed;
use rig::Ran;
use rig::Rig;
use std::io;
use std::io::BufReader;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tokio::time::Instant;

/// Of the tenants.
const SIZES: [usize; 3] = [100, 10, 1];
const EDITS: usize = 4;
/// As the settings have it.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Between two looks at what is waited for.
const GLANCE: Duration = Duration::from_millis(2);
/// Longer than any pass.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> io::Result<()> {
    let most = rig::tenants(100_000);
    for size in SIZES {
        let tenants = (most / size).max(1);
        let empty = Listed::new(0)?;
        let rig = Rig::at(&empty.address, tenants)?;
        show(tenants, "validate", &rig::run(rig.command(&["validate"]))?)?;
        show(tenants, "plan from nothing", &rig::run(rig.command(&["plan"]))?)?;
        drop((rig, empty));
        let full = Listed::new(tenants)?;
        let rig = Rig::at(&full.address, tenants)?;
        show(tenants, "plan in sync", &rig::run(rig.command(&["plan"]))?)?;
        daemon(tenants, &rig)?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "for the eye")]
fn show(tenants: usize, what: &str, ran: &Ran) -> io::Result<()> {
    let Ran { seconds, user, system, peak_mib, is_good } = ran;
    let each = peak_mib * 1024.0 / tenants as f64;
    println!(
        "{tenants:>9} tenants, {what:<18} {seconds:7.3} s ({user:.2} user, {system:.2} system), peak {peak_mib:6.0} MiB, \
         {each:.2} KiB each"
    );
    if *is_good { Ok(()) } else { Err(io::Error::other("it failed")) }
}

/// Edits one file again and again.
fn daemon(tenants: usize, rig: &Rig) -> io::Result<()> {
    let mut command = rig.command(&["run", "--log-format", "json"]);
    let mut daemon = command.stderr(Stdio::piped()).spawn()?;
    let process = daemon.id();
    let measured = daemon.stderr.take().map_or(Ok(()), |log| {
        let mut log = BufReader::new(log);
        let address = rig::address(&mut log).ok_or_else(|| io::Error::other("the daemon does not listen"))?;
        // What it says is read, so that it never waits for a reader.
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        for edit in 0..=EDITS {
            // The first look has no edit before it: it is what the others are measured after.
            wait_for_quiet(&address)?;
            if edit > 0 {
                measure(tenants, rig, &address, process, edit)?;
            }
        }
        Ok(())
    });
    // One that has ended needs no ending.
    daemon.kill().unwrap_or_default();
    daemon.wait()?;
    measured
}

#[allow(clippy::cast_precision_loss, reason = "for the eye")]
fn measure(tenants: usize, rig: &Rig, address: &str, process: u32, edit: usize) -> io::Result<()> {
    let (requests, writes) = (rig.count("requests"), rig.count("writes"));
    let is_over = AtomicBool::new(false);
    let (first_call, slowest) = thread::scope(|scope| {
        let probes = scope.spawn(|| slowest_probe(address, &is_over));
        let started = Instant::now();
        let first_call = rig.edit(&format!("tier {edit}")).and_then(|()| {
            until(|| rig.count("requests") > requests)?;
            let first_call = started.elapsed();
            until(|| rig.count("writes") > writes)?;
            wait_for_quiet(address)?;
            Ok(first_call)
        });
        is_over.store(true, Ordering::Relaxed);
        (first_call, probes.join())
    });
    let first_call = first_call?.saturating_sub(DEBOUNCE);
    let slowest = slowest.map_err(|_| io::Error::other("the probes failed"))?;
    let resident = rig::memory(process, "VmRSS:").unwrap_or_default();
    let peak = rig::memory(process, "VmHWM:").unwrap_or_default();
    println!(
        "{tenants:>9} tenants, daemon, edit {edit}: first call {:5.0} ms after the debounce, slowest probe {:4.0} ms, resident \
         {resident:.0} MiB, peak {peak:.0} MiB, {:.2} KiB each",
        first_call.as_secs_f64() * 1000.0,
        slowest.as_secs_f64() * 1000.0,
        peak * 1024.0 / tenants as f64,
    );
    Ok(())
}

fn slowest_probe(address: &str, is_over: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        if rig::get(address, "/livez").is_ok() {
            slowest = slowest.max(asked.elapsed());
        }
        rig::pause(GLANCE);
    }
    slowest
}

/// Until what the files say is what Descope has.
fn wait_for_quiet(address: &str) -> io::Result<()> {
    until(|| {
        let metrics = rig::get(address, "/metrics").unwrap_or_default();
        let converged = metrics.lines().find(|line| line.starts_with("descope_gitops_converged{"));
        converged.is_some_and(|line| line.ends_with(" 1"))
    })
}

fn until(is_so: impl Fn() -> bool) -> io::Result<()> {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other("what was waited for did not come"));
        }
        rig::pause(GLANCE);
    }
    Ok(())
}
