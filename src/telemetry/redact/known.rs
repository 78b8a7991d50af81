//! What is looked for, and where it stands in a text.

use super::view::View;
use super::view::fold;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::ops::Range;

/// Shorter ones are looked for in answers alone, as words: elsewhere they would hit ordinary ones.
const SHORTEST: usize = 4;

/// So many bytes of the beginning or the end give a secret away where it was cut. A secret that is made of words may begin with
/// one that messages use too, and hardly any of those is as long.
const TELLING: usize = 12;

/// Folded, less could be an ordinary word.
const SHORTEST_FOLDED: usize = 8;

/// Fewer characters of base64 or hex stand in ordinary words too.
const SHORTEST_ENCODED: usize = 6;

/// By so many bytes of its end a candidate is found. No more than the shortest has.
const ANCHOR: usize = 4;

const BASE64: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// Every secret, in the forms that a look at a text compares.
#[derive(Default)]
pub struct Known {
    // By their hashes, which say nothing outside this process.
    secrets: HashSet<u64>,
    hashes: RandomState,
    exact: Anchors,
    folded: Anchors,
    words: Vec<SecretString>,
}

/// Where secrets stand, and how much may still be compared.
pub struct Hits {
    ranges: Vec<Range<usize>>,
    left: usize,
}

impl Hits {
    /// For a text of so many bytes. What repeats itself, in a secret and in a text, could take the square of their lengths.
    pub fn within(len: usize) -> Self {
        Self { ranges: Vec::new(), left: (1 << 16) + 512 * len }
    }

    /// In order, none in another; `None` where it would have taken too long to find them.
    pub fn merged(mut self) -> Option<Vec<Range<usize>>> {
        self.ranges.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in self.ranges {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                Some(_) | None => merged.push(range),
            }
        }
        (self.left > 0).then_some(merged)
    }
}

impl Known {
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    pub fn has(&self, plain: &str) -> bool {
        self.secrets.contains(&self.hashes.hash_one(plain))
    }

    pub fn add(&mut self, plain: &str) {
        self.secrets.insert(self.hashes.hash_one(plain));
        if plain.chars().count() < SHORTEST {
            self.words.push(SecretString::from(plain));
            return;
        }
        self.exact.add(plain.to_owned(), public_head(plain) + TELLING);
        let mut lines = plain.lines().map(str::trim).filter(|line| *line != plain).collect::<Vec<_>>();
        lines.retain(|line| line.len() >= TELLING && !line.starts_with("-----"));
        for line in lines {
            self.exact.add(line.to_owned(), TELLING);
        }
        for encoded in encodings(plain.as_bytes()) {
            if encoded.len() >= SHORTEST_ENCODED {
                self.exact.add(encoded, TELLING);
            }
        }
        let folded = fold(plain);
        if folded.len() >= SHORTEST_FOLDED {
            self.folded.add(folded, usize::MAX);
        }
    }

    /// Adds what of the text is a secret. `words`: the shortest ones too, where they stand alone.
    pub fn find(&self, view: &View, words: bool, hits: &mut Hits) {
        self.exact.find(view, hits);
        self.folded.find(&view.folded(), hits);
        if words {
            for word in &self.words {
                find_word(view, word.expose_secret().as_bytes(), hits);
            }
        }
    }
}

fn find_word(view: &View, word: &[u8], hits: &mut Hits) {
    let text = view.bytes();
    let is_letter = |at: usize| text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
    for start in 0..text.len().saturating_sub(word.len() - 1) {
        let end = start + word.len();
        let goes_on = start > 0 && is_letter(start - 1) && is_letter(start) || is_letter(end - 1) && is_letter(end);
        if text[start..end] == *word && !goes_on {
            hits.ranges.push(view.place(start..end));
        }
    }
}

/// Patterns by what they begin and end with.
#[derive(Default)]
struct Anchors {
    patterns: Vec<Pattern>,
    // Most places of a text are passed over by these alone.
    seen: Vec<bool>,
    by: HashMap<[u8; ANCHOR], Vec<(usize, End)>>,
}

struct Pattern {
    text: SecretString,
    /// So many bytes of its beginning count.
    telling: usize,
}

#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

impl Anchors {
    fn add(&mut self, text: String, telling: usize) {
        let (Some(first), Some(last)) = (text.as_bytes().first_chunk(), text.as_bytes().last_chunk()) else { return };
        let mut alike = self.by.get(first).into_iter().flatten().filter_map(|(pattern, _)| self.patterns.get(*pattern));
        if alike.any(|known| known.text.expose_secret() == text) {
            return;
        }
        self.seen.resize(1 << 16, false);
        let pattern = self.patterns.len();
        let mut ends = vec![(*first, End::First)];
        if telling < text.len() {
            ends.push((*last, End::Last));
        }
        for (anchor, end) in ends {
            self.seen[slot(anchor)] = true;
            self.by.entry(anchor).or_default().push((pattern, end));
        }
        self.patterns.push(Pattern { telling: telling.min(text.len()), text: SecretString::from(text) });
    }

    fn find(&self, view: &View, hits: &mut Hits) {
        if self.patterns.is_empty() {
            return;
        }
        let text = view.bytes();
        for (at, anchor) in text.windows(ANCHOR).enumerate() {
            let Some(anchor) = anchor.first_chunk::<ANCHOR>().filter(|anchor| self.seen[slot(**anchor)]) else {
                continue;
            };
            for (pattern, end) in self.by.get(anchor).into_iter().flatten() {
                let Some(pattern) = self.patterns.get(*pattern) else { continue };
                let known = pattern.text.expose_secret().as_bytes();
                let range = match end {
                    End::First => at..at + alike(known.iter(), text[at..].iter()),
                    End::Last => {
                        let end = at + ANCHOR;
                        end - alike(known.iter().rev(), text[..end].iter().rev())..end
                    }
                };
                let enough = match end {
                    End::First => pattern.telling,
                    End::Last => TELLING,
                };
                hits.left = hits.left.saturating_sub(range.len());
                if hits.left == 0 {
                    return;
                }
                if range.len() >= enough {
                    hits.ranges.push(view.place(range));
                }
            }
        }
    }
}

fn alike<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

fn slot(anchor: [u8; ANCHOR]) -> usize {
    // Knuth's multiplicative hash: its upper bits depend on all of the bytes.
    (u32::from_le_bytes(anchor).wrapping_mul(2_654_435_761) >> 16) as usize
}

/// How much of an address anybody may know: the scheme, and the host where no password stands before it.
fn public_head(plain: &str) -> usize {
    let Some((scheme, rest)) = plain.split_once("://") else { return 0 };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    scheme.len() + "://".len() + if authority.contains('@') { 0 } else { authority.len() }
}

/// Of what is written in base64 those characters that the secret alone decides, at each place where it may begin in what is
/// encoded as a whole, as the password of a header does; and hex.
fn encodings(plain: &[u8]) -> Vec<String> {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    let hex: String = plain.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
    let mut all = vec![hex.to_uppercase(), hex];
    for alphabet in BASE64 {
        for before in 0..3 {
            let bytes = [&[0, 0][..before], plain].concat();
            let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
            let first = (before * 8).div_ceil(6);
            let sextets = (first..bytes.len() * 8 / 6).map(|one| (0..6).fold(0, |all, n| all << 1 | bit(one * 6 + n)));
            all.push(sextets.map(|sextet| char::from(alphabet[usize::from(sextet)])).collect());
        }
    }
    all
}
