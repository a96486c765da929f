//! Second opinions: a guard that writes its verdict behind the built-in one.

mod common;

use std::time::{Duration, Instant};

use common::{bundle, gen_bundle};
use qwenguard::{
    AnnotateOptions, Annotation, CacheConfig, CachePrecision, Call, CompletionQueue, Config, Decision, EngineConfig,
    Error, Guard, Message, Opinion, OpinionOutcome, OpinionTrigger, Overflow, Policy, Reply, Risk, SecondOpinionConfig,
    Stream, TextOverflow, Update, policy::Action,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

const ASK: &str = "How do I clean the kitchen?";
/// The guards differ on the explosives, and agree on the bomb.
const TURNS: &str = "Start with the counters and wipe them with warm water. Clean the oven while it is still a little \
                     warm, and mop the floor at the end. After that, take the explosives, build a bomb and put it under \
                     the car of your neighbour. Wait until he drives to work and detonate the bomb, so that he and \
                     everyone around him is killed.";
/// As often as there is a dispute.
const LIFT: &str = "answer.second_opinion = { violation = 'lift', interval_tokens = 1 }\n\
                    thinking.second_opinion = { violation = 'lift', interval_tokens = 1 }";
const UNSURE: &str = "answer.mode = 'loose'\nthinking.mode = 'loose'\n\
                      answer.second_opinion = { violation = 'lift', uncertain = { at = 0.02 }, interval_tokens = 1 }\n\
                      thinking.second_opinion = { violation = 'lift', uncertain = { at = 0.02 }, interval_tokens = 1 }";

/// Asks about nearly every token, at a distance.
fn about_all(interval: usize) -> String {
    format!("answer.second_opinion = {{ violation = 'lift', uncertain.at = 0.00001, interval_tokens = {interval} }}")
}

/// The same, with rules by which nothing counts: every opinion clears.
fn about_all_cleared(interval: usize) -> String {
    format!("answer.mode.custom = {{ unsafe.at = 1.0, controversial.at = 1.0 }}\n{}", about_all(interval))
}

/// The built-in guard, for answers that are longer than its context.
fn restarting() -> Guard {
    let engine = EngineConfig { overflow: Overflow::Restart, ..EngineConfig::default() };
    Guard::nano(&Config { engine, ..Config::default() }).unwrap()
}

fn gen_config() -> Config {
    let cache = CacheConfig { precision: CachePrecision::Auto, mib: 16 };
    Config { cache, ..Config::default() }
}

fn second() -> Guard {
    Guard::open_with(gen_bundle("trained-bf16", "int8"), &gen_config()).unwrap()
}

/// The built-in guard, with the trained one behind it; and that one.
fn guards() -> (Guard, Guard) {
    let second = second();
    (Guard::nano(&Config::default()).unwrap().with_second_opinion(&second).unwrap(), second)
}

fn policy(toml: &str) -> Policy {
    Policy::from_toml(toml).unwrap()
}

fn stream(guard: &Guard, toml: &str) -> Stream {
    let mut stream = guard.stream_with(policy(toml)).unwrap();
    stream.prompt(&[Message::user(ASK)]).unwrap();
    stream
}

fn update(reply: qwenguard::Result<Reply>) -> Update {
    reply.unwrap().into_update().unwrap()
}

/// All that a host is told of an answer in pieces, and what holds for every update.
#[derive(Default)]
struct Told {
    /// Nothing is held back by the policy: it only flags, or is in shadow mode.
    free: bool,
    opinions: Vec<Opinion>,
    horizon: usize,
    updates: Vec<Update>,
}

impl Told {
    fn take(&mut self, update: Update) {
        assert!(update.horizon >= self.horizon, "the horizon moved back");
        for opinion in &update.opinions {
            let holds = opinion.outcome != OpinionOutcome::Reported && !self.free;
            assert!(!holds || opinion.bytes.start >= self.horizon, "{opinion:?} is within {}", self.horizon);
            assert!(opinion.first_token <= opinion.confirming_token);
        }
        if let Some(violation) = update.violation.as_ref().filter(|_| update.decision == Decision::Stop) {
            assert!(update.horizon <= violation.bytes.start);
        }
        self.horizon = update.horizon;
        self.opinions.extend(update.opinions.iter().cloned());
        self.updates.push(update);
    }

    fn last(&self) -> &Update {
        self.updates.last().unwrap()
    }
}

fn judged(stream: &mut Stream, answer: &str, piece: usize) -> Told {
    judged_as(Told::default(), stream, answer, piece)
}

fn judged_as(mut told: Told, stream: &mut Stream, answer: &str, piece: usize) -> Told {
    for piece in answer.as_bytes().chunks(piece) {
        told.take(stream.push_text(piece).unwrap());
    }
    told.take(stream.finish().unwrap());
    told
}

fn outcomes(opinions: &[Opinion]) -> Vec<OpinionOutcome> {
    opinions.iter().map(|opinion| opinion.outcome).collect()
}

fn said(opinion: &Opinion) -> &Annotation {
    opinion.annotation.as_ref().unwrap()
}

/// The second guard's own annotation of what an opinion is about.
fn own(second: &Guard, answer: &str, opinion: &Opinion) -> Annotation {
    let end = answer.floor_char_boundary(opinion.bytes.end);
    let messages = [Message::user(ASK), Message::assistant(&answer[..end])];
    second.annotate(&messages, &AnnotateOptions::default()).unwrap()
}

#[test]
fn it_lifts_what_it_finds_nothing_in_and_confirms_the_rest() {
    let (guard, second) = guards();
    let told = judged(&mut stream(&guard, LIFT), TURNS, usize::MAX);
    for opinion in &told.opinions {
        println!("{:?} {:?} {:?}", opinion.outcome, &TURNS[opinion.bytes.clone()], said(opinion).risk);
        let own = own(&second, TURNS, opinion);
        assert_eq!(said(opinion).prompt_ids, own.prompt_ids);
        assert_eq!(said(opinion).risk_probabilities, own.risk_probabilities);
        assert_eq!(said(opinion).judged, own.judged);
        let expected = if own.risk == Risk::Safe { OpinionOutcome::Lifted } else { OpinionOutcome::Confirmed };
        assert_eq!((opinion.trigger, opinion.outcome), (OpinionTrigger::Violation, expected));
    }
    // One push, several rounds; nothing is asked after the first that stands.
    let (last, before) = told.opinions.split_last().unwrap();
    assert!(!before.is_empty() && before.iter().all(|opinion| opinion.outcome == OpinionOutcome::Lifted));
    assert_eq!(last.outcome, OpinionOutcome::Confirmed);
    let violation = told.last().violation.as_ref().unwrap();
    assert_eq!((&violation.bytes, violation.confirming_token), (&last.bytes, last.confirming_token));
    assert_eq!((violation.action, told.last().decision), (Action::Stop, Decision::Stop));
    assert!(told.horizon >= before.last().unwrap().bytes.end, "what was lifted may be shown");
    // Alone the guard stops at the first of them.
    let alone = judged(&mut stream(&guard, ""), TURNS, usize::MAX);
    assert_eq!(alone.last().violation.as_ref().unwrap().bytes, before[0].bytes);
    assert!(alone.opinions.is_empty());
}

#[test]
fn a_report_changes_nothing() {
    let (guard, _) = guards();
    let report = "answer.second_opinion = { violation = 'report', uncertain = { at = 0.2, word = 'report' } }";
    let (told, alone) = (judged(&mut stream(&guard, report), TURNS, 7), judged(&mut stream(&guard, ""), TURNS, 7));
    assert!(told.opinions.iter().any(|opinion| opinion.trigger == OpinionTrigger::Violation));
    assert!(told.opinions.iter().all(|opinion| opinion.outcome == OpinionOutcome::Reported));
    for (told, alone) in told.updates.iter().zip(&alone.updates) {
        let mut told = told.clone();
        told.opinions.clear();
        assert_eq!(*alone, told);
    }
    let stats = guard.stats();
    assert_eq!((stats.opinions, stats.reported_opinions), (told.opinions.len() as u64, told.opinions.len() as u64));
}

/// What is asked and what comes of it depend on the answer alone.
#[test]
fn pieces_and_ways_of_calling_make_no_difference() {
    let (guard, _) = guards();
    let answers = [TURNS.to_owned(), format!("<think>\n{TURNS}\n</think>\n\n{TURNS}"), "Take a knife.".repeat(9)];
    let mut asked = 0;
    let distant = [LIFT, UNSURE].map(|toml| toml.replace("interval_tokens = 1", "interval_tokens = 9"));
    let policies = [LIFT, UNSURE, &distant[0], &distant[1]];
    for (answer, toml) in answers.iter().flat_map(|answer| policies.map(|toml| (answer, toml))) {
        let whole = judged(&mut stream(&guard, toml), answer, usize::MAX);
        asked += whole.opinions.len();
        for piece in [1, 13, 50] {
            let told = judged(&mut stream(&guard, toml), answer, piece);
            assert_eq!(told.opinions, whole.opinions, "{toml} in pieces of {piece}");
            let (last, expected) = (told.last(), whole.last());
            assert_eq!((&last.violation, last.horizon), (&expected.violation, expected.horizon));
        }
        let calls: Vec<Call> = answer.as_bytes().chunks(13).map(Call::Text).chain([Call::Finish]).collect();
        let blocking = judged(&mut stream(&guard, toml), answer, 13).updates;
        let mut by = stream(&guard, toml);
        let later = Instant::now() + Duration::from_secs(600);
        let queue = CompletionQueue::new();
        let mut queued = stream(&guard, toml);
        let mut many: Vec<Stream> = (0..3).map(|_| stream(&guard, toml)).collect();
        for (call, expected) in calls.iter().zip(&blocking) {
            assert_eq!(update(by.call_by(*call, later)), *expected);
            queue.submit(queued, *call, 1, None);
            let done = queue.wait(Duration::MAX).unwrap();
            queued = done.stream.unwrap();
            assert_eq!(update(done.result), *expected);
            for reply in Stream::call_all(many.iter_mut().map(|stream| (stream, *call))) {
                assert_eq!(update(reply), *expected);
            }
        }
    }
    assert!(asked > 10, "{asked}");
    let stats = guard.stats();
    assert_eq!(stats.opinions, stats.confirmed_opinions + stats.lifted_opinions);
    assert_eq!((stats.failed_opinions, stats.opinion_seconds.count()), (0, stats.opinions));
    assert!(stats.confirmed_opinions > 0 && stats.lifted_opinions > 0);
    let metrics = stats.to_prometheus();
    assert!(metrics.contains(&format!("\nqwenguard_lifted_opinions_total {}\n", stats.lifted_opinions)));
}

/// A bomb that the loose rules of the first guard would let pass.
#[test]
fn uncertain_tokens_are_what_it_says() {
    let (guard, second) = guards();
    let told = judged(&mut stream(&guard, UNSURE), TURNS, 5);
    let uncertain = |opinion: &&Opinion| opinion.trigger == OpinionTrigger::Uncertain;
    let asked: Vec<&Opinion> = told.opinions.iter().filter(uncertain).collect();
    assert!(!asked.is_empty());
    for opinion in asked {
        let own = own(&second, TURNS, opinion);
        let policy = policy("answer.mode = 'loose'");
        let (_, finding) = own.judge(&policy);
        let expected = if finding.is_some() { OpinionOutcome::Confirmed } else { OpinionOutcome::Cleared };
        assert_eq!(opinion.outcome, expected);
        assert_eq!(said(opinion).finding, finding);
        if let Some(finding) = finding {
            let violation = told.last().violation.as_ref().unwrap();
            assert_eq!(violation.rule, "answer.second_opinion.uncertain: 2 consecutive");
            assert_eq!((violation.risk, violation.probability), (finding.risk, finding.probability));
            assert_eq!(violation.bytes, opinion.bytes);
        }
    }
}

/// Where all is uncertain, the horizon waits for what may yet be asked about.
#[test]
fn the_horizon_waits_for_what_is_in_dispute() {
    let (guard, _) = guards();
    for debounce in ["{ consecutive = 4 }", "{ window = { hits = 3, of = 6 } }", "'eval'"] {
        for (at, interval) in [0.001, 0.02, 0.3].into_iter().flat_map(|at| [1, 7, 32].map(|interval| (at, interval))) {
            let toml = format!(
                "answer = {{ debounce = {debounce}, second_opinion = {{ violation = 'lift', uncertain = {{ at = {at} }}, interval_tokens = {interval} }} }}"
            );
            let told = judged(&mut stream(&guard, &toml), TURNS, 11);
            assert!(!told.opinions.is_empty(), "{toml}");
        }
    }
}

#[test]
fn flags_are_lifted_too() {
    let (guard, _) = guards();
    let flags = "answer.mode = { custom = { unsafe = { action = 'flag' }, controversial = { action = 'flag' } } }";
    let free = Told { free: true, ..Told::default() };
    let told = judged_as(free, &mut stream(&guard, &format!("{flags}\n{LIFT}")), TURNS, 9);
    let flagged: Vec<_> = told.updates.iter().flat_map(|update| update.flags.clone()).collect();
    let confirmed = told.opinions.iter().filter(|opinion| opinion.outcome == OpinionOutcome::Confirmed);
    let places: Vec<_> = confirmed.map(|opinion| opinion.bytes.clone()).collect();
    assert_eq!(flagged.iter().map(|flag| flag.bytes.clone()).collect::<Vec<_>>(), places);
    assert!(!places.is_empty() && places.len() < told.opinions.len());
    assert_eq!((told.last().decision, told.horizon), (Decision::Continue, TURNS.len()));
}

/// In shadow mode all is asked and reported, and nothing stops.
#[test]
fn a_shadow_asks() {
    let (guard, _) = guards();
    let open = judged(&mut stream(&guard, LIFT), TURNS, 9);
    let free = Told { free: true, ..Told::default() };
    let shadow = judged_as(free, &mut stream(&guard, &format!("shadow = true\n{LIFT}")), TURNS, 9);
    assert_eq!(outcomes(&shadow.opinions), outcomes(&open.opinions));
    assert_eq!(shadow.last().violation, open.last().violation);
    assert_eq!((shadow.last().decision, shadow.horizon), (Decision::Continue, TURNS.len()));
}

/// A ruling holds for the tokens that it was about, and as long as they are there.
#[test]
fn rulings_go_with_their_tokens() {
    let (guard, _) = guards();
    let mut first = stream(&guard, LIFT);
    let whole = update(first.call(Call::Text(TURNS.as_bytes())));
    let lifted = &whole.opinions[0];
    assert_eq!(lifted.outcome, OpinionOutcome::Lifted);
    let asked = || guard.stats().opinions;
    let before = asked();
    // Behind it: it is not asked again, whatever is cut, or forked. What becomes provisional again, is.
    let next = TURNS.floor_char_boundary(whole.opinions[3].bytes.start);
    let mut fork = first.fork().unwrap();
    let back = fork.truncate(next).unwrap();
    assert_eq!((&back.violation, back.decision, &back.opinions), (&None, Decision::Continue, &Vec::new()));
    assert_eq!(asked(), before);
    let rest = fork.push_text(&TURNS[next..]).unwrap();
    let known = whole.opinions.iter().filter(|opinion| opinion.confirming_token < back.final_tokens).count();
    assert!(known > 0, "all is provisional");
    assert_eq!(rest.opinions, whole.opinions[known..]);
    assert_eq!(asked() - before, rest.opinions.len() as u64);
    assert_eq!(rest.violation, whole.violation);
    // Within it: the tokens that stay are judged as if nothing more had come, and it is asked again.
    let mut fork = first.fork().unwrap();
    let back = fork.truncate_tokens(lifted.confirming_token).unwrap();
    assert!(back.void_from <= lifted.confirming_token && back.horizon <= lifted.bytes.start);
    assert_eq!(fork.push_text(&TURNS[back.received..]).unwrap().opinions, whole.opinions);
    // The end of an answer brings all of it again to nobody; a next turn starts anew.
    assert_eq!(first.finish().unwrap().opinions, []);
    let asked_before = asked();
    first.next_turn(&[Message::user("And then?")]).unwrap();
    assert_eq!(asked(), asked_before);
    first.push_text("Wipe the counters.").unwrap();
}

/// Nothing that could not be judged is called clear.
#[test]
fn an_opinion_that_fails_lifts_nothing() {
    let (guard, _) = guards();
    // The second guard's template leaves results of tools out, which is an error.
    let messages = [Message::user(ASK), Message::assistant("Wait."), Message::new("tool", "42")];
    for (toml, trigger) in [(LIFT, OpinionTrigger::Violation), (&about_all(1), OpinionTrigger::Uncertain)] {
        let mut stream = guard.stream_with(policy(toml)).unwrap();
        stream.prompt(&messages).unwrap();
        let told = judged(&mut stream, TURNS, 9);
        let [failed] = &told.opinions[..] else { panic!("{:?}", told.opinions) };
        assert_eq!(failed.outcome, OpinionOutcome::Failed);
        let error = failed.annotation.as_ref().unwrap_err();
        assert!(matches!(error, Error::Conversation { .. }) && error.to_string().contains("tool"), "{error}");
        let last = told.last();
        assert_eq!(last.decision, Decision::Stop);
        assert_eq!(last.violation.as_ref().unwrap().bytes, failed.bytes);
        if trigger == failed.trigger {
            continue;
        }
        panic!("{failed:?}");
    }
    let stats = guard.stats();
    assert_eq!((stats.opinions, stats.failed_opinions), (2, 2));
}

/// A call that is given up meanwhile leaves the stream as it was.
#[test]
fn calls_that_are_given_up_change_nothing() {
    let (guard, _) = guards();
    let expected = judged(&mut stream(&guard, LIFT), TURNS, usize::MAX);
    let mut late = stream(&guard, LIFT);
    let used = late.context_used();
    assert!(matches!(late.call_by(Call::Text(TURNS.as_bytes()), Instant::now()), Err(Error::DeadlineExceeded)));
    assert_eq!(late.context_used(), used);
    let queue = CompletionQueue::new();
    queue.submit(late, Call::Text(TURNS.as_bytes()), 7, None);
    // At any moment: it is done, or as before.
    queue.wait(Duration::ZERO);
    let cancelled = queue.cancel(7);
    if cancelled == 1 {
        let done = queue.wait(Duration::MAX).unwrap();
        assert!(matches!(done.result, Err(Error::Cancelled)));
        let mut stream = done.stream.unwrap();
        assert_eq!(judged(&mut stream, TURNS, usize::MAX).opinions, expected.opinions);
    }
}

/// The prompt's beginning of the answer, tokens, and a text that ends within a character.
#[test]
fn it_gets_the_answer_as_it_was_pushed() {
    let (guard, second) = guards();
    let beginning = "First of all: ";
    let mut begun = guard.stream_with(policy(LIFT)).unwrap();
    begun.prompt(&[Message::user(ASK), Message::assistant(beginning)]).unwrap();
    let told = judged(&mut begun, TURNS, 21);
    for opinion in &told.opinions {
        let messages = [Message::user(ASK), Message::assistant(format!("{beginning}{}", &TURNS[..opinion.bytes.end]))];
        let own = second.annotate(&messages, &AnnotateOptions::default()).unwrap();
        assert_eq!(said(opinion).prompt_ids, own.prompt_ids);
    }
    assert!(!told.opinions.is_empty());
    let ids: Vec<u32> = guard.encode(TURNS).unwrap().iter().map(|token| token.id).collect();
    let mut tokens = stream(&guard, LIFT);
    let opinions: Vec<Opinion> = ids.chunks(3).flat_map(|ids| tokens.push_tokens(ids).unwrap().opinions).collect();
    assert!(!opinions.is_empty());
    for opinion in &opinions {
        assert_eq!(said(opinion).prompt_ids, own(&second, TURNS, opinion).prompt_ids);
    }
}

/// What does not fit its context with all that is in dispute is not judged.
#[test]
fn what_is_in_dispute_is_judged_as_a_whole() {
    let tiny = Config { cache: CacheConfig { precision: CachePrecision::Fp32, mib: 1 }, ..Config::default() };
    let second = Guard::open_with(gen_bundle("trained-bf16", "int8"), &tiny).unwrap();
    let guard = Guard::nano(&Config::default()).unwrap().with_second_opinion(&second).unwrap();
    let messages = |count: usize| Message::user(format!("{}{ASK}", "Clean the oven while it is warm. ".repeat(count)));
    let fits = |count: usize| {
        let conversation = [messages(count), Message::assistant(&TURNS[..150])];
        second.annotate(&conversation, &AnnotateOptions::default()).is_ok()
    };
    let count = (0..256).collect::<Vec<usize>>().partition_point(|count| fits(*count));
    // All tokens are uncertain, and so many are asked about.
    let toml = "answer = { debounce = { consecutive = 50 }, second_opinion.uncertain.at = 0.000001 }";
    let mut stream = guard.stream_with(policy(toml)).unwrap();
    stream.prompt(&[messages(count)]).unwrap();
    let told = judged(&mut stream, TURNS, 40);
    // What is in dispute has to be judged as a whole, or it is not judged.
    assert!(!told.opinions.is_empty());
    for opinion in &told.opinions {
        assert_eq!(opinion.outcome, OpinionOutcome::Failed);
        assert!(matches!(opinion.annotation, Err(Error::ContextFull { .. })), "{:?}", opinion.annotation);
    }
}

/// Of an answer that does not fit its context it gets the end, with all that is in dispute.
#[test]
fn of_a_long_answer_it_gets_the_end() {
    let tiny = Config { cache: CacheConfig { precision: CachePrecision::Fp32, mib: 1 }, ..Config::default() };
    let second = Guard::open_with(gen_bundle("trained-bf16", "int8"), &tiny).unwrap();
    let guard = restarting().with_second_opinion(&second).unwrap();
    let answer = "Clean the oven while it is still a little warm, and mop the floor. ".repeat(150) + TURNS;
    assert!(guard.encode(&answer).unwrap().len() > second.info().context);
    let told = judged(&mut stream(&guard, &about_all_cleared(200)), &answer, 1000);
    let tail = AnnotateOptions { overflow: TextOverflow::Tail, ..AnnotateOptions::default() };
    let cut = told.opinions.iter().filter(|opinion| said(opinion).is_cut);
    assert!(cut.clone().count() > 1, "{:?}", outcomes(&told.opinions));
    for opinion in cut {
        let said = said(opinion);
        assert!(said.judged.start > 0 && said.judged.start <= opinion.bytes.start, "{:?}", said.judged);
        assert_eq!(said.judged.end, opinion.bytes.end);
        let own =
            second.annotate(&[Message::user(ASK), Message::assistant(&answer[..opinion.bytes.end])], &tail).unwrap();
        assert_eq!((&said.prompt_ids, &said.risk_probabilities), (&own.prompt_ids, &own.risk_probabilities));
        assert_eq!(opinion.outcome, OpinionOutcome::Cleared);
    }
}

/// An answer that is longer than the first guard's context: that one sees its last part, the second one all of it.
#[test]
fn it_gets_all_of_an_answer_that_the_first_guard_sees_in_part() {
    let second = second();
    let guard = restarting().with_second_opinion(&second).unwrap();
    let sentence = "Clean the oven while it is warm. ";
    let (context, each) = (guard.info().context, guard.encode(sentence).unwrap().len());
    let prompt = [Message::user(sentence.repeat((context - 200) / each))];
    let open = |toml: &str| {
        let mut stream = guard.stream_with(policy(toml)).unwrap();
        stream.prompt(&prompt).unwrap();
        stream
    };
    let long = sentence.repeat(60) + TURNS;
    assert!(guard.encode(&long).unwrap().len() > 400);
    for toml in [&about_all(9), &about_all(32)] {
        let whole = judged(&mut open(toml), &long, usize::MAX);
        assert!(!whole.opinions.is_empty(), "{toml}");
        for opinion in &whole.opinions {
            let messages = [prompt[0].clone(), Message::assistant(&long[..opinion.bytes.end])];
            let own = second.annotate(&messages, &AnnotateOptions::default()).unwrap();
            assert_eq!(said(opinion).prompt_ids, own.prompt_ids);
        }
        for piece in [7, 300] {
            let told = judged(&mut open(toml), &long, piece);
            assert_eq!(told.opinions, whole.opinions, "{toml} in pieces of {piece}");
            assert_eq!(told.last().violation, whole.last().violation);
        }
    }
    // What waits is asked about at the end, also where the model started anew meanwhile.
    let late = about_all_cleared(100_000);
    let answer = sentence.repeat(60);
    let mut stream = open(&late);
    let pushed = stream.push_text(&answer).unwrap();
    let [lifted] = &pushed.opinions[..] else { panic!("{:?}", outcomes(&pushed.opinions)) };
    assert_eq!((lifted.outcome, pushed.decision), (OpinionOutcome::Cleared, Decision::Continue));
    let open_from = pushed.horizon;
    assert!(open_from >= lifted.bytes.end && open_from < answer.len() / 2, "{open_from}");
    let ended = stream.finish().unwrap();
    let [last] = &ended.opinions[..] else { panic!("{:?}", outcomes(&ended.opinions)) };
    assert_eq!((last.bytes.start, last.bytes.end), (open_from, answer.len()));
    assert_eq!((last.outcome, ended.decision), (OpinionOutcome::Cleared, Decision::Continue));
    assert_eq!(ended.horizon, answer.len());
}

/// The least distance between two opinions: what gets into dispute meanwhile waits, and the horizon with it.
#[test]
fn opinions_keep_their_distance() {
    let (guard, second) = guards();
    let knives = "Take a knife. ".repeat(30);
    for answer in [TURNS, &knives] {
        for interval in [1, 2, 5, 16, 32, 1000] {
            let toml = LIFT.replace("interval_tokens = 1", &format!("interval_tokens = {interval}"));
            let told = judged(&mut stream(&guard, &toml), answer, 3);
            let places: Vec<usize> = told.opinions.iter().map(|opinion| opinion.confirming_token).collect();
            let (_, before_last) = told.opinions.split_last().unwrap();
            let ended = told.last();
            for pair in places.windows(2) {
                let at_end = pair[1] + 1 == ended.final_tokens;
                assert!(pair[1] - pair[0] >= interval || at_end, "{places:?} with {interval}");
            }
            for (opinion, next) in before_last.iter().zip(&told.opinions[1..]) {
                assert_eq!(opinion.outcome, OpinionOutcome::Lifted);
                assert!(next.first_token > opinion.confirming_token, "{opinion:?} and {next:?}");
            }
            for opinion in &told.opinions {
                assert_eq!(said(opinion).prompt_ids, own(&second, answer, opinion).prompt_ids);
            }
        }
    }
    let error = Policy::from_toml("thinking.second_opinion.interval_tokens = 0").unwrap_err().to_string();
    assert!(error.contains("policy.thinking.second_opinion.interval_tokens"), "{error}");
    assert_eq!(Policy::default().answer.second_opinion.interval_tokens, 32);
}

/// A violation that is not asked about stops at once, before what waits for an opinion.
#[test]
fn what_waits_is_not_shown_where_a_violation_stands() {
    let (guard, _) = guards();
    let toml = "answer.second_opinion = { uncertain = { at = 0.02 }, interval_tokens = 100000 }";
    let told = judged(&mut stream(&guard, toml), TURNS, 3);
    let alone = judged(&mut stream(&guard, ""), TURNS, 3);
    let (violation, expected) = (told.last().violation.as_ref().unwrap(), alone.last().violation.as_ref().unwrap());
    assert_eq!(violation, expected);
    let [cleared] = &told.opinions[..] else { panic!("{:?}", outcomes(&told.opinions)) };
    assert_eq!(cleared.outcome, OpinionOutcome::Cleared);
    assert!(told.horizon < violation.bytes.start && told.horizon >= cleared.bytes.end, "{}", told.horizon);
}

/// A report on the violation that stops is not kept back.
#[test]
fn a_stop_is_reported_at_any_distance() {
    let (guard, _) = guards();
    let report = "answer.second_opinion = { violation = 'report', uncertain = { at = 0.02, word = 'report' } }";
    let told = judged(&mut stream(&guard, report), TURNS, 3);
    let last = told.opinions.last().unwrap();
    assert_eq!((last.trigger, last.outcome), (OpinionTrigger::Violation, OpinionOutcome::Reported));
    assert_eq!(last.bytes, told.last().violation.as_ref().unwrap().bytes);
}

/// Without any file.
#[test]
fn the_built_in_guard_gives_opinions() {
    let toml = "[second_opinion]\nbuilt_in = 'nano-gen'\ncache_mib = 16\n[policy]\n";
    let guard = Guard::nano(&Config::from_toml(&format!("{toml}{LIFT}")).unwrap()).unwrap();
    assert_eq!(guard.info().second_opinion.as_deref(), Some("(built in)"));
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user(ASK)]).unwrap();
    let told = judged(&mut stream, TURNS, 40);
    let nano_gen = Guard::nano_gen(&gen_config()).unwrap();
    for opinion in &told.opinions {
        assert_eq!(said(opinion).risk_probabilities, own(&nano_gen, TURNS, opinion).risk_probabilities);
    }
    assert!(!told.opinions.is_empty());
    for (wrong, named) in [
        ("second_opinion.cache_mib = 16", "no guard"),
        ("second_opinion = { built_in = 'nano-gen', bundle = 'x' }", "two guards"),
        ("second_opinion.built_in = 'nano'", "nano-gen"),
    ] {
        let error = Config::from_toml(wrong).unwrap_err().to_string();
        assert!(error.contains("second_opinion") && error.contains(named), "{error}");
    }
}

