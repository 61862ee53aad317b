//! The sources of a world's decisions: a seed, a tape of bytes, or all sequences of decisions.
//!
//! 0 is always the harmless answer (deliver, do not delay, break nothing), and a spent source returns only 0.
//! So a shorter tape, or a tape with more zeros, makes a quieter world. Failures are shrunk in this way.

use hax_core::base::retry::Rng;

/// A source of decisions.
pub trait Choice {
    /// Returns a number below `n`, or 0 if `n` is 0 or 1.
    fn below(&mut self, n: u64) -> u64;

    /// Returns whether all further decisions are 0.
    fn spent(&self) -> bool;
}

/// A fixed number of pseudo-random decisions, then zeros.
#[derive(Clone, Debug)]
pub struct Seed {
    numbers: Rng,
    left: u32,
}

impl Seed {
    /// Creates the source of `decisions` decisions from `seed`.
    #[must_use]
    pub fn new(seed: u64, decisions: u32) -> Self {
        Self { numbers: Rng::new(seed), left: decisions }
    }
}

impl Choice for Seed {
    fn below(&mut self, n: u64) -> u64 {
        if n < 2 || self.left == 0 {
            return 0;
        }
        self.left -= 1;
        self.numbers.next_u64() % n
    }

    fn spent(&self) -> bool {
        self.left == 0
    }
}

/// Decisions from the bytes of a tape: one byte for a choice among up to 256, more bytes for wider ones.
#[derive(Clone, Copy, Debug)]
pub struct Tape<'a> {
    left: &'a [u8],
}

impl<'a> Tape<'a> {
    /// Creates a reader of this tape.
    #[must_use]
    pub fn new(tape: &'a [u8]) -> Self {
        Self { left: tape }
    }
}

/// Returns the number of bytes on a tape for a choice among `n`.
fn width(n: u64) -> usize {
    match n {
        0 | 1 => 0,
        2..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

impl Choice for Tape<'_> {
    fn below(&mut self, n: u64) -> u64 {
        let take = width(n).min(self.left.len());
        let (bytes, rest) = self.left.split_at(take);
        self.left = rest;
        let number = bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        if n < 2 { 0 } else { number % n }
    }

    fn spent(&self) -> bool {
        self.left.is_empty()
    }
}

/// Records the decisions of another source on a tape.
#[derive(Clone, Debug)]
pub struct Recorder<C> {
    source: C,
    tape: Vec<u8>,
}

impl<C: Choice> Recorder<C> {
    /// Creates a recorder of `source`.
    pub fn new(source: C) -> Self {
        Self { source, tape: Vec::new() }
    }

    /// Returns the recorded decisions. If the source is not spent, the tape is not spent either.
    pub fn into_tape(mut self) -> Vec<u8> {
        if !self.source.spent() {
            self.tape.push(0);
        }
        self.tape
    }
}

impl<C: Choice> Choice for Recorder<C> {
    fn below(&mut self, n: u64) -> u64 {
        if self.source.spent() {
            return 0;
        }
        let number = self.source.below(n);
        self.tape.extend_from_slice(&number.to_le_bytes()[..width(n)]);
        number
    }

    fn spent(&self) -> bool {
        self.source.spent()
    }
}

/// All sequences of the first `depth` decisions, one after another. Later decisions are 0.
#[derive(Clone, Debug)]
pub struct Exhaustive {
    depth: usize,
    /// The decisions of this sequence, each with the number of its alternatives.
    path: Vec<(u64, u64)>,
    at: usize,
}

impl Exhaustive {
    /// Begins with all zeros.
    #[must_use]
    pub fn new(depth: usize) -> Self {
        Self { depth, path: Vec::new(), at: 0 }
    }

    /// Advances to the next sequence. Returns false if the last one was the end.
    pub fn advance(&mut self) -> bool {
        self.path.truncate(self.at);
        self.at = 0;
        while let Some((number, ways)) = self.path.pop() {
            if number + 1 < ways {
                self.path.push((number + 1, ways));
                return true;
            }
        }
        false
    }
}

impl Choice for &mut Exhaustive {
    fn below(&mut self, n: u64) -> u64 {
        if n < 2 || self.at == self.depth {
            return 0;
        }
        if self.at == self.path.len() {
            self.path.push((0, n));
        }
        self.at += 1;
        self.path[self.at - 1].0
    }

    fn spent(&self) -> bool {
        self.at == self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_seed_replays_from_its_tape() {
        let ranges = [2, 7, 256, 257, 1, 1000, 70_000, 3];
        let mut recorder = Recorder::new(Seed::new(5, 6));
        let first: Vec<u64> = ranges.iter().map(|n| recorder.below(*n)).collect();
        assert!(recorder.spent() && first.iter().any(|n| *n > 0));
        let tape = recorder.into_tape();
        let mut tape = Tape::new(&tape);
        assert_eq!(first, ranges.map(|n| tape.below(n)));
        assert!(tape.spent());
    }

    #[test]
    fn an_exhaustive_source_goes_every_way_once() {
        let mut all = Exhaustive::new(3);
        let mut seen = std::collections::BTreeSet::new();
        loop {
            let mut choice = &mut all;
            let first = choice.below(2);
            // The second choice depends on the first answer.
            let second = choice.below(if first == 0 { 1 } else { 3 });
            assert!(seen.insert((first, second, choice.below(2))));
            if !all.advance() {
                break;
            }
        }
        assert_eq!(seen.len(), 2 + 3 * 2);
    }
}
