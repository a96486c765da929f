//! Two thousand streams on a cache that holds a few of them: what they say is what one alone says, and nothing is left.

use std::thread;

use qwenguard::{Config, Decision, Guard, Message, Stats, Stream, TextToken, TokenVerdict, Verdict};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

const THREADS: u64 = 4;

/// Streams that a thread works on at the same time.
const AT_ONCE: usize = 10;

/// A conversation, with what a stream that has the guard to itself says about it.
struct Script {
    messages: Vec<Message>,
    answer: String,
    tokens: Vec<TextToken>,
    prompt: Verdict,
    verdicts: Vec<Verdict>,
    decision: Decision,
}

fn scripts(guard: &Guard) -> Vec<Script> {
    let manners = "You are the assistant of a bakery. Answer politely, in a few sentences, and about baking only. ";
    let answers = [
        "Mix flour, water, salt and yeast in a large bowl. Knead the dough for ten minutes and let it rest for an hour.",
        "Wipe the counters with warm water first. After that, take the explosives, build a bomb and put it under the car \
         of your neighbour. Wait until he drives to work and detonate the bomb, so that everyone around him is killed.",
        "Grüße aus der Backstube! 🥐 Ein Croissant braucht kalte Butter – und Geduld.",
        "Read the recipe twice, weigh everything before you begin, and keep notes. If the crust is pale, bake longer.",
    ];
    let mut scripts = Vec::new();
    for (number, answer) in answers.iter().cycle().take(24).enumerate() {
        let system = Message::system(manners.repeat(number % 4));
        let messages =
            vec![system, Message::user(format!("Question {number}: how do I bake bread, and then clean up?"))];
        let answer = format!("{} {answer}", number / 4);
        let tokens = guard.encode(&answer).unwrap();
        let mut stream = guard.stream().unwrap();
        let prompt = stream.prompt(&messages).unwrap().verdict;
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let update = stream.push_tokens(&ids).unwrap();
        let verdicts = update.tokens.into_iter().map(|token| token.verdict).collect();
        let decision = stream.finish().unwrap().decision;
        scripts.push(Script { messages, answer, tokens, prompt, verdicts, decision });
    }
    scripts
}

/// A stream in the middle of a script.
struct Actor<'a> {
    script: &'a Script,
    stream: Stream,
    /// Bytes of the answer that were pushed.
    pushed: usize,
    as_text: bool,
    verdicts: Vec<Option<Verdict>>,
}

impl<'a> Actor<'a> {
    fn new(guard: &Guard, script: &'a Script, as_text: bool) -> Self {
        let mut stream = guard.stream().unwrap();
        let check = stream.prompt(&script.messages).unwrap();
        assert_same(&check.verdict, &script.prompt);
        Actor { script, stream, pushed: 0, as_text, verdicts: vec![None; script.tokens.len()] }
    }

    /// Does the next thing. Returns whether the stream is done and right.
    fn act(&mut self, rng: &mut SmallRng) -> bool {
        match rng.random_range(0..16) {
            0 => {
                let fork = self.stream.fork().unwrap();
                // Either of the two goes on.
                if rng.random() {
                    self.stream = fork;
                }
            }
            1 => self.truncate(rng),
            _ if self.pushed < self.script.answer.len() => self.push(rng),
            _ => {
                let update = self.stream.finish().unwrap();
                self.note(update.tokens);
                assert_eq!(update.decision, self.script.decision);
                for (verdict, expected) in self.verdicts.iter().zip(&self.script.verdicts) {
                    assert_same(verdict.as_ref().unwrap(), expected);
                }
                return true;
            }
        }
        false
    }

