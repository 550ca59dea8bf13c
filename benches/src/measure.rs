//! Interleaved measuring and the statistics of it.
//!
//! On a machine that others use, too, two things are only comparable when they
//! were measured in the same moment. So every round does each of them once, and
//! a ratio is the median of the rounds' ratios. The order changes each time: the
//! kernel clears away what one has left, such as a network namespace, while the
//! next one runs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// One thing to measure: a name, and how to do it once.
pub struct Subject<'a> {
    pub name: String,
    run: Box<dyn FnMut() -> Result<Duration> + 'a>,
}

impl<'a> Subject<'a> {
    /// `run` says itself how long it took: what it prepares and clears away
    /// does not count.
    pub fn new(name: impl Into<String>, run: impl FnMut() -> Result<Duration> + 'a) -> Subject<'a> {
        Subject { name: name.into(), run: Box::new(run) }
    }
}

/// What one subject took, round by round, in milliseconds.
pub struct Series {
    pub name: String,
    pub rounds: Vec<f64>,
}

impl Series {
    pub fn median(&self) -> f64 {
        median(&self.rounds)
    }

    /// What 19 of 20 rounds did not exceed.
    pub fn p95(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() * 95 / 100).copied().unwrap_or(f64::NAN)
    }

    /// How many times as long as `other` this took, in the middle round.
    pub fn ratio(&self, other: &Series) -> f64 {
        let ratios: Vec<_> = self.rounds.iter().zip(&other.rounds).map(|(a, b)| a / b).collect();
        median(&ratios)
    }
}

/// Measures all subjects `rounds` times, after two rounds that do not count.
pub fn interleaved(rounds: usize, mut subjects: Vec<Subject<'_>>) -> Result<Vec<Series>> {
    const WARM_UP: usize = 2;
    let mut series: Vec<_> = subjects
        .iter()
        .map(|subject| Series { name: subject.name.clone(), rounds: Vec::with_capacity(rounds) })
        .collect();
    let mut order: Vec<_> = (0..subjects.len()).collect();
    let mut dice = Dice(1);
    for round in 0..rounds + WARM_UP {
        for index in 1..order.len() {
            order.swap(index, dice.below(index + 1));
        }
        for &subject in &order {
            let taken = (subjects[subject].run)().with_context(|| subjects[subject].name.clone())?;
            if round >= WARM_UP {
                series[subject].rounds.push(milliseconds(taken));
            }
        }
    }
    Ok(series)
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // Knuth's MMIX.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// How long `work` takes.
pub fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let begin = Instant::now();
    let result = work()?;
    Ok((begin.elapsed(), result))
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}
