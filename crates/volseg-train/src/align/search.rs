//! Finding an outline by rankings alone: every ranking of four masks weighs all outlines that might be the right one.
//!
//! A guess is a mask that the network gives to some prompt. If a guess were the truth, an annotator would rank four masks by their
//! overlap with it; so each answer says which guesses are likely. What is shown next is what the guesses disagree on most.

use crate::preference::{Answer, CANDIDATES};

/// Difference of two overlaps (IoU) that an annotator sees two times in three.
const SEEN: f64 = 0.04;
/// Overlaps that differ by less count as equal where answers are foreseen.
const EQUAL: f64 = 0.02;
/// Guesses from which the shown masks are chosen.
const CHOICE: usize = 48;

/// A set of pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    words: Vec<u64>,
    count: u32,
}

impl Pixels {
    pub(super) fn of(mask: &[u8]) -> Self {
        let word = |c: &[u8]| c.iter().enumerate().fold(0, |w, (i, &v)| w | (u64::from(v != 0) << i));
        let words: Vec<u64> = mask.chunks(64).map(word).collect();
        Self { count: words.iter().map(|w| w.count_ones()).sum(), words }
    }

    /// 1 if both are empty.
    pub(super) fn iou(&self, o: &Self) -> f64 {
        let both: u32 = self.words.iter().zip(&o.words).map(|(a, b)| (a & b).count_ones()).sum();
        let any = self.count + o.count - both;
        if any == 0 { 1.0 } else { f64::from(both) / f64::from(any) }
    }

    pub(super) fn mask(&self, pixels: usize) -> Vec<u8> {
        (0..pixels).map(|i| (self.words[i / 64] >> (i % 64) & 1) as u8).collect()
    }
}

/// What the answers so far say about all guesses.
pub(super) struct Search {
    guesses: Vec<Pixels>,
    /// Logarithms, of any scale.
    weights: Vec<f64>,
    answers: Vec<([Pixels; CANDIDATES], Answer)>,
}

impl Search {
    /// Guesses and how likely each is, in any scale, before any answer.
    pub(super) fn new(guesses: impl IntoIterator<Item = (Pixels, f64)>) -> Self {
        let mut search = Self { guesses: Vec::new(), weights: Vec::new(), answers: Vec::new() };
        guesses.into_iter().for_each(|(guess, prior)| search.add(guess, prior));
        search
    }

    /// One more, weighed by the answers that are there.
    pub(super) fn add(&mut self, guess: Pixels, prior: f64) {
        let said: f64 = self.answers.iter().map(|(shown, answer)| log_likelihood(&guess, shown, answer)).sum();
        self.weights.push(prior.max(1e-9).ln() + said);
        self.guesses.push(guess);
    }

    /// Takes an answer to `shown`.
    pub(super) fn hear(&mut self, shown: [Pixels; CANDIDATES], answer: Answer) {
        for (w, g) in self.weights.iter_mut().zip(&self.guesses) {
            *w += log_likelihood(g, &shown, &answer);
        }
        self.answers.push((shown, answer));
    }

    /// Shares of the guesses, adding up to 1.
    fn shares(&self) -> Vec<f64> {
        let top = self.weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let all: Vec<f64> = self.weights.iter().map(|w| (w - top).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|w| w / sum).collect()
    }

    /// Guesses in the place of `n` draws in proportion to their shares, most likely first, so at most `n`.
    pub(super) fn likely(&self, n: usize) -> Vec<Pixels> {
        let shares = self.shares();
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
        let (mut sum, mut chosen) = (0.0, Vec::with_capacity(n));
        for i in order {
            sum += shares[i];
            while chosen.len() < n && sum * n as f64 > chosen.len() as f64 + 0.5 {
                chosen.push(self.guesses[i].clone());
            }
        }
        chosen.dedup();
        chosen
    }

    /// The likeliest guess.
    pub(super) fn best(&self) -> Option<&Pixels> {
        let most = (0..self.weights.len()).rev().max_by(|&a, &b| self.weights[a].total_cmp(&self.weights[b]))?;
        Some(&self.guesses[most])
    }

    /// Four masks whose ranking tells most, the most likely guess first. `None` without guesses.
    pub(super) fn ask(&self) -> Option<[Pixels; CANDIDATES]> {
        let shares = self.shares();
        let overlaps = |p: &Pixels| self.guesses.iter().map(|g| g.iou(p)).collect::<Vec<f64>>();
        let choice: Vec<(Vec<f64>, Pixels)> = self.likely(CHOICE).into_iter().map(|p| (overlaps(&p), p)).collect();
        let best = self.best()?;
        let mut shown = vec![(overlaps(best), best.clone())];
        while shown.len() < CANDIDATES {
            let told = |new: &(Vec<f64>, Pixels)| {
                let all: Vec<&[f64]> = shown.iter().chain([new]).map(|(o, _)| o.as_slice()).collect();
                entropy(&all, &shares)
            };
            let most = choice.iter().map(|c| (told(c), c)).reduce(|a, b| if b.0 > a.0 { b } else { a })?;
            shown.push(most.1.clone());
        }
        let shown: Vec<Pixels> = shown.into_iter().map(|(_, p)| p).collect();
        shown.try_into().ok()
    }

    /// Pixels that lie in more than half of the guesses, by share.
    pub(super) fn vote(&self, pixels: usize) -> Vec<u8> {
        let mut sum = vec![0f64; pixels];
        for (share, guess) in self.shares().into_iter().zip(&self.guesses) {
            if share > 1e-6 {
                sum.iter_mut().zip(guess.mask(pixels)).for_each(|(s, v)| *s += share * f64::from(v));
            }
        }
        sum.into_iter().map(|s| u8::from(s > 0.5)).collect()
    }
}

