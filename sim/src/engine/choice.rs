//! Where a world's decisions come from: a seed, a tape of bytes, or all there are.
//!
//! 0 is always the harmless answer (deliver, do not delay, break nothing), and what is spent answers
//! nothing but 0. So a shorter tape, and one with more zeros, is a quieter world: that is how failures
//! shrink.

use hax_core::base::retry::Rng;

/// A source of decisions.
pub trait Choice {
    /// A number below `n`; 0 if `n` is 0 or 1.
    fn below(&mut self, n: u64) -> u64;

    /// Whether all that follows is 0.
    fn spent(&self) -> bool;
}

/// So many pseudo-random decisions, then zeros.
#[derive(Clone, Debug)]
pub struct Seed {
    numbers: Rng,
    left: u32,
}

impl Seed {
    /// The decisions of `seed`.
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

/// Decisions read from bytes: one for a choice among up to 256, more for wider ones.
#[derive(Clone, Copy, Debug)]
pub struct Tape<'a> {
    left: &'a [u8],
}

impl<'a> Tape<'a> {
    /// Reads this tape.
    #[must_use]
    pub fn new(tape: &'a [u8]) -> Self {
        Self { left: tape }
    }
}

/// The bytes that a choice among `n` takes on a tape.
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

/// Writes down on a tape what another source decides.
#[derive(Clone, Debug)]
pub struct Recorder<C> {
    source: C,
    tape: Vec<u8>,
}

impl<C: Choice> Recorder<C> {
    /// Records `source`.
    pub fn new(source: C) -> Self {
        Self { source, tape: Vec::new() }
    }

    /// What was decided. A tape of a source that has more to say is not spent either.
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

/// All sequences of the first `depth` decisions, one after another; what comes later is 0.
#[derive(Clone, Debug)]
pub struct Exhaustive {
    depth: usize,
    /// The decisions of this sequence and how many ways each could have gone.
    path: Vec<(u64, u64)>,
    at: usize,
}

impl Exhaustive {
    /// Begins with all zeros.
    #[must_use]
    pub fn new(depth: usize) -> Self {
        Self { depth, path: Vec::new(), at: 0 }
    }

    /// Goes on to the next sequence; false if that was the last.
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
            // The second question depends on the first answer.
            let second = choice.below(if first == 0 { 1 } else { 3 });
            assert!(seen.insert((first, second, choice.below(2))));
            if !all.advance() {
                break;
            }
        }
        assert_eq!(seen.len(), 2 + 3 * 2);
    }
}
