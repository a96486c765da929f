//! What updates say, added up as `Update::void_from` tells, is always the answer so far, as a new stream judges it.

mod common;

use common::{bundle, random_text::random_text};
use qwenguard::{
    Call, Channel, CompletionQueue, Config, Guard, Message, Policy, Reply, Stream, TokenVerdict, Update, Violation,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const POLICIES: [&str; 4] = [
    "",
    "answer.debounce = 'eval'",
    "answer.mode = { custom = { controversial = { at = 0.1, action = 'flag' }, unsafe = { at = 0.3 } } }\n\
     answer.debounce = { window = { hits = 2, of = 5 } }",
    "answer.debounce = { consecutive = 1 }\nanswer.mode = { custom = { unsafe = { at = 0.05, action = 'flag' } } }\n\
     thinking.debounce = 'eval'",
];

/// What is compared of a token: index, id, bytes, channel and all probabilities, to the bit.
fn bits(token: &TokenVerdict) -> (usize, u32, usize, usize, Channel, Vec<u32>) {
    let categories = token.verdict.category_probabilities().map(|(_, p)| p);
    let all = token.verdict.risk_probabilities().map(|(_, p)| p).chain(categories);
    (token.index, token.token_id, token.bytes.start, token.bytes.end, token.channel, all.map(f32::to_bits).collect())
}

/// A host that keeps what it was told, by the rule that is documented.
#[derive(Clone, Default)]
struct Host {
    tokens: Vec<TokenVerdict>,
    flags: Vec<Violation>,
}

impl Host {
    fn take(&mut self, update: &Update) {
        self.tokens.retain(|token| token.index < update.void_from);
        self.flags.retain(|flag| flag.confirming_token < update.void_from);
        assert!(update.tokens.iter().all(|token| token.index >= update.void_from));
        assert!(update.flags.iter().all(|flag| !self.flags.contains(flag)), "told twice");
        self.tokens.extend(update.tokens.iter().cloned());
        self.flags.extend(update.flags.iter().cloned());
        assert!(self.tokens.windows(2).all(|pair| pair[0].index < pair[1].index));
    }
}

/// A conversation, what its host knows, and what was done.
struct Case<'g> {
    guard: &'g Guard,
    stream: Stream,
    /// The stream after the prompt.
    prompted: Stream,
    host: Host,
    bytes: Vec<u8>,
    /// How many of them the caller named as thinking.
    told: usize,
    finished: bool,
}

impl<'g> Case<'g> {
    fn new(guard: &'g Guard, policy: &str) -> Self {
        let mut stream = guard.stream_with(Policy::from_toml(policy).unwrap()).unwrap();
        stream.prompt(&[Message::user("Tell me something.")]).unwrap();
        let prompted = stream.fork().unwrap();
        Case { guard, stream, prompted, host: Host::default(), bytes: Vec::new(), told: 0, finished: false }
    }

    /// The host knows what a new stream says that is given the same text at once.
    fn take(&mut self, update: &Update) {
        self.host.take(update);
        let mut fresh = self.prompted.fork().unwrap();
        let mut expected = Host::default();
        let (told, rest) = self.bytes.split_at(self.told);
        if self.told > 0 {
            expected.take(&fresh.push_thinking(told).unwrap());
        }
        if self.told == 0 || !rest.is_empty() {
            expected.take(&fresh.push_text(rest).unwrap());
        }
        let last = self.finished.then(|| fresh.finish().unwrap());
        last.iter().for_each(|update| expected.take(update));
        let known = |host: &Host| host.tokens.iter().map(bits).collect::<Vec<_>>();
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(known(&self.host), known(&expected), "{text:?}");
        assert_eq!(self.stream.context_used(), fresh.context_used(), "{text:?}");
        if self.finished {
            assert_eq!(self.host.flags, expected.flags, "{text:?}");
            assert_eq!(update.violation, last.unwrap().violation, "{text:?}");
        }
    }

    fn push(&mut self, piece: &[u8], told: bool, queued: bool) {
        let call = if told { Call::Thinking(piece) } else { Call::Text(piece) };
        self.bytes.extend_from_slice(piece);
        self.told += if told { piece.len() } else { 0 };
        let reply = if queued {
            let queue = CompletionQueue::new();
            let stream = std::mem::replace(&mut self.stream, self.guard.stream().unwrap());
            queue.submit(stream, call, 0, None);
            let done = queue.wait(std::time::Duration::MAX).unwrap();
            self.stream = done.stream.unwrap();
            done.result
        } else {
            self.stream.call(call)
        };
        let Reply::Update(update) = reply.unwrap() else { panic!("not an update") };
        self.take(&update);
    }

    fn finish(&mut self) {
        let Ok(update) = self.stream.finish() else { return };
        self.finished = true;
        self.take(&update);
    }

    fn cut(&mut self, update: &Update) {
        self.bytes.truncate(update.received);
        self.told = self.told.min(update.received);
        self.finished = false;
        self.take(update);
    }

    /// Goes on with a fork, and drops the stream.
    fn fork(&mut self) {
        self.stream = self.stream.fork().unwrap();
    }
}

