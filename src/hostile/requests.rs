//! What somebody sends to the daemon's port.

use crate::hostile::wait_for;
use crate::http::hostile::answer;

pub fn attempt(bytes: &[u8]) {
    wait_for(async {
        let answer = answer(bytes).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
    });
}
