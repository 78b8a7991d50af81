//! Draining a project that is empty: `apply` of new tenants with 64 workers, against a simulator without a limit.
//!
//! `cargo bench --bench drain -- [--tenants N]`. What the disk confirms is part of it, so the temporary directory should be
//! on a real one (`TMPDIR`).

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

#[path = "large/rig.rs"]
mod rig;

use rig::Rig;
use std::io;

/// Of the tenants; where the last line costs more for each change than the first, something grows.
const SIZES: [usize; 2] = [10, 1];

fn main() -> io::Result<()> {
    let most = rig::tenants(10_000);
    for size in SIZES {
        drain(most / size)?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "for the eye")]
fn drain(tenants: usize) -> io::Result<()> {
    let rig = Rig::new(tenants)?;
    let ran = rig::run(rig.command(&["apply", "--auto-approve", "-o", "json"]))?;
    let simulator = rig.simulator_cpu();
    let audited = rig.audited()?;
    println!(
        "{tenants:>9} tenants: {:6.2} s, {:6.0} changes/s; CPU {:.2} s user, {:.2} s system, {:.0} us a change; simulator \
         {simulator:.2} s; peak {:.0} MiB; audited {audited}",
        ran.seconds,
        tenants as f64 / ran.seconds,
        ran.user,
        ran.system,
        (ran.user + ran.system) * 1e6 / tenants as f64,
        ran.peak_mib,
    );
    if !ran.is_good || audited != tenants {
        return Err(io::Error::other("not everything was applied and audited"));
    }
    Ok(())
}
