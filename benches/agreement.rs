//! What coarser weights, a coarser cache and coarser activations do to verdicts: `cargo bench --bench agreement -- FILE
//! BUNDLE...`. FILE has conversations as `qwenguard moderate` takes them. Every bundle judges them with an fp32 and with an int8 cache, and with
//! both settings of `runtime.activations`; its verdicts are compared with those of the first bundle with an fp32 cache.

use std::{fs, path::Path};

use qwenguard::{Activations, CachePrecision, Config, Decision, Guard, Message, Risk, Verdict};
use serde::Deserialize;

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Message>,
}

/// What a guard says about a conversation: the prompt, then each token of the answer.
struct Judgement {
    verdicts: Vec<Verdict>,
    stopped: bool,
}

fn judge(guard: &Guard, conversation: &Conversation) -> Judgement {
    let (answer, prompt) = match conversation.messages.split_last() {
        Some((last, before)) if last.role == "assistant" => (last.content.as_str(), before),
        _ => ("", &conversation.messages[..]),
    };
    let mut stream = guard.stream().unwrap();
    let check = stream.prompt(prompt).unwrap();
    let mut verdicts = vec![check.verdict];
    let pushed = stream.push_text(answer.as_bytes()).unwrap();
    let end = stream.finish().unwrap();
    for token in pushed.tokens.into_iter().chain(end.tokens) {
        // It takes the place of a provisional one.
        verdicts.truncate(1 + token.index);
        verdicts.push(token.verdict);
    }
    Judgement { verdicts, stopped: check.decision == Decision::Stop || end.decision == Decision::Stop }
}

fn open(bundle: &str, precision: CachePrecision, activations: Activations) -> Guard {
    let mut config = Config::default();
    config.cache.precision = precision;
    config.cache.mib = 256;
    config.runtime.activations = activations;
    // Verdicts that are further off than it allows are to be seen here.
    config.self_test = false;
    Guard::open_with(bundle, &config).unwrap()
}

/// Largest difference of a level's probability.
fn difference(a: &Verdict, b: &Verdict) -> f32 {
    let levels = [Risk::Safe, Risk::Controversial, Risk::Unsafe];
    levels.map(|risk| (a.probability(risk) - b.probability(risk)).abs()).into_iter().fold(0.0, f32::max)
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [file, bundles @ ..] = &arguments[..] else { panic!("expected FILE BUNDLE...") };
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let conversations: Vec<Conversation> = text.lines().map(|line| serde_json::from_str(line).expect(file)).collect();
    let all = |guard: &Guard| -> Vec<Judgement> { conversations.iter().map(|c| judge(guard, c)).collect() };
    let exact = all(&open(bundles.first().expect("a bundle"), CachePrecision::Fp32, Activations::Exact));
    let verdicts: usize = exact.iter().map(|judgement| judgement.verdicts.len()).sum();
    println!("{} conversations, {verdicts} verdicts, compared with the first bundle and an fp32 cache", exact.len());
    println!();
    println!(
        "| bundle | cache | activations | equal level | equal level and category | largest difference of a level | equal decision |"
    );
    println!("|---|---|---|---|---|---|---|");
    let caches = [("fp32", CachePrecision::Fp32), ("int8", CachePrecision::Int8)];
    let settings = [Activations::Exact, Activations::Fast]
        .into_iter()
        .flat_map(|activations| caches.map(|(cache, precision)| (cache, precision, activations)));
    for bundle in bundles {
        let name = Path::new(bundle).file_name().map_or(bundle.as_str(), |name| name.to_str().expect("UTF-8"));
        for (cache, precision, activations) in settings.clone() {
            let found = all(&open(bundle, precision, activations));
            let pairs = || exact.iter().zip(&found).flat_map(|(a, b)| a.verdicts.iter().zip(&b.verdicts));
            let share = |count: usize, of: usize| 100.0 * count as f64 / of as f64;
            let levels = pairs().filter(|(a, b)| a.risk() == b.risk()).count();
            let labels = pairs().filter(|(a, b)| a.risk() == b.risk() && a.category() == b.category()).count();
            let largest = pairs().map(|(a, b)| difference(a, b)).fold(0.0, f32::max);
            let decisions = exact.iter().zip(&found).filter(|(a, b)| a.stopped == b.stopped).count();
            println!(
                "| {name} | {cache} | {} | {:.2} % | {:.2} % | {largest:.4} | {:.1} % |",
                if activations == Activations::Fast { "fast" } else { "exact" },
                share(levels, verdicts),
                share(labels, verdicts),
                share(decisions, exact.len())
            );
        }
    }
}
