//! Where the database is, and how it is spoken to.

use super::ServerError;
use super::Session;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What `state.url` says. Shows neither user nor password.
#[derive(Clone)]
pub struct Address {
    config: Config,
    tls: MakeRustlsConnect,
}

/// Why a URL names no database. Nothing of it is repeated: it holds a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It cannot be read.
    #[error("is no URL such as postgres://USER:PASSWORD@HOST/DATABASE")]
    Unreadable,
    /// It has another scheme, or none.
    #[error("must begin with postgres:// or postgresql://")]
    Scheme,
    /// Nobody to ask.
    #[error("names no host")]
    NoHost,
    /// Nothing to use there.
    #[error("names no database; write it after the host, as in postgres://USER:PASSWORD@HOST/DATABASE")]
    NoDatabase,
    /// The roots cannot be had.
    #[error("cannot be used with TLS on this machine: it has no certificates to trust")]
    NoRoots,
}

impl Address {
    /// Reads a URL. What leaves this machine is encrypted and the server's certificate verified, unless the URL says
    /// `sslmode=disable`.
    pub fn parse(url: &SecretString) -> Result<Self, BadAddress> {
        let url = url.expose_secret().trim();
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(BadAddress::Scheme);
        }
        let mut config: Config = url.parse().map_err(|_| BadAddress::Unreadable)?;
        if config.get_hosts().is_empty() {
            return Err(BadAddress::NoHost);
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(BadAddress::NoDatabase);
        }
        let is_written = url.split_once('?').is_some_and(|(_, options)| options.contains("sslmode="));
        if !is_written {
            let is_here = config.get_hosts().iter().all(is_this_machine);
            config.ssl_mode(if is_here { SslMode::Disable } else { SslMode::Require });
        } else if config.get_ssl_mode() == SslMode::Prefer {
            // That would send everything in the clear where somebody in between says no to TLS.
            config.ssl_mode(SslMode::Require);
        }
        if config.get_application_name().is_none() {
            config.application_name(env!("CARGO_PKG_NAME"));
        }
        let roots = || -> Result<ClientConfig, rustls::Error> {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            Ok(builder.with_platform_verifier()?.with_no_client_auth())
        };
        let tls = MakeRustlsConnect::new(roots().map_err(|_| BadAddress::NoRoots)?);
        Ok(Self { config, tls })
    }

    pub(super) fn connect(&self, runtime: &Handle, patience: Duration) -> Result<Session, ServerError> {
        let connecting = async { tokio::time::timeout(patience, self.config.connect(self.tls.clone())).await };
        let (client, connection) = runtime.block_on(connecting).map_err(|_| ServerError::Silent(patience))??;
        // Ends with the client.
        drop(runtime.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database ended");
            }
        }));
        Ok(Session {
            runtime: runtime.clone(),
            client,
            patience,
            wrote_owned: AtomicBool::new(false),
            ahead: AtomicI64::new(0),
        })
    }
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("hosts", &self.config.get_hosts())
            .field("database", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}