#[test]
fn a_configuration_names_it() {
    let toml = |bundle: &str| format!("[second_opinion]\nbundle = {bundle:?}\ncache_mib = 16\n[policy]\n{LIFT}");
    let path = gen_bundle("trained-bf16", "int8").display().to_string();
    let guard = Guard::nano(&Config::from_toml(&toml(&path)).unwrap()).unwrap();
    assert_eq!(guard.info().second_opinion.as_deref(), Some(&*path));
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user(ASK)]).unwrap();
    let told = judged(&mut stream, TURNS, 40);
    let (by_hand, _) = guards();
    assert_eq!(told.opinions, judged(&mut self::stream(&by_hand, LIFT), TURNS, 40).opinions);
    assert!(guard.second_opinion().unwrap().stats().steps > 0);
    let refused = |config: Config| match Guard::nano(&config) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("opened"),
    };
    let of_stream = bundle("grouped-bf16", "int8").display().to_string();
    let error = refused(Config::from_toml(&toml(&of_stream)).unwrap());
    assert!(error.contains("second_opinion.bundle") && error.contains("variant stream"), "{error}");
    let error = refused(Config::from_toml(&toml("/nowhere")).unwrap());
    assert!(error.contains("/nowhere"), "{error}");
    let error = Config::from_toml("[second_opinion]\nbundle = 'x'\ncache_mib = 99999999").unwrap_err().to_string();
    assert!(error.contains("second_opinion.cache_mib"), "{error}");
}