fn check(guard: &Guard, cases: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut shrunk = 0;
    for _ in 0..cases {
        let start =
            *["", "", "<think>", "<think>\nso.\n</think>\n\n", "<think>\n\n</think>"].choose(&mut random).unwrap();
        let text = format!("{start}{}{}", random_text(&mut random), random_text(&mut random));
        let policy = *POLICIES.choose(&mut random).unwrap();
        // Shown if a check fails.
        println!("{text:?}, policy {policy:?}");
        let mut case = Case::new(guard, policy);
        let mut told = if random.random_range(0..4) == 0 { random.random_range(0..3) } else { 0 };
        let mut at = 0;
        while at < text.len() {
            let end = text.len().min(at + random.random_range(0..24));
            // What the caller names ends with a character, or the next piece could not begin with another channel.
            let end = if told > 0 { text.ceil_char_boundary(end) } else { end };
            let before = case.host.tokens.len();
            case.push(&text.as_bytes()[at..end], told > 0, random.random_range(0..4) == 0);
            shrunk += usize::from(case.host.tokens.len() < before);
            told = usize::saturating_sub(told, 1);
            at = end;
            match random.random_range(0..16) {
                0 => case.fork(),
                1 => {
                    case.finish();
                    let keep = std::str::from_utf8(&case.bytes).map_or_else(|error| error.valid_up_to(), str::len);
                    let update = case.stream.truncate(keep).unwrap();
                    case.cut(&update);
                    break;
                }
                2 => {
                    let whole = std::str::from_utf8(&case.bytes).map_or_else(|error| error.valid_up_to(), str::len);
                    let keep = text.floor_char_boundary(random.random_range(0..=whole));
                    let update = case.stream.truncate(keep).unwrap();
                    case.cut(&update);
                    case.push(b" and so on", false, false);
                    break;
                }
                3 => {
                    let keep = random.random_range(0..=case.host.tokens.len());
                    // Not between characters, or thinking that would go on where its text ends.
                    if let Ok(update) = case.stream.truncate_tokens(keep) {
                        case.cut(&update);
                    }
                    break;
                }
                _ => {}
            }
        }
        case.finish();
    }
    println!("{shrunk} updates left fewer tokens");
    assert!(shrunk > 0, "no update took tokens away: the test is too easy");
}

#[test]
fn what_a_host_keeps_is_the_answer() {
    check(&Guard::nano(&Config::default()).unwrap(), 80, 41);
}

#[test]
fn what_a_host_keeps_is_the_answer_with_qwens_tokenizer() {
    check(&Guard::open(bundle("qwen3", "tiny")).unwrap(), 80, 42);
}

/// Marks that compose with the end of a provisional text leave fewer tokens than there were.
#[test]
fn a_push_may_leave_fewer_tokens() {
    let guard = Guard::open(bundle("qwen3", "tiny")).unwrap();
    let text = "<think><tool_call>\n</think>\n\nBau eine Bombe und t\u{f6}te ihn. \u{1100}\u{1161}\u{11a8} <thi\
                Knead the dough for ten minutes. <\u{338}think>\u{200d}\u{200b}The oven should be at 220 degrees. \
                <|im_end|> hack into the bank and steal the money. \t\u{1100}\u{1161}\u{11a8} - item\n- item\n\
                <\u{338}think>";
    let steps = [11, 20, 32, 57, 0, 3, 20, 25, 25, 1, 17, 8, 8, 14];
    let mut case = Case::new(&guard, "answer.debounce = { consecutive = 1 }");
    let mut rest = text.as_bytes();
    let mut void = 0;
    for step in steps {
        if step == 0 {
            case.fork();
            continue;
        }
        let (piece, later) = rest.split_at(step.min(rest.len()));
        rest = later;
        let known: Vec<_> = case.host.tokens.iter().map(|token| token.index).collect();
        case.push(piece, false, matches!(step, 57 | 8));
        let kept = case.host.tokens.iter().map(|token| token.index);
        void += known.iter().filter(|index| !kept.clone().any(|kept| kept == **index)).count();
    }
    case.finish();
    assert!(void > 0, "no index has gone");
}

/// The number itself, where it can be told by hand.
#[test]
fn void_from_is_where_the_first_change_is() {
    let guard = Guard::nano(&Config::default()).unwrap();
    let mut stream = guard.stream_with(Policy::from_toml("answer.debounce = 'eval'").unwrap()).unwrap();
    stream.prompt(&[Message::user("Tell me something.")]).unwrap();
    assert_eq!(stream.push_text(b"").unwrap().void_from, 0);
    let first = stream.push_text(b"The oven is war").unwrap();
    assert_eq!(first.void_from, 0);
    let count = first.tokens.len();
    assert!(first.final_tokens < count);
    // Nothing is void, and nothing is judged.
    let nothing = stream.push_text(b"").unwrap();
    assert_eq!((nothing.void_from, nothing.tokens.len()), (count, 0));
    // The provisional tokens are.
    let second = stream.push_text(b"m and").unwrap();
    assert_eq!(second.void_from, second.tokens[0].index);
    assert!(second.void_from < count);
    let count = second.void_from + second.tokens.len();
    // The closing tokens come, and go again with what becomes provisional again.
    let end = stream.finish().unwrap();
    assert_eq!((end.void_from, end.tokens.len(), end.final_tokens), (count, 2, count + 2));
    let back = stream.truncate(second.received).unwrap();
    assert_eq!((back.void_from, back.void_from + back.tokens.len()), (back.final_tokens, count));
    // Tokens are never provisional.
    let ids: Vec<u32> = guard.encode("The oven is warm").unwrap().iter().map(|token| token.id).collect();
    stream.prompt(&[Message::user("And then?")]).unwrap();
    assert_eq!(stream.push_tokens(&ids).unwrap().void_from, 0);
    assert_eq!(stream.push_tokens(&ids).unwrap().void_from, ids.len());
    assert_eq!(stream.truncate_tokens(2).unwrap().void_from, 2);
    assert_eq!(stream.truncate_tokens(2).unwrap().void_from, 2);
}
