//! What is remembered of a project is kept by API host, project id and owner: under another host or owner it is another
//! installation, which begins with nothing. Whoever only spells the host another way may not know that.

use crate::config::Config;
use crate::config::Connection;
use crate::state::State;
use std::collections::HashSet;

/// Says where the state knows a project of Descope as another installation that the config has no more.
pub fn warn(config: &Config, connections: &[Connection], state: &State) {
    let all = || config.projects.iter().zip(connections);
    let claims: HashSet<(&str, String, &str)> =
        all().map(|(project, connection)| (&*connection.project_id, connection.host(), &*project.owner)).collect();
    for (project, connection) in all() {
        let (id, host, owner) = (&*connection.project_id, connection.host(), &*project.owner);
        let others = match state.project(&host, id, owner).other_installations() {
            Ok(others) => others,
            Err(error) => {
                tracing::warn!(%error, "cannot tell whether the state knows this project as another installation");
                continue;
            }
        };
        let is_gone = |(host, owner): &(String, String)| !claims.contains(&(id, host.clone(), owner.as_str()));
        for (other_host, other_owner) in others.into_iter().filter(is_gone) {
            tracing::warn!(
                project = &*project.name,
                "the state knows {id} at {other_host} with owner {other_owner}; it is now at {host} with owner {owner}, which \
                 is another installation: what the other one owns, its suspensions, approvals, fingerprints of secrets and \
                 history are not carried over; put `baseUrl` or `owner` back, unless that is meant"
            );
        }
    }
}