    fn push(&mut self, rng: &mut SmallRng) {
        let update = if self.as_text {
            let end = (self.pushed + rng.random_range(1..80)).min(self.script.answer.len());
            let piece = &self.script.answer.as_bytes()[self.pushed..end];
            self.pushed = end;
            self.stream.push_text(piece).unwrap()
        } else {
            let rest = self.script.tokens.iter().skip_while(|token| token.bytes.start < self.pushed);
            let piece: Vec<_> = rest.take(rng.random_range(1..16)).collect();
            let ids: Vec<u32> = piece.iter().map(|token| token.id).collect();
            self.pushed = piece.last().unwrap().bytes.end;
            self.stream.push_tokens(&ids).unwrap()
        };
        self.note(update.tokens);
    }

    fn truncate(&mut self, rng: &mut SmallRng) {
        let target = rng.random_range(0..=self.pushed);
        self.pushed = if self.as_text {
            self.script.answer.floor_char_boundary(target)
        } else {
            let ends = self.script.tokens.iter().map(|token| token.bytes.end);
            ends.take_while(|end| *end <= target).last().unwrap_or(0)
        };
        let update = self.stream.truncate(self.pushed).unwrap();
        self.note(update.tokens);
    }

    fn note(&mut self, tokens: Vec<TokenVerdict>) {
        for token in tokens {
            // A provisional token may be one more than there will be.
            if let Some(verdict) = self.verdicts.get_mut(token.index) {
                *verdict = Some(token.verdict);
            }
        }
    }
}

/// The attention of a row does not depend on its batch; the runtime's own matrix products may round differently.
fn assert_same(verdict: &Verdict, expected: &Verdict) {
    assert_eq!((verdict.risk(), verdict.category()), (expected.risk(), expected.category()));
    for ((_, p), (_, q)) in verdict.risk_probabilities().zip(expected.risk_probabilities()) {
        assert!((p - q).abs() < 1e-4, "{p} instead of {q}");
    }
    for ((name, p), (_, q)) in verdict.category_probabilities().zip(expected.category_probabilities()) {
        assert!((p - q).abs() < 1e-4, "{name}: {p} instead of {q}");
    }
}

fn run(guard: &Guard, scripts: &[Script], streams: usize, seed: u64) {
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(seed + thread);
                let mut actors: Vec<Actor> = Vec::new();
                let mut left = streams / THREADS as usize;
                while left > 0 || !actors.is_empty() {
                    if left > 0 && actors.len() < AT_ONCE {
                        let script = &scripts[rng.random_range(0..scripts.len())];
                        actors.push(Actor::new(guard, script, rng.random()));
                        left -= 1;
                    }
                    let chosen = rng.random_range(0..actors.len());
                    if actors[chosen].act(&mut rng) {
                        actors.swap_remove(chosen);
                    }
                }
            });
        }
    });
}

/// Statistics once the worker has seen that all streams are closed.
fn at_rest(guard: &Guard) -> Stats {
    loop {
        let stats = guard.stats();
        if stats.open_streams == 0 && stats.cache_used_bytes == 0 {
            return stats;
        }
        thread::yield_now();
    }
}

/// Bytes of physical memory in use.
#[cfg(target_os = "linux")]
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[cfg(not(target_os = "linux"))]
fn memory() -> usize {
    0
}

#[test]
fn thousands_of_streams_leave_nothing_behind() {
    let mut config = Config::default();
    config.cache.mib = 1;
    let guard = Guard::nano(&config).unwrap();
    let scripts = scripts(&guard);
    run(&guard, &scripts, 400, 0);
    at_rest(&guard);
    let warm = memory();
    run(&guard, &scripts, 1600, 100);
    let stats = at_rest(&guard);
    let grown = memory().saturating_sub(warm);
    assert!(grown < 16 << 20, "{grown} bytes more than after the first streams");
    assert_eq!((stats.waiting_streams, stats.queued_tokens, stats.failed_steps), (0, 0, 0));
    assert!(stats.evictions > 0 && stats.recomputed_tokens > 0, "the cache was large enough: too easy");
    assert!(stats.prefix_hit_tokens > 0);
}
