//! Peers that hang, dawdle or talk nonsense: everybody else is served as if they were not there, and nothing of them stays.

use crate::harness::Process;
use crate::harness::World;
use crate::harness::missing;
use crate::harness::permission;
use crate::harness::write_some;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn connect(world: &World) -> TcpStream {
    let address = world.daemon_url().await.strip_prefix("http://").unwrap().to_owned();
    TcpStream::connect(address).await.unwrap()
}

/// So many connections that have said this much, and say no more.
async fn hanging(world: &World, count: usize, said: &str) -> Vec<TcpStream> {
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut peer = connect(world).await;
        peer.write_all(said.as_bytes()).await.unwrap();
        peers.push(peer);
    }
    peers
}

/// Everything that must be answered whoever hangs.
async fn assert_served(world: &World, what: &str) {
    for path in ["/livez", "/readyz", "/healthz", "/metrics", "/api/v1/status"] {
        assert_eq!(world.open(path).await.0, 200, "{what}: {path}");
    }
}

async fn open_files(world: &World) -> f64 {
    let text = world.open("/metrics").await.1;
    text.lines().find_map(|line| line.strip_prefix("process_open_fds ")).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_peers_that_hang_delay_nobody_and_leave_nothing_behind() {
    let mut world = World::new().await;
    write_some(&world, 2, 2, 2);
    world.converge().await;
    let before = open_files(&world).await;

    for (what, said) in [
        ("half-open", ""),
        ("half a request", "GET /livez HT"),
        ("a header without end", "GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-slow: "),
        (
            "a body that does not come",
            "POST /api/v1/reconcile HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{",
        ),
        ("an answer that nobody reads", "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ] {
        let peers = hanging(&world, 500, said).await;

        assert_served(&world, what).await;
        world.write("more.yaml", &permission("more", &format!("'{what}'")));
        world.until_live("more", what).await;

        drop(peers);
        world.until("nothing left open", async |world| open_files(world).await <= before + 5.0).await;
    }
    // Beside pages that are open.
    let pages = hanging(&world, 50, "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let peers = hanging(&world, 450, "GET /livez HT").await;
    assert_served(&world, "pages and peers").await;
    drop((pages, peers));
    world.until("nothing left open", async |world| open_files(world).await <= before + 5.0).await;
    assert!(world.stop().await.success());
}

/// What the process has of its own, in KiB.
fn memory(world: &World) -> usize {
    let path = format!("/proc/{}/status", world.daemon().pid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Each took 20 KiB of buffers before it had said what it wants, and what was let go of stayed with the process.
#[tokio::test(flavor = "multi_thread")]
async fn peers_that_hang_before_they_asked_for_anything_take_little() {
    let mut world = World::new().await;
    write_some(&world, 2, 2, 2);
    world.converge().await;
    // What comes once, before.
    drop(hanging(&world, 20, "GET /livez HTTP/1.1\r\nhost: x\r\n").await);
    assert_served(&world, "before").await;
    let before = memory(&world);

    let peers = hanging(&world, 500, "GET /livez HTTP/1.1\r\nhost: x\r\n").await;
    let open = open_files(&world).await;

    assert!(open >= 500.0, "{open}");
    let took = memory(&world).saturating_sub(before);
    assert!(took < 500 * 8, "{took} KiB for 500 peers");
    drop(peers);
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_peers_take_no_descriptor_that_the_work_needs() {
    let mut world = World::new().await;
    write_some(&world, 2, 2, 2);
    // 500 peers are many more than it may have open.
    let mut command = world.command_under(&["prlimit", "--nofile=160:160"], &["run"]);
    command.env("NO_COLOR", "1");
    if std::process::Command::new("prlimit").arg("--version").output().is_err() {
        return missing("no prlimit: nobody runs out of descriptors");
    }
    world.daemon = Some(Process::start(command));
    world.converge().await;

    let peers = hanging(&world, 500, "GET /livez HT").await;

    assert_served(&world, "beyond the limit").await;
    assert!(open_files(&world).await <= 130.0);
    world.write("more.yaml", &permission("more", "late"));
    world.until_live("more", "late").await;
    assert!(!world.daemon().said("cannot accept a connection"), "{}", world.daemon().tail(20));
    drop(peers);
    assert!(world.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_are_refused_and_the_next_one_is_served() {
    let mut world = World::new().await;
    write_some(&world, 1, 1, 1);
    world.converge().await;
    let headers: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = "x".repeat(80 * 1024);
    let longer = long.repeat(10);
    // 0: closed, for the answer may be lost where the peer still sends.
    let cases: &[(&str, String, &[u16])] = &[
        ("no request", "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), &[400]),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}".to_owned() + &"\u{0}".repeat(200), &[400]),
        ("no version", "GET /livez\r\n\r\n".to_owned(), &[400]),
        ("a long line", format!("GET /{longer} HTTP/1.1\r\n\r\n"), &[0, 400, 414, 431]),
        ("a long header", format!("GET /livez HTTP/1.1\r\nx: {longer}\r\n\r\n"), &[0, 431]),
        ("many headers", format!("GET /livez HTTP/1.1\r\n{headers}\r\n"), &[431]),
        ("two lengths", "POST /x HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(), &[400]),
        ("a negative length", "POST /x HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_owned(), &[400]),
        ("a broken chunk", "POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), &[400]),
        ("a large body", format!("POST /x HTTP/1.1\r\ncontent-length: {}\r\n\r\n{long}", long.len()), &[413]),
        ("a path with what is no text", "GET /%ff%00/../livez HTTP/1.1\r\n\r\n".to_owned(), &[400, 404]),
        ("a method of its own", "BREW /livez HTTP/1.1\r\n\r\n".to_owned(), &[405]),
        (
            "a query that is none",
            "GET /api/v1/status?%zz&&==&project=%ff HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
            &[200, 400, 404],
        ),
    ];

    for (what, request, expected) in cases {
        let mut peer = connect(&world).await;
        peer.write_all(request.as_bytes()).await.ok();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), peer.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{what}: neither answered nor closed");

        let answer = String::from_utf8_lossy(&answer);
        let status: u16 = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        assert!(expected.contains(&status), "{what}: {answer}");
        assert_eq!(world.open("/livez").await.0, 200, "{what}");
    }
    assert!(world.stop().await.success());
}
