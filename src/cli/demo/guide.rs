//! What a demo says about itself, and what to try: every command can be copied as it stands.

use super::seconds;
use crate::telemetry::status::Status;
use std::time::Duration;

/// What the texts name.
#[derive(Debug, Clone)]
pub struct Guide {
    /// Path of the config repo.
    pub repo: String,
    /// Path of the settings.
    pub config: String,
    /// Of the daemon's posts.
    pub token: String,
    /// Base URL.
    pub simulator: String,
    /// Base URL.
    pub daemon: String,
    /// The daemon listens beyond this machine, so that looking takes the token too.
    pub reads_need_token: bool,
    /// How this binary was called.
    pub program: String,
    /// Of this process.
    pub pid: u32,
    /// Between two passes.
    pub interval: Duration,
    /// Requests per window.
    pub rate_limit: (u32, Duration),
}

impl Guide {
    /// Before anything happens.
    pub fn opening(&self) -> String {
        let Self { repo, simulator, daemon, pid, .. } = self;
        format!(
            "\
descope-gitops demo: a stand-in for Descope that has a little in it, and the
daemon that makes it equal to a config repo. Everything stays on this machine
and is gone after Ctrl-C.

  config repo   {repo}
  simulator     {simulator}   see /_sim/state, /_sim/log
  daemon        {daemon}/   its page; /api/v1/status, /metrics
  process       {pid}

"
        )
    }

    /// Once the project equals the repo.
    pub fn converged(&self, status: &Status, requests: u64, took: Duration) -> String {
        let (resources, undeclared) = status
            .projects
            .iter()
            .fold((0, 0), |(all, more), project| (all + project.desired.resources, more + project.undeclared));
        let Self { repo, config, token, simulator, daemon, program, pid, rate_limit: (n, window), .. } = self;
        let window = humantime::format_duration(*window);
        let (interval, took) = (self.interval.as_secs(), seconds(took));
        let bearer = format!("-H 'Authorization: Bearer {token}' ");
        let read = if self.reads_need_token { bearer.as_str() } else { "" };
        format!(
            "
Converged: {resources} resources in {requests} requests, {took} after the start.
  - What had an older name (`renamedFrom` in the files) was renamed in place, so
    that ids and assignments stay.
  - The role Intern is in no file: undeclared ({undeclared} in all), and left alone.
  - All else was created or brought up to date, permissions before their roles.

Try it from a second terminal; this one says what the daemon does.

1. Change a file.
   sed -i.bak 's/See invoices/Look at invoices/' \\
       {repo}/permissions.yaml

2. Change the live side. It is put right within {interval} s, or at once with 3.
   curl -X PUT {simulator}/_sim/state/permissions/billing:read \\
       -d '{{\"description\": \"Oops\"}}'

3. Have it look again now: by signal, or over HTTP.
   kill -HUP {pid}
   curl -X POST {bearer}\\
       {daemon}/api/v1/reconcile

4. Break a file. The last good state stays in force, and drift still heals.
   echo 'roles: [' > {repo}/broken.yaml
   Mend it.
   rm {repo}/broken.yaml

5. Lower the rate limit to less than one pass needs. The gate closes again and
   again, nothing is lost.
   curl -X PUT {simulator}/_sim/rate-limit \\
       -d '{{\"n\": 2, \"window\": \"10s\", \"lockout\": \"10s\"}}'
   kill -HUP {pid}
   curl -s {daemon}/metrics | grep '^descope_gitops_limiter_[pt]'
   The limit as it was:
   curl -X PUT {simulator}/_sim/rate-limit \\
       -d '{{\"n\": {n}, \"window\": \"{window}\", \"lockout\": \"60s\"}}'

6. Look around: the status, the requests so far, a plan made beside the daemon.
   curl -s {read}{daemon}/api/v1/status
   curl -s {simulator}/_sim/stats
   {program} plan \\
       --config {config}

Ctrl-C ends it.

"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::status::Board;

    #[test]
    fn it_fits_into_80_columns_and_every_command_names_this_demo() {
        let dir = "/tmp/descope-gitops-demo-AbCdEf";
        let guide = Guide {
            repo: format!("{dir}/repo"),
            config: format!("{dir}/descope-gitops.yaml"),
            token: "demo-0123abcd".to_owned(),
            simulator: "http://127.0.0.1:40001".to_owned(),
            daemon: "http://127.0.0.1:40002".to_owned(),
            reads_need_token: false,
            program: "target/release/descope-gitops".to_owned(),
            pid: 1_234_567,
            interval: Duration::from_secs(10),
            rate_limit: (100, Duration::from_secs(60)),
        };
        let status = Board::new(Duration::from_secs(10), &[("demo", "upsert-only")]).status();

        let text = guide.opening() + &guide.converged(&status, 15, Duration::from_millis(450));

        let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{long:#?}");
        let commands: Vec<&str> = text
            .split("\n   ")
            .filter(|line| ["sed", "curl", "kill", "echo", "rm", "target/"].iter().any(|name| line.starts_with(name)))
            .collect();
        assert_eq!(commands.len(), 13, "{commands:#?}");
        let names_it = |text: &str| [dir, "127.0.0.1:4000", "1234567"].iter().any(|name| text.contains(name));
        assert!(text.split("\n   ").filter(|line| line.starts_with("kill")).all(names_it));
    }

    #[test]
    fn beyond_this_machine_looking_takes_the_token() {
        let mut guide = Guide {
            repo: String::new(),
            config: String::new(),
            token: "demo-0123abcd".to_owned(),
            simulator: String::new(),
            daemon: "http://127.0.0.1:1".to_owned(),
            reads_need_token: false,
            program: String::new(),
            pid: 1,
            interval: Duration::ZERO,
            rate_limit: (100, Duration::from_secs(60)),
        };
        let status = Board::new(Duration::from_secs(10), &[]).status();
        let tokens = |guide: &Guide| guide.converged(&status, 1, Duration::ZERO).matches("demo-0123abcd").count();

        assert_eq!(tokens(&guide), 1);
        guide.reads_need_token = true;

        assert_eq!(tokens(&guide), 2);
    }
}