/// How likely an annotator says so of `shown` if `guess` is the truth: each pair by itself, the clearer the surer.
fn log_likelihood(guess: &Pixels, shown: &[Pixels; CANDIDATES], answer: &Answer) -> f64 {
    let iou = shown.each_ref().map(|s| guess.iou(s));
    let order = answer.order();
    let mut sum = 0.0;
    for (n, &a) in order.iter().enumerate() {
        for &b in &order[n + 1..] {
            // log of the logistic function.
            let surer = |d: f64| -(-d / SEEN).exp().ln_1p();
            let difference = iou[a] - iou[b];
            sum += match answer.flip.is_none() && answer.ranks[a] == answer.ranks[b] {
                true => 0.5 * (surer(difference) + surer(-difference)) + std::f64::consts::LN_2,
                false => surer(difference),
            };
        }
    }
    sum
}

/// Entropy in nats of the order in which the masks will be ranked. `overlaps` of each mask with all guesses.
fn entropy(overlaps: &[&[f64]], shares: &[f64]) -> f64 {
    let mut answers = std::collections::BTreeMap::<u32, f64>::new();
    for (n, share) in shares.iter().enumerate() {
        let mut key = 0;
        for (i, a) in overlaps.iter().enumerate() {
            for b in &overlaps[i + 1..] {
                let d = a[n] - b[n];
                key = 3 * key + if d > EQUAL { 2 } else { u32::from(d >= -EQUAL) };
            }
        }
        *answers.entry(key).or_default() += share;
    }
    answers.values().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preference::iou;

    const SIDE: usize = 16;

    fn rectangle(x0: usize, y0: usize, x1: usize, y1: usize) -> Vec<u8> {
        let within = |i: usize| (x0..x1).contains(&(i % SIDE)) && (y0..y1).contains(&(i / SIDE));
        (0..SIDE * SIDE).map(|i| u8::from(within(i))).collect()
    }

    /// Every rectangle with even corners.
    fn all() -> Vec<Vec<u8>> {
        let spans: Vec<(usize, usize)> =
            (0..SIDE).step_by(2).flat_map(|a| (a + 2..=SIDE).step_by(2).map(move |b| (a, b))).collect();
        spans.iter().flat_map(|&(x0, x1)| spans.iter().map(move |&(y0, y1)| rectangle(x0, y0, x1, y1))).collect()
    }

    /// The mask that `rounds` rankings find among [`all`], and the vote.
    fn found(truth: &[u8], rounds: usize, flip: Option<u8>) -> (Vec<u8>, Vec<u8>) {
        let mut search = Search::new(all().iter().map(|m| (Pixels::of(m), 1.0)));
        for round in 0..rounds {
            let shown = search.ask().unwrap();
            let overlaps = shown.each_ref().map(|s| iou(&s.mask(SIDE * SIDE), truth));
            search.hear(shown, Answer::from_iou(overlaps, flip.filter(|_| round == 0)));
        }
        (search.best().unwrap().mask(SIDE * SIDE), search.vote(SIDE * SIDE))
    }

    #[test]
    fn pixels_are_the_mask() {
        for mask in all().into_iter().step_by(7).chain([vec![0; SIDE * SIDE]]) {
            let other = rectangle(3, 2, 9, 14);
            assert_eq!(Pixels::of(&mask).mask(mask.len()), mask);
            assert_eq!(Pixels::of(&mask).iou(&Pixels::of(&other)), iou(&mask, &other));
        }
        let empty = Pixels::of(&[0; 70]);
        assert_eq!((empty.iou(&empty), empty.mask(70)), (1.0, vec![0; 70]));
    }

    #[test]
    fn a_few_rankings_find_one_of_1296_outlines() {
        for truth in [rectangle(2, 4, 8, 8), rectangle(10, 10, 16, 14), rectangle(0, 0, 16, 6), rectangle(6, 6, 8, 8)] {
            let (best, vote) = found(&truth, 8, None);
            assert!(
                iou(&best, &truth) > 0.9 && iou(&vote, &truth) > 0.7,
                "{} {}",
                iou(&best, &truth),
                iou(&vote, &truth)
            );
        }
    }

    #[test]
    fn one_wrong_answer_is_outweighed() {
        let truth = rectangle(2, 4, 8, 12);
        let (best, _) = found(&truth, 10, Some(1));
        assert!(iou(&best, &truth) > 0.7, "{}", iou(&best, &truth));
    }

    #[test]
    fn what_comes_later_is_weighed_by_what_was_said() {
        let truth = Pixels::of(&rectangle(2, 2, 8, 8));
        let shown = [rectangle(2, 2, 8, 10), rectangle(8, 8, 14, 14), rectangle(0, 0, 16, 16), vec![0; SIDE * SIDE]]
            .map(|m| Pixels::of(&m));
        let answer = Answer::from_iou(shown.each_ref().map(|s| s.iou(&truth)), None);
        let mut before = Search::new([(truth.clone(), 1.0), (shown[1].clone(), 2.0)]);
        let mut after = Search::new([(shown[1].clone(), 2.0)]);
        before.hear(shown.clone(), answer.clone());
        after.hear(shown, answer);
        after.add(truth.clone(), 1.0);
        assert_eq!((before.weights[0], before.weights[1]), (after.weights[1], after.weights[0]));
        assert_eq!(after.best(), Some(&truth));
    }
}
