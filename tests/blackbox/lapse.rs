//! A holder that cannot renew its lease for a while and has it again, under the same term: nobody else wrote, and nothing is to be
//! missing.

use crate::harness::Process;
use crate::harness::permission;
use crate::link::Link;
use crate::link::Weather;
use crate::postgres::Postgres;
use crate::replicas::Replicas;
use crate::replicas::permissions;

/// What was committed meanwhile waited for the next whole pass, which is hours away.
#[tokio::test]
async fn what_was_committed_while_the_lease_could_not_be_renewed_is_applied_when_it_is() {
    let Some(server) = Postgres::start() else { return };
    let mut all = Replicas::new(server, &[]).await;
    all.world.write("some.yaml", &permissions(2));
    let (url, link) = (all.world.environment[0].1.clone(), Link::to(server.port()));
    let (address, database) = url.rsplit_once('/').unwrap();
    let (address, _) = address.rsplit_once(':').unwrap();
    let mut command = all.world.command(&["run"]);
    command.env("BLACKBOX_DATABASE", format!("{address}:{}/{database}", link.port()));
    all.start_as(Process::start(command)).await;
    all.converge_on(2).await;
    let term = "SELECT term FROM lease";
    let before = server.sql(database, term);

    link.set(Weather::Cut);
    all.until("not held", async |all| !all.is_holder(0).await).await;
    all.world.write("more.yaml", &permission("more", "d"));
    all.until("loaded", async |all| all.project(0).await.is_some_and(|project| project["desired"]["resources"] == 3))
        .await;
    // What was written a moment ago is looked at twice. Written once more it is so at once, and no look at it comes later.
    let looks = async |all: &Replicas| {
        let text = all.ask(0, "/metrics").await.map(|(_, text)| text).unwrap_or_default();
        let count =
            text.lines().find_map(|line| line.strip_prefix("descope_gitops_source_loads_total{result=\"unchanged\"} "));
        count.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let looked = looks(&all).await;
    all.world.write("more.yaml", &permission("more", "d"));
    all.until("looked at", async |all| looks(all).await > looked).await;
    // It renews in time, as far as the database knows.
    server.sql(database, "UPDATE lease SET expires = expires + 600000");
    link.set(Weather::Fair);

    all.until("created", async |all| all.world.entity("permissions", "more").await.is_some()).await;
    assert_eq!(server.sql(database, term), before, "it was the same term all along");
    all.converge_on(3).await;
    all.assert_nothing_doubled(3).await;
}
