//! A text as it reads once what quotes it is taken off, with a map back to where each byte stood.

use std::ops::Range;

/// A way of writing text inside other text, one of those that what quotes a secret uses.
#[derive(Debug, Clone, Copy)]
pub enum Quoting {
    /// `\n`, `\"`, `\u0026`, `\u{e4}`: JSON, and what languages print of a text.
    Backslash,
    /// `%2F`: addresses and forms.
    Percent,
    /// `&amp;`, `&#34;`: HTML.
    Entity,
}

const ALL: [Quoting; 3] = [Quoting::Backslash, Quoting::Percent, Quoting::Entity];

const ENTITIES: [(&[u8], u8); 5] =
    [(b"amp;", b'&'), (b"lt;", b'<'), (b"gt;", b'>'), (b"quot;", b'"'), (b"apos;", b'\'')];

/// Bytes, and for each where what it was read from begins and ends.
#[derive(Debug)]
pub struct View {
    bytes: Vec<u8>,
    places: Vec<(usize, usize)>,
}

impl View {
    /// As it stands.
    pub fn of(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), places: (0..text.len()).map(|at| (at, at + 1)).collect() }
    }

    /// What it reads.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where these bytes stood in the text.
    pub fn place(&self, range: Range<usize>) -> Range<usize> {
        match (self.places.get(range.start), self.places.get(range.end.saturating_sub(1))) {
            (Some((start, _)), Some((_, end))) => *start..*end,
            (None, _) | (_, None) => 0..0,
        }
    }

    /// Where in the text something begins: no byte in the middle of what was written for one.
    pub fn starts(&self) -> impl Iterator<Item = usize> {
        self.places.iter().map(|(start, _)| *start)
    }

    /// One layer taken off; `None` where there is none.
    pub fn without(&self, quoting: Quoting) -> Option<Self> {
        let (sign, unquote): (u8, Unquote) = match quoting {
            Quoting::Backslash => (b'\\', backslash),
            Quoting::Percent => (b'%', percent),
            Quoting::Entity => (b'&', entity),
        };
        if !self.bytes.contains(&sign) {
            return None;
        }
        let mut view =
            Self { bytes: Vec::with_capacity(self.bytes.len()), places: Vec::with_capacity(self.bytes.len()) };
        let mut at = 0;
        while let Some(byte) = self.bytes.get(at) {
            let found = if *byte == sign { unquote(&self.bytes[at..]) } else { None };
            let (piece, taken) = found.unwrap_or((Piece::byte(*byte), 1));
            let place = self.place(at..at + taken);
            for byte in piece.bytes() {
                view.bytes.push(*byte);
                view.places.push((place.start, place.end));
            }
            at += taken;
        }
        (view.bytes.len() < self.bytes.len()).then_some(view)
    }

    /// Without blanks and line breaks, which are written in each other's place and as `+`, and in lower case.
    pub fn folded(&self) -> Self {
        let kept = self.bytes.iter().zip(&self.places).filter(|(byte, _)| !is_blank(**byte));
        let (bytes, places) = kept.map(|(byte, place)| (byte.to_ascii_lowercase(), *place)).unzip();
        Self { bytes, places }
    }
}

/// As [`View::folded`] does it.
pub fn fold(text: &str) -> String {
    text.chars().filter(|c| !u8::try_from(*c).is_ok_and(is_blank)).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b'+'
}

/// Shows the text as it stands, and with up to `layers` taken off it, whatever comes in whatever order.
pub fn each(view: &View, layers: u32, look: &mut dyn FnMut(&View)) {
    look(view);
    if layers > 0 {
        for less in ALL.iter().filter_map(|quoting| view.without(*quoting)) {
            each(&less, layers - 1, look);
        }
    }
}

/// What stands at the beginning, and how many bytes it takes.
type Unquote = fn(&[u8]) -> Option<(Piece, usize)>;

/// One character, or one byte of one.
struct Piece {
    bytes: [u8; 4],
    len: usize,
}

impl Piece {
    fn byte(byte: u8) -> Self {
        Self { bytes: [byte, 0, 0, 0], len: 1 }
    }

    fn char(code: u32) -> Option<Self> {
        let mut bytes = [0; 4];
        let len = char::from_u32(code)?.encode_utf8(&mut bytes).len();
        Some(Self { bytes, len })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn backslash(text: &[u8]) -> Option<(Piece, usize)> {
    let byte = match *text.get(1)? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        b'v' => 11,
        b'a' => 7,
        b'0' => 0,
        b'x' => return Some((Piece::byte(u8::try_from(hex(text.get(2..4)?)?).ok()?), 4)),
        b'u' => return unicode(text),
        b'U' => return Some((Piece::char(hex(text.get(2..10)?)?)?, 10)),
        sign if sign.is_ascii_punctuation() => sign,
        _ => return None,
    };
    Some((Piece::byte(byte), 2))
}

/// `\u{e4}`, `\u00e4`, and two of those that stand for one character.
fn unicode(text: &[u8]) -> Option<(Piece, usize)> {
    if text.get(2) == Some(&b'{') {
        let digits = text.get(3..)?.iter().take(7).position(|byte| *byte == b'}')?;
        return Some((Piece::char(hex(text.get(3..3 + digits)?)?)?, digits + 4));
    }
    let first = hex(text.get(2..6)?)?;
    if let Some(piece) = Piece::char(first) {
        return Some((piece, 6));
    }
    let low = text.get(6..8).filter(|next| next == b"\\u").and_then(|_| hex(text.get(8..12)?))?;
    let both = 0x1_0000 + (first.checked_sub(0xd800)? << 10) + low.checked_sub(0xdc00)?;
    Some((Piece::char(both)?, 12))
}

fn percent(text: &[u8]) -> Option<(Piece, usize)> {
    Some((Piece::byte(u8::try_from(hex(text.get(1..3)?)?).ok()?), 3))
}

fn entity(text: &[u8]) -> Option<(Piece, usize)> {
    let text = text.get(1..)?;
    if text.first() == Some(&b'#') {
        let end = text.iter().take(10).position(|byte| *byte == b';')?;
        let code = match text.get(1..end)? {
            [b'x' | b'X', digits @ ..] => hex(digits)?,
            digits => std::str::from_utf8(digits).ok()?.parse().ok()?,
        };
        return Some((Piece::char(code)?, end + 2));
    }
    let (name, byte) = ENTITIES.iter().find(|(name, _)| text.starts_with(name))?;
    Some((Piece::byte(*byte), name.len() + 1))
}

fn hex(digits: &[u8]) -> Option<u32> {
    let is_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    if is_hex { u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok() } else { None }
}
