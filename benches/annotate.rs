//! Annotations on demand: `cargo bench --bench annotate -- BUNDLE`. `peers/annotate.py` talks to it, so that engines can
//! take turns. Commands are lines on standard input, answers are lines of JSON:
//!
//! - `label 64x1000`: 64 new answers are annotated in one call, only their levels; each has 1000 tokens of its own, a
//!   quarter of them in the question. See [`Run`] for the answer.
//! - `verdict 64x1000`: the whole verdicts.
//! - `info`: what the guard is made of.

use std::{
    io::{BufRead, stdin},
    path::Path,
    time::Instant,
};

use qwenguard::{AnnotateOptions, Annotation, Decoding, Guard, Message, Risk};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What was measured, and what another engine has to compute to decide the same.
#[derive(Serialize)]
struct Run {
    /// Milliseconds of the call: rendering and encoding, all steps, all decisions.
    ms: f64,
    /// Tokens that the engine computed.
    computed: usize,
    /// Steps of the engine.
    steps: usize,
    /// Tokens that all conversations begin with.
    prefix: usize,
    /// Of each conversation what is fed after those.
    texts: Vec<Vec<Chunk>>,
}

/// Tokens that are fed in one piece, up to the next decision.
#[derive(Serialize)]
struct Chunk {
    /// So many tokens are dropped before: a draft that was wrong.
    drop: usize,
    feed: usize,
    /// Those of them whose logits decide something.
    rows: Vec<usize>,
}

/// The bundle's pieces of an answer.
#[derive(Deserialize)]
struct Pieces {
    safety: Safety,
    categories: Categories,
    refusal: Refusal,
}

#[derive(Deserialize)]
struct Safety {
    begin: Piece,
    labels: Vec<Named>,
}

#[derive(Deserialize)]
struct Categories {
    begin: Piece,
    none: Piece,
    separator: Piece,
    names: Vec<Named>,
}

#[derive(Deserialize)]
struct Refusal {
    begin: Piece,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    piece: Piece,
}

#[derive(Deserialize)]
struct Piece {
    ids: Vec<u32>,
}

impl Piece {
    fn len(&self) -> usize {
        self.ids.len()
    }
}

/// Tokens of one of some names.
fn length(all: &[Named], name: &str) -> usize {
    all.iter().find(|named| named.name == name).expect("a name that the model may say").piece.len()
}

struct Bench {
    guard: Guard,
    pieces: Pieces,
    random: SmallRng,
    /// Tokens that all conversations begin with, and what was annotated to find out.
    prefix: usize,
}

impl Bench {
    fn open(bundle: &str) -> Self {
        let manifest = std::fs::read_to_string(Path::new(bundle).join("guard.toml")).unwrap();
        let pieces = toml::from_str::<toml::Table>(&manifest).unwrap()["answer"].clone().try_into().unwrap();
        let random = SmallRng::seed_from_u64(1);
        let mut bench = Bench { guard: Guard::open(bundle).unwrap(), pieces, random, prefix: 0 };
        // From now on the cache has it.
        let texts: Vec<Vec<Message>> = (0..8).map(|_| bench.conversation(40)).collect();
        let found = bench.annotate(&texts, Decoding::LabelOnly);
        let common = |other: &Annotation| {
            let pairs = found[0].prompt_ids.iter().zip(&other.prompt_ids);
            pairs.take_while(|(a, b)| a == b).count()
        };
        bench.prefix = found[1..].iter().map(common).min().unwrap();
        bench
    }

    fn annotate(&self, texts: &[Vec<Message>], decoding: Decoding) -> Vec<Annotation> {
        let found = self
            .guard
            .annotate_all(texts.iter().map(Vec::as_slice), &AnnotateOptions { decoding, ..AnnotateOptions::default() });
        found.into_iter().map(Result::unwrap).collect()
    }

    fn count(&self, text: &str) -> usize {
        self.guard.encode(text).unwrap().len()
    }

    /// A question and an answer of so many tokens together.
    fn conversation(&mut self, tokens: usize) -> Vec<Message> {
        let asked = tokens / 4;
        vec![Message::user(self.text(asked)), Message::assistant(self.text(tokens - asked))]
    }

