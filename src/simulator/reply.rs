//! What goes back over the wire.

use hyper::Response;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::body::Bytes;
use hyper::body::Frame;
use hyper::body::SizeHint;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use serde_json::Value;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::time::Sleep;
use tokio::time::sleep;

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers, with those of the body.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How the body ends.
    pub end: End,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where it should.
    Whole,
    /// The connection breaks off before the announced length.
    Short,
    /// Never: nothing more comes, and the connection stays open.
    Never,
}

/// A body on its way out.
#[derive(Debug)]
pub struct Outgoing {
    data: Option<Bytes>,
    end: End,
    /// What was sent goes out first.
    pause: Pin<Box<Sleep>>,
}

/// Long enough for the bytes to be on their way before the connection breaks off.
const PAUSE: Duration = Duration::from_millis(20);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match (self.data.take(), self.end) {
            (Some(data), _) => Poll::Ready(Some(Ok(Frame::data(data)))),
            // Nobody wakes it; the end of the connection drops it.
            (None, End::Never) => Poll::Pending,
            (None, End::Short) => {
                ready!(self.pause.as_mut().poll(context));
                Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
            }
            (None, End::Whole) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.end == End::Whole
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.data, self.end) {
            (Some(data), End::Whole) => SizeHint::with_exact(data.len() as u64),
            (None, End::Whole) => SizeHint::with_exact(0),
            (_, End::Short | End::Never) => SizeHint::new(),
        }
    }
}

impl Reply {
    /// A JSON document.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::of(status, "application/json", body.to_string().into_bytes())
    }

    /// The bytes of a JSON document.
    pub fn of_json(status: u16, body: Vec<u8>) -> Self {
        Self::of(status, "application/json", body)
    }

    /// Plain text, possibly none.
    pub fn text(status: u16, body: &str) -> Self {
        Self::of(status, "text/plain", body.as_bytes().to_vec())
    }

    /// What a gateway says when it has no other words.
    pub fn html(status: u16, body: &str) -> Self {
        Self::of(status, "text/html", body.as_bytes().to_vec())
    }

    fn of(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self { status, headers: vec![("content-type".to_owned(), content_type.to_owned())], body, end: End::Whole }
    }

    /// With one more header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// For the wire. A header that HTTP does not allow is left out.
    pub fn into_response(mut self) -> Response<Outgoing> {
        if self.end == End::Short {
            let announced = (self.body.len() + 100).to_string();
            self.headers.push(("content-length".to_owned(), announced));
        }
        let data = (!self.body.is_empty()).then(|| Bytes::from(self.body));
        let mut response = Response::new(Outgoing { data, end: self.end, pause: Box::pin(sleep(PAUSE)) });
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
