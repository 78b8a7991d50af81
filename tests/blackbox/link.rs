//! A wire between one process and a server, which can be slow, cut or silent.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of what is sent over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// It arrives at once.
    Fair,
    /// Each piece comes up to so much later, in order.
    Slow(Duration),
    /// One piece of so many takes its connection with it.
    Lossy(u64),
    /// Nothing arrives, and nobody is told; it does when this is over.
    Silent,
    /// Connections are closed, and no new one comes about.
    Cut,
}

/// The wire. Dropped, it is cut for good.
pub struct Link {
    port: u16,
    weather: watch::Sender<Weather>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Link {
    /// To a server on this machine. It has a thread of its own: a test may block.
    pub fn to(port: u16) -> Self {
        let (weather, forecast) = watch::channel(Weather::Fair);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let here = listener.local_addr().unwrap().port();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(carry(listener, SocketAddr::from(([127, 0, 0, 1], port)), forecast));
        };
        Self { port: here, weather, thread: Mutex::new(Some(thread::spawn(run))) }
    }

    /// Where this end of it is.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Its thread ends with the last sender.
        self.weather = watch::channel(Weather::Cut).0;
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }
}

async fn carry(listener: std::net::TcpListener, to: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let is_cut = *weather.borrow_and_update() == Weather::Cut;
        if is_cut {
            connections.shutdown().await;
        }
        tokio::select! {
            changed = weather.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                if !is_cut {
                    connections.spawn(connect(near, to, weather.clone()));
                }
            }
        }
    }
}

async fn connect(near: TcpStream, to: SocketAddr, weather: watch::Receiver<Weather>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    for end in [&near, &far] {
        end.set_nodelay(true).ok();
    }
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(RandomState::new().hash_one(0))));
    // What ends one way ends the connection.
    tokio::select! {
        () = forward(from_near, to_far, weather.clone(), &random) => {}
        () = forward(from_far, to_near, weather, &random) => {}
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    random: &Mutex<fastrand::Rng>,
) {
    let mut piece = vec![0; 16 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else { return };
        let mut is_late = false;
        loop {
            let now = *weather.borrow_and_update();
            match now {
                Weather::Slow(most) if !is_late => {
                    let most = u64::try_from(most.as_millis()).unwrap();
                    let delay = Duration::from_millis(random.lock().unwrap().u64(0..=most));
                    // Another weather is no reason for it to come sooner.
                    tokio::time::sleep(delay).await;
                    is_late = true;
                }
                Weather::Lossy(one_of) if random.lock().unwrap().u64(0..one_of) == 0 => return,
                Weather::Fair | Weather::Slow(_) | Weather::Lossy(_) => break,
                Weather::Silent => {
                    if weather.changed().await.is_err() {
                        return;
                    }
                }
                Weather::Cut => return,
            }
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
