//! Says in the binary what it was built from. The same sources and the same `SOURCE_DATE_EPOCH` give the same bytes.

use std::process::Command;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["DESCOPE_GITOPS_REVISION", "SOURCE_DATE_EPOCH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    // A build for tests must not begin anew with each commit.
    let is_release = variable("PROFILE").as_deref() == Some("release");
    let of_git = is_release.then(commit).flatten();
    let commit = variable("DESCOPE_GITOPS_REVISION").or(of_git).unwrap_or_else(|| "unknown".to_owned());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).ok();
    let built = variable("SOURCE_DATE_EPOCH").and_then(|seconds| seconds.parse().ok()).or(now.filter(|_| is_release));
    let date = built.map_or_else(|| "unknown".to_owned(), |seconds| date(seconds / SECONDS_A_DAY));
    println!("cargo:rustc-env=DESCOPE_GITOPS_BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=DESCOPE_GITOPS_BUILD_DATE={date}");
    println!("cargo:rustc-env=DESCOPE_GITOPS_BUILD_TARGET={}", variable("TARGET").unwrap_or_default());
}

/// The commit of the sources, and whether they differ from it.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
    };
    for name in ["HEAD", "logs/HEAD", "index"] {
        println!("cargo:rerun-if-changed={}", git(&["rev-parse", "--git-path", name])?);
    }
    // A look that refreshed the index would have the next build begin anew.
    let is_dirty = git(&["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"])
        .is_none_or(|text| !text.is_empty());
    Some(git(&["rev-parse", "--short=12", "HEAD"])? + if is_dirty { "-dirty" } else { "" })
}

/// `2026-11-29`, from days since 1970 (Howard Hinnant's `civil_from_days`, for days after that).
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
