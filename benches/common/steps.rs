//! Steps of streams at a context.

use std::time::Instant;

use qwenguard::{Guard, Stream};

use super::{RandomTokens, push_all, streams_at};

/// The most streams at a context; above `LONG` tokens only one.
const STREAMS: usize = 16;
const LONG: usize = 2000;

/// What one step does. Tables write it `16x1@1000`: 16 streams get 1 token each at context 1000.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    streams: usize,
    new: usize,
    context: usize,
}

impl Work {
    pub(crate) fn parse(text: &str) -> Self {
        let numbers: Vec<usize> = text.split(['x', '@']).filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [streams, new, context] => Work { streams, new, context },
            _ => panic!("{text} is not like 16x1@1000"),
        }
    }
}

/// A guard, with streams at a context that are kept for the next work.
pub(crate) struct Steps {
    pub(crate) guard: Guard,
    pub(crate) tokens: RandomTokens,
    context: usize,
    streams: Vec<Stream>,
}

impl Steps {
    pub(crate) fn new(guard: Guard) -> Self {
        let tokens = RandomTokens::new(&guard);
        Steps { guard, tokens, context: 0, streams: Vec::new() }
    }

    /// Milliseconds of each step, after one to warm up.
    pub(crate) fn run(&mut self, work: Work, times: usize) -> Vec<f64> {
        self.warm_up(work);
        (0..times).map(|_| self.step(work)).collect()
    }

    /// Has streams at the context, and makes one step.
    pub(crate) fn warm_up(&mut self, work: Work) {
        if self.context != work.context {
            self.streams.clear();
            let count = if work.context > LONG { 1 } else { STREAMS };
            self.streams = streams_at(&self.guard, &mut self.tokens, count, work.context);
            self.context = work.context;
        }
        self.step(work);
    }

    /// Milliseconds of one step, after which the streams are as before.
    pub(crate) fn step(&mut self, Work { streams, new, .. }: Work) -> f64 {
        let pieces: Vec<Vec<u32>> = (0..streams).map(|_| self.tokens.take(new)).collect();
        let start = Instant::now();
        push_all(&mut self.streams[..streams], &pieces);
        let time = start.elapsed();
        for stream in &mut self.streams[..streams] {
            let tokens = stream.push_tokens::<u32>(&[]).unwrap().final_tokens;
            stream.truncate_tokens(tokens - new).unwrap();
        }
        time.as_secs_f64() * 1e3
    }
}