#[test]
fn guards_of_the_wrong_kind_are_refused() {
    let (guard, second) = guards();
    let alone = Guard::nano(&Config::default()).unwrap();
    for toml in [LIFT, "thinking.second_opinion.uncertain = { at = 0.5 }"] {
        let error = alone.stream_with(policy(toml)).unwrap_err();
        let Error::Config { field, .. } = &error else { panic!("{error}") };
        assert!(field.ends_with("second_opinion"), "{error}");
    }
    assert!(matches!(guard.with_second_opinion(&alone), Err(Error::Config { .. })));
    assert!(matches!(second.with_second_opinion(&second), Err(Error::Config { .. })));
    let own = Config {
        second_opinion: Some(SecondOpinionConfig {
            bundle: Some(gen_bundle("trained-bf16", "int8")),
            cache_mib: 16,
            ..SecondOpinionConfig::default()
        }),
        ..gen_config()
    };
    let error = Guard::open_with(gen_bundle("tied-bf16", "int8"), &own).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");
    assert_eq!((alone.info().second_opinion.as_ref(), alone.second_opinion().is_none()), (None, true));
}

/// Texts that the guards differ about, in pieces, cut back and gone on with: what comes of them is what comes of the text that
/// is left.
#[test]
fn what_is_cut_back_leaves_nothing() {
    const PARTS: &[&str] = &[
        "Mop the floor. ",
        "Take a knife. ",
        "Take the explosives, build a bomb. ",
        "Wash the dishes 🍞 and the windows. ",
        "<think>",
        "</think>\n\n",
        "I cannot help with that. ",
        "Put it under the car of your neighbour. ",
    ];
    let config = "[second_opinion]\nbuilt_in = 'nano-gen'\ncache_mib = 32";
    let guard = Guard::nano(&Config::from_toml(config).unwrap()).unwrap();
    let both = |rules: &str| format!("answer = {{ {rules} }}\nthinking = {{ {rules} }}");
    let policies = [
        both("second_opinion = { violation = 'lift', interval_tokens = 4 }"),
        both("second_opinion = { violation = 'lift', uncertain = { at = 0.02 } }"),
        both(
            "debounce = 'eval', second_opinion = { violation = 'report', uncertain = { at = 0.05 }, interval_tokens = 6 }",
        ),
        both("mode = { custom = { unsafe = { action = 'flag' } } }, second_opinion = { violation = 'lift' }"),
        both(
            "debounce = { window = { hits = 3, of = 6 } }, second_opinion = { uncertain = { at = 0.01 }, interval_tokens = 9 }",
        ),
    ];
    let mut random = SmallRng::seed_from_u64(12);
    let (mut asked, mut cut) = (0, 0);
    for round in 0..60 {
        let toml = &policies[round % policies.len()];
        let (mut edited, mut text) = (stream(&guard, toml), String::new());
        let mut shown = 0;
        for _ in 0..random.random_range(2..7) {
            if !text.is_empty() && random.random_range(0..3) == 0 {
                text.truncate(text.floor_char_boundary(random.random_range(0..=text.len())));
                shown = edited.truncate(text.len()).unwrap().horizon;
                cut += 1;
                continue;
            }
            let part = PARTS[random.random_range(0..PARTS.len())];
            for piece in part.as_bytes().chunks(random.random_range(1..12)) {
                let update = edited.push_text(piece).unwrap();
                assert!(update.horizon >= shown, "{toml}: {text:?}");
                asked += update.opinions.len();
                shown = update.horizon;
            }
            text.push_str(part);
        }
        println!("{text:?} with {toml}");
        let mut fresh = stream(&guard, toml);
        let pushed = (!text.is_empty()).then(|| fresh.push_text(&text).unwrap());
        if let Some(pushed) = pushed {
            let mut fork = edited.fork().unwrap();
            let kept = fork.truncate(text.len()).unwrap();
            assert_eq!((kept.horizon, &kept.violation), (pushed.horizon, &pushed.violation));
        }
        let (ended, expected) = (edited.finish().unwrap(), fresh.finish().unwrap());
        assert_eq!((ended.decision, ended.horizon), (expected.decision, expected.horizon));
        assert_eq!((&ended.violation, &ended.opinions), (&expected.violation, &expected.opinions));
        assert_eq!(ended.flags, expected.flags);
        // An end that is taken back, and the rest of the answer.
        let back = edited.truncate(text.len()).unwrap();
        assert!(back.horizon <= ended.horizon);
        let again = edited.finish().unwrap();
        assert_eq!((again.decision, again.horizon), (expected.decision, expected.horizon));
    }
    assert!(asked > 30 && cut > 20, "{asked} opinions, cut back {cut} times");
}