    /// Random words of so many tokens.
    fn text(&mut self, tokens: usize) -> String {
        loop {
            let mut text = String::new();
            for _ in 0..tokens {
                text.extend((0..self.random.random_range(2..8)).map(|_| self.random.random_range('a'..='z')));
                text.push(' ');
            }
            // A word has at least one.
            let end = self.guard.encode(&text).unwrap()[tokens - 1].bytes.end;
            text.truncate(end);
            if self.count(&text) == tokens && !text.ends_with(' ') {
                return text;
            }
        }
    }

    fn run(&mut self, decoding: Decoding, texts: usize, tokens: usize) -> Run {
        let texts: Vec<Vec<Message>> = (0..texts).map(|_| self.conversation(tokens)).collect();
        let (before, start) = (self.guard.stats(), Instant::now());
        let found = self.annotate(&texts, decoding);
        let (after, ms) = (self.guard.stats(), start.elapsed().as_secs_f64() * 1e3);
        let run = Run {
            ms,
            computed: (after.tokens - before.tokens) as usize,
            steps: (after.steps - before.steps) as usize,
            prefix: self.prefix,
            texts: found.iter().map(|annotation| self.chunks(annotation, decoding)).collect(),
        };
        let fed: usize = run.texts.iter().flatten().map(|chunk| chunk.feed).sum();
        assert!(run.computed >= fed, "{} tokens were computed of {fed} that decide", run.computed);
        run
    }

    /// What decides an annotation, by the engine's rules: see `src/annotate/constrained.rs`.
    fn chunks(&self, annotation: &Annotation, decoding: Decoding) -> Vec<Chunk> {
        let Pieces { safety, categories, refusal } = &self.pieces;
        let begin = annotation.prompt_ids.len() - self.prefix + safety.begin.len();
        if decoding == Decoding::LabelOnly {
            return vec![Chunk { drop: 0, feed: begin, rows: vec![begin - 1] }];
        }
        let refusal = refusal.begin.len();
        let draft = length(&safety.labels, "Safe") + categories.begin.len() + categories.none.len() + refusal;
        let mut chunks = vec![Chunk { drop: 0, feed: begin + draft, rows: vec![begin - 1, begin + draft - 1] }];
        if annotation.risk == Risk::Safe {
            return chunks;
        }
        let level = length(&safety.labels, &annotation.risk.to_string()) + categories.begin.len();
        chunks.push(Chunk { drop: draft, feed: level, rows: vec![level - 1] });
        // A name decides whether another one follows, and the draft after it the refusal.
        let said = |length: usize, rows: &[usize]| Chunk {
            drop: 0,
            feed: length + refusal,
            rows: rows.iter().copied().chain([length + refusal - 1]).collect(),
        };
        if annotation.categories.is_empty() {
            chunks.push(said(categories.none.len(), &[]));
        }
        for (index, name) in annotation.categories.iter().enumerate() {
            if index > 0 {
                let separator = categories.separator.len();
                chunks.push(Chunk { drop: refusal, feed: separator, rows: vec![separator - 1] });
            }
            let name = length(&categories.names, name);
            chunks.push(said(name, &[name - 1]));
        }
        chunks
    }

    fn answer(&mut self, command: &str) -> Value {
        let number = |text: &str| text.parse().expect("a number");
        let words: Vec<&str> = command.split([' ', 'x']).collect();
        match words[..] {
            ["info"] => {
                let info = self.guard.info();
                json!({
                    "weights": info.weights, "cache": info.cache, "runtime": info.runtime,
                    "qwenguard": env!("CARGO_PKG_VERSION"),
                })
            }
            ["label", texts, tokens] => json!(self.run(Decoding::LabelOnly, number(texts), number(tokens))),
            ["verdict", texts, tokens] => json!(self.run(Decoding::Constrained, number(texts), number(tokens))),
            _ => panic!("{command}"),
        }
    }
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut bench = Bench::open(arguments.first().expect("the folder of a bundle"));
    for command in stdin().lock().lines() {
        println!("{}", bench.answer(&command.unwrap()));
    }
}
