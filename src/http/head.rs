//! The head of a request, read before anything is set up that answers it: a peer that says nothing, or half of a head and then
//! hangs, takes the memory of what it said and no more. The server's own buffers are hundreds of times that.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::ReadBuf;

/// A head that is larger is seldom, and left to the server, which bounds and refuses it.
const LARGEST: usize = 8 * 1024;
/// So much is taken at a time.
const ROOM: usize = 2 * 1024;
/// As many headers as the server takes; it refuses one with more.
const HEADERS: usize = 100;

/// Waits until what came is a whole head, or can become none: what came, with what follows the head as far as that was there. A peer
/// that ends before has said all that it will. Nothing is lost where the future is dropped but what was read.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut stream = Pin::new(stream);
    loop {
        let more = poll_fn(|context| {
            // Not part of the future, which lasts as long as the peer hangs.
            let mut room = [0; ROOM];
            let mut room = ReadBuf::new(&mut room);
            ready!(stream.as_mut().poll_read(context, &mut room))?;
            head.extend_from_slice(room.filled());
            Poll::Ready(Ok::<bool, io::Error>(!room.filled().is_empty()))
        });
        if !more.await? || !is_half(&head) {
            return Ok(head);
        }
    }
}

/// Is it the beginning of a head, and may the rest follow? What is wrong already is for the server to answer.
fn is_half(head: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    head.len() < LARGEST && matches!(httparse::Request::new(&mut headers).parse(head), Ok(httparse::Status::Partial))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::io::duplex;

    #[test]
    fn half_a_head_is_waited_for_and_what_is_none_is_not() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(LARGEST));
        let many = format!("GET / HTTP/1.1\r\n{}", "X: a\r\n".repeat(HEADERS + 1));
        for half in
            ["", "\r\n", "G", "GET / HTTP/1.1", "GET / HTTP/1.1\r\nHost: x\r\n", "POST / HTTP/1.1\r\nContent-Le"]
        {
            assert!(is_half(half.as_bytes()), "{half}");
        }
        for other in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\nbody",
            "\u{16}\u{3}\u{1}",
            "PRI * HTTP/2.0\r\n",
            &long,
            &many,
        ] {
            assert!(!is_half(other.as_bytes()), "{other}");
        }
    }

    #[tokio::test]
    async fn a_head_that_comes_in_pieces_is_read_whole_and_one_that_breaks_off_as_far_as_it_came() {
        for (pieces, expected) in [
            (["GET / HT", "TP/1.1\r\nHost: x\r", "\n\r\n"], "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            (["GET / HT", "TP/1.1\r\nHost: x\r", "\n"], "GET / HTTP/1.1\r\nHost: x\r\n"),
        ] {
            let (mut peer, mut ours) = duplex(64);
            let sending = async move {
                for piece in pieces {
                    peer.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };

            let (head, ()) = tokio::join!(read(&mut ours), sending);

            assert_eq!(String::from_utf8(head.unwrap()).unwrap(), expected);
        }
    }
}
