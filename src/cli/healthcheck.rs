//! `descope-gitops healthcheck`: one probe of a running daemon, for images that have no shell to run curl in.

use crate::cli::Exit;
use crate::config;
use crate::config::Config;
use crate::config::Overrides;
use anyhow::Context;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use url::Url;

/// Which daemon, and what to ask.
#[derive(Debug, Clone, clap::Args)]
pub struct HealthcheckArgs {
    /// Ask whether it is ready, rather than alive
    #[arg(long)]
    pub ready: bool,
    /// Base URL of the daemon, http only [default: where it listens]
    #[arg(long)]
    pub url: Option<Url>,
    /// Longest wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = config::span)]
    pub timeout: Duration,
}

/// Exits with 0 where the answer is 200, with 1 otherwise.
pub async fn run(overrides: &Overrides, args: HealthcheckArgs) -> anyhow::Result<Exit> {
    let address = match &args.url {
        Some(url) => of_url(url)?,
        None => reachable(listens(overrides)?).to_string(),
    };
    let path = if args.ready { "/readyz" } else { "/livez" };
    let line = tokio::time::timeout(args.timeout, ask(&address, path))
        .await
        .with_context(|| format!("no answer from {address} in time"))?
        .with_context(|| format!("cannot ask {address}"))?;
    let code = line.split(' ').nth(1).unwrap_or_default();
    anyhow::ensure!(line.starts_with("HTTP/1.") && code == "200", "{path} of {address} answers `{line}`");
    Ok(Exit::Done)
}

/// Without the whole config where a flag says it: the check must not need what the daemon needs.
pub fn listens(overrides: &Overrides) -> anyhow::Result<SocketAddr> {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    match (given(&overrides.listen), given(&overrides.config)) {
        (None, Some(_)) => Ok(Config::load(overrides)?.http.listen),
        (listen, _) => {
            let listen = listen.unwrap_or_else(|| config::LISTEN.to_owned());
            config::listen_address(&listen).with_context(|| format!("`{listen}` is no ADDRESS:PORT"))
        }
    }
}

/// "All addresses" is nowhere to connect to; this machine is among them.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

fn of_url(url: &Url) -> anyhow::Result<String> {
    anyhow::ensure!(url.scheme() == "http", "--url must be http");
    let host = url.host_str().context("--url must name a host")?;
    Ok(format!("{host}:{}", url.port_or_known_default().unwrap_or(80)))
}

/// The status line of the answer.
async fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // A status line fits; whatever else listens there must not fill our memory.
    stream.take(4096).read_to_end(&mut answer).await?;
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_where_the_daemon_listens_and_this_machine_for_all_addresses() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:9000", "[::1]:9000"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("localhost:7", "127.0.0.1:7"),
        ] {
            let overrides = Overrides { listen: Some(listen.to_owned()), ..Overrides::default() };

            assert_eq!(reachable(listens(&overrides).unwrap()).to_string(), asked);
        }
        assert_eq!(listens(&Overrides::default()).unwrap().to_string(), config::LISTEN);
    }

    #[test]
    fn a_url_names_a_host_and_a_port() {
        assert_eq!(of_url(&"http://daemon:81/".parse().unwrap()).unwrap(), "daemon:81");
        assert_eq!(of_url(&"http://[::1]".parse().unwrap()).unwrap(), "[::1]:80");
        assert!(of_url(&"https://daemon".parse().unwrap()).is_err());
    }
}
